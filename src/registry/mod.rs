//! A source registry, asked over the wire of the [distribution specification][spec].
//!
//! [`Registry`] answers five questions: which tags, what does a reference point at now, the manifest
//! behind it, what refers to a manifest, and the bytes of a blob. Answers come as our types, bounded and
//! checked; [`error`] keeps what decides the next step, [`retry`] is that decision as a value,
//! [`rate`] is how often we may ask at all. [`hub`] knows the one registry whose name is not its host,
//! [`mirror`] what to do without one: a copy of a tree has blobs too.
//!
//! Logging in follows the 401 of the very request that met it: [`challenge`] reads what the registry
//! wants to see, [`credentials`] finds the login other tools have stored. All of it is ours rather than
//! the `oci-client` crate's, because that one pings `/v2/` first and so never sees a challenge that only
//! the manifest has, reads manifests, tag lists and the token service's answers unbounded, and knows no
//! identity tokens.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md

pub mod authorities;
pub mod blob;
pub mod challenge;
pub mod client;
pub mod credentials;
pub mod error;
pub mod hub;
pub mod manifests;
pub mod mirror;
pub mod rate;
pub mod retry;

mod envelope;
pub mod fields;
mod link;
mod login;
mod pages;
mod referrers;
mod request;
mod tags;
mod token;
mod traffic;
mod transport;

pub use client::Registry;
pub use error::Error;
pub use mirror::MirrorUrl;
