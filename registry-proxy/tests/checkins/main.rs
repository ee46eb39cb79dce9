//! Mirrors that check in at a real front end, and what is believed of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with the tests of the crawler")]
#[path = "../bench/mod.rs"]
mod bench;
#[expect(dead_code, reason = "shared with the tests of the crawler")]
#[path = "../hostile_mirror/mod.rs"]
mod hostile_mirror;

mod believed;
mod crawls;
mod forgotten;
mod hall;
mod mirror_manager;
mod refused;
