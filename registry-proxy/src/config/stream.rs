//! The section `[stream]`: who gets the bytes through here, and from where.

use oci_mirror::size::ByteSize;
use oci_mirror::tree::pieces::length_for;
use serde::{Deserialize, Deserializer};

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
    #[serde(deserialize_with = "memory")]
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

/// Room for one body at least, whatever its size: else the largest blobs would never come from a mirror, and nobody
/// would be told.
fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let memory = ByteSize::deserialize(deserializer)?;
    // One piece goes out while the next one comes in.
    let least = ByteSize(2 * length_for(u64::MAX).unwrap_or_default());
    if memory < least {
        return Err(serde::de::Error::custom(format!(
            "it must be at least {least}, for two pieces of the largest blobs"
        )));
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn too_little_memory_for_one_body_is_refused_with_the_reason() {
        let parse = |memory| Config::parse(&format!("[stream]\nmemory = \"{memory}\"\n"));
        assert_eq!(parse("32MiB").unwrap().stream.memory.0, 32 << 20);
        for memory in ["31MiB", "0B"] {
            let error = parse(memory).unwrap_err().to_string();
            assert!(error.contains("two pieces of the largest blobs"), "{error}");
            assert!(error.contains("32"), "{error}");
        }
    }
}
