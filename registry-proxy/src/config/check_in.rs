//! The section `[check-in]`: what mirrors say of themselves.

use std::time::Duration;

use serde::Deserialize;

use super::value::duration;

/// The section `[check-in]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CheckIn {
    /// What a private mirror says that it holds counts for so long.
    #[serde(deserialize_with = "duration")]
    pub expire: Duration,
    /// Whether mirrors may check in as with MirrorManager.
    pub xml_rpc: bool,
}

impl Default for CheckIn {
    fn default() -> Self {
        Self {
            expire: Duration::from_secs(3 * 24 * 3600),
            xml_rpc: true,
        }
    }
}
