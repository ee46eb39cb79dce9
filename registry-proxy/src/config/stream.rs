//! The section `[stream]`: who gets the bytes through here, and from where.

use oci_mirror::size::ByteSize;
use serde::Deserialize;

use crate::relay::ClientRule;

/// The section `[stream]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Stream {
    /// Clients that cannot go on with a broken transfer.
    pub clients: Vec<ClientRule>,
    /// Where their bytes are taken from.
    pub from: From,
    /// Pieces of all of them that are being verified; beyond it, bytes are taken from the tree.
    pub memory: ByteSize,
}

/// Where bytes that go through here are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// The tree; mirrors only where it lacks the blob.
    #[default]
    Tree,
    /// Mirrors; the tree last.
    Mirrors,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            clients: Vec::new(),
            from: From::default(),
            memory: ByteSize(64 << 20),
        }
    }
}
