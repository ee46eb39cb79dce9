//! The section `[notify]`: who is told when a mirror is lost or comes back.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::value::web_address;

/// The section `[notify]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Notify {
    /// A program with its arguments that gets each notice on its standard input.
    pub command: Vec<String>,
    /// Where each notice is posted.
    #[serde(deserialize_with = "web_address")]
    pub webhook: Option<Url>,
    /// Files with further certificate authorities, for closed networks.
    pub authorities: Vec<PathBuf>,
}
