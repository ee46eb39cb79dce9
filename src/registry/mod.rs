//! A source registry, asked over the wire of the [distribution specification][spec].
//!
//! [`Registry`] has four questions: which tags, what does a reference point at
//! now, the manifest behind it, and the bytes of a blob. Answers come as our types, bounded and
//! checked; [`error`] keeps what decides the next step, [`retry`] is that decision as a value, and
//! [`credentials`] finds the login other tools have stored. [`hub`] knows the one registry whose
//! name is not its host, [`mirror`] what to do without one: a copy of a tree has blobs too.
//!
//! Logging in is left to the `oci-client` crate: it reads the challenge and talks to the token
//! service. The requests themselves are ours, because that client pings `/v2/` before each
//! anonymous request, reads manifests and tag lists unbounded, keeps `Retry-After`, status and
//! `Content-Type` from its caller, and hashes every blob a second time.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md

pub mod client;
pub mod credentials;
pub mod error;
pub mod hub;
pub mod mirror;
pub mod retry;

mod fields;
mod link;
mod login;

pub use client::Registry;
pub use error::Error;
pub use mirror::MirrorUrl;
