//! The crawler: what is at the mirrors, and are the bytes right?
//!
//! [`check`] asks a mirror for one blob, [`visit`] goes through all a host should carry, [`once`] through
//! all hosts, [`schedule`] again and again. [`guard`] keeps the crawler from being made to talk to the
//! inside of our own network.
//!
//! Verdicts are *read* (all bytes seen and right), *confirmed* (there, right length, read not long ago),
//! *missing*, *damaged* and *unknown*. What could not be told is never taken for missing, and never for
//! verified either.

pub mod check;
pub mod cli;
pub mod guard;
pub mod once;
pub mod schedule;
pub mod visit;

pub use cli::{Arguments, run};
pub use once::{Report, crawl};
pub use schedule::Schedule;
pub use visit::{Depth, Options};
