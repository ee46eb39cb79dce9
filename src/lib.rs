//! What both programs of oci-mirror share.
//!
//! The vocabulary is pure: [`digest`], [`mod@reference`], [`media_type`], [`platform`], [`descriptor`],
//! [`manifest`], [`range`], [`accept`], [`age`] and [`size`] turn text and bytes from outside into types once,
//! at the edge. [`tree`] is the format on disk, read and written. [`registry`] speaks to a source
//! registry, no faster than a [`bucket`] lets it. [`http`] is the server both programs run, with the file
//! streaming behind a blob.

pub mod accept;
pub mod age;
pub mod bucket;
pub mod descriptor;
pub mod digest;
pub mod error_chain;
pub mod excerpt;
pub mod http;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod range;
pub mod reference;
pub mod registry;
pub mod size;
pub mod tree;
