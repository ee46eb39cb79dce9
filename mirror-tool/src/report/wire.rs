//! What is sent to a front end, and what it answers.

use jiff::Timestamp;
use oci_mirror::digest::Digest;
use oci_mirror::reference::RepoName;
use serde::{Deserialize, Serialize};

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// What a front end answers that needs to be told blob by blob.
pub(super) const WANTED: &str = "wanted";

/// What a mirror says of its tree.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    pub(super) version: u32,
    pub(super) tool: &'a str,
    pub(super) serial: u64,
    pub(super) state: Digest,
    pub(super) list: Option<Digest>,
    /// None: all.
    pub(super) repositories: Option<&'a [RepoName]>,
    pub(super) blobs: Option<Blobs>,
    pub(super) verified: Option<&'a Verified>,
}

/// Digests, as their bytes one after the other, in base64.
#[derive(Debug, Serialize)]
pub(super) struct Blobs {
    pub(super) sha256: String,
    pub(super) sha512: String,
}

/// What a verification of the whole tree has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Verified {
    pub(super) at: Timestamp,
    pub(super) damaged: Vec<Digest>,
}

/// What a front end has made of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Recorded {
    pub(super) presence: String,
    pub(super) crawl: String,
}

/// Why a front end has made nothing of it.
#[derive(Debug, Deserialize)]
pub(super) struct Refused {
    pub(super) reason: String,
}
