//! The crawler: what is at the mirrors, and are the bytes right?
//!
//! [`check`] asks a mirror for one blob, [`sample`] reads bytes of some, [`probe`] tries what else clients do;
//! [`visit`] goes through all a host should carry, as [`plan`], [`listing`] and [`state`] say; [`once`] through
//! all hosts, [`schedule`] again and again. All requests go over the [`wire`], at a [`pace`] and under
//! an [`identity`]. [`guard`] keeps the crawler from being made to talk to the inside of our own network.
//!
//! Verdicts are *read* (all bytes seen and right), *sampled* (a piece of them), *confirmed* (there again, of what
//! was read before), *present* (there and never read), *missing*, *damaged* and *unknown*. Verified is what is
//! one of the first three. What could not be told is never taken for missing, and never for verified either.

mod chance;
pub mod check;
pub mod cli;
mod doubt;
pub mod end;
mod findings;
pub mod guard;
pub mod identity;
pub mod listing;
pub mod odds;
pub mod once;
pub mod pace;
pub mod plan;
pub mod probe;
pub mod sample;
pub mod schedule;
pub mod state;
pub mod turn;
pub mod visit;
mod walk;
pub mod wire;

pub use cli::{Arguments, run};
pub use once::{Report, crawl};
pub use schedule::{Reconfigure, Schedule, Settings};
pub use visit::{Depth, Occasion, Options};
