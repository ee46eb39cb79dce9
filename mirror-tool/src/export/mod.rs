//! Export: from registries and image layouts into a tree.
//!
//! [`source`] is where images come from, `plan` which of them are wanted, `fetch` finds what an
//! image reaches, `transfer` brings blobs, each once, and `publish` makes finished images
//! visible, as many as have queued up with one set of syncs. [`report`] is what a run says at its
//! end, [`progress`] what it says meanwhile.
//!
//! One bad image never stops the others. What does stop the run is a disk that is full and the
//! signal to stop; either leaves a tree in which every visible tag is complete.

pub mod progress;
pub mod report;
pub mod source;

mod error;
mod fetch;
pub(crate) mod layout;
mod plan;
mod publish;
mod run;
mod sink;
pub(crate) mod transfer;

pub use error::Error;
pub use plan::Filter;
pub use report::Report;
pub use run::{MAX_TRANSFERS, Options, run};
