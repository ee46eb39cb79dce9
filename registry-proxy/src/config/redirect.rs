//! The section `[redirect]`: when and how blobs are redirected.

use std::time::Duration;

use oci_mirror::size::ByteSize;
use serde::Deserialize;

use super::value::short_duration;

/// The section `[redirect]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Redirect {
    /// Blobs smaller than this are sent from the tree: a redirect would cost more than the bytes.
    pub min_size: ByteSize,
    /// How many mirrors to name before stopping to look farther away.
    pub min_mirrors: usize,
    /// How long a second request for the same blob is taken for a retry; nothing: it never is.
    #[serde(deserialize_with = "short_duration")]
    pub retry_window: Duration,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            min_size: ByteSize(64 << 10),
            min_mirrors: 5,
            retry_window: Duration::from_secs(120),
        }
    }
}
