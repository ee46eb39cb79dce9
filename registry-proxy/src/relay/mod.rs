//! Bytes that go through here: for clients that cannot go on with a broken transfer.

pub mod rule;

pub use rule::ClientRule;
