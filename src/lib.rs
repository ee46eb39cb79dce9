//! What both programs of oci-mirror share.
//!
//! The vocabulary is pure: [`digest`], [`mod@reference`], [`media_type`], [`platform`], [`descriptor`],
//! [`manifest`], [`range`], [`accept`], [`age`], [`repo_glob`] and [`size`] turn text and bytes from outside into types once,
//! at the edge. [`tree`] is the format on disk, read and written. [`registry`] speaks to a source
//! registry, no faster than a [`bucket`] lets it. [`http`] is the server both programs run, with the file
//! streaming behind a blob. [`process_group`] runs other programs and leaves nothing of them behind.

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
pub mod process_group;
pub mod range;
pub mod reference;
pub mod registry;
pub mod repo_glob;
pub mod size;
pub mod tree;
