//! Export: from registries and image layouts into a tree.
//!
//! An [`Order`] is a source and what is wanted of it: [`select`] chooses among its tags, [`version`]
//! reads them as versions. `plan` makes images of orders, `work` brings each with what belongs to it
//! (`belongings`) unless it is `present`, `fetch` finds what an image reaches, `transfer` brings blobs,
//! each once, `publish` makes finished images visible, as many as have queued up with one set of syncs,
//! and `removal` takes away what has left its source. [`report`] is what a run says at its end,
//! [`progress`] what it says meanwhile.
//!
//! One bad image never stops the others. What does stop the run is a disk that is full and the
//! signal to stop; either leaves a tree in which every visible tag is complete.

pub mod config;
pub mod order;
pub mod progress;
pub mod report;
pub mod select;
pub mod source;
pub mod version;

mod age;
pub(crate) mod belongings;
mod error;
mod fetch;
pub(crate) mod layout;
mod plan;
mod present;
mod publish;
mod removal;
mod run;
mod sink;
pub(crate) mod transfer;
mod work;

pub use error::Error;
pub use order::Order;
pub use report::Report;
pub use run::{MAX_TRANSFERS, Options, run};
