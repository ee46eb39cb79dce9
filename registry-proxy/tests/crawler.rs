//! The crawler against a mirror that does what mirrors should not, with a real tree and database.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod hostile_mirror;
mod rounds;
mod verdicts;
mod visits;
