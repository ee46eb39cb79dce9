//! `state.json`: what a tree is and how new it is. It is replaced last, so whoever sees a new
//! serial sees everything that belongs to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::path::{Module, TreePath};
use crate::digest::Digest;

/// The tree format this program writes and reads.
pub const FORMAT: u32 = 1;

/// Largest `state.json` read, in bytes; a real one has a few hundred.
pub const MAX_BYTES: u64 = 64 << 10;

/// The content of `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The format of the tree; readers refuse one they do not know.
    pub format: u32,
    /// Grows by at least one with every change of the tree, and never shrinks.
    pub serial: u64,
    /// When this state was written.
    pub created: Timestamp,
    /// The full file list that belongs to this state, once there is one.
    pub list: Option<ListRef>,
    /// What the tree holds.
    pub totals: Totals,
}

/// Names a file list and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRef {
    /// The module whose list it is; the state has the list's file name, at the root of the tree.
    #[serde(rename = "name", with = "list_name")]
    pub module: Module,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Repositories.
    pub repositories: u64,
    /// Tags over all repositories.
    pub tags: u64,
    /// Distinct blobs, manifests among them.
    pub blobs: u64,
    /// Bytes of all distinct blobs: what a mirror needs on disk, but for directory entries.
    pub bytes: u64,
}

/// A module, written as the name of its list.
mod list_name {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use super::{Module, TreePath};

    pub(super) fn serialize<S: Serializer>(module: &Module, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&TreePath::List(module.clone()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Module, D::Error> {
        match String::deserialize(from)?.parse() {
            Ok(TreePath::List(module)) => Ok(module),
            Ok(other) => Err(de::Error::custom(format!("{other} is not a file list"))),
            Err(error) => Err(de::Error::custom(error)),
        }
    }
}

impl State {
    /// Parses the content of a `state.json`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let state: Self = serde_json::from_slice(bytes).map_err(Error::Json)?;
        if state.format == FORMAT {
            Ok(state)
        } else {
            Err(Error::Format(state.format))
        }
    }

    /// The content of the file, one field a line.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// Why bytes are not a state we can use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Torn, or not JSON of this shape.
    #[error("state.json is not valid")]
    Json(#[source] serde_json::Error),
    /// A format this program does not know.
    #[error("the tree has format {0}; this program reads format {FORMAT}")]
    Format(u32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn state() -> State {
        State {
            format: FORMAT,
            serial: 7,
            created: Timestamp::UNIX_EPOCH,
            list: None,
            totals: Totals {
                repositories: 1,
                tags: 2,
                blobs: 3,
                bytes: 4,
            },
        }
    }

    #[test]
    fn round_trips() {
        assert_eq!(State::from_bytes(&state().to_bytes()).unwrap(), state());
        let list = ListRef {
            module: Module::default(),
            digest: Algorithm::Sha256.digest(b""),
        };
        let state = State {
            list: Some(list),
            ..state()
        };
        assert_eq!(State::from_bytes(&state.to_bytes()).unwrap(), state);
    }

    #[test]
    fn a_list_with_the_name_of_another_file_is_refused() {
        let text = String::from_utf8(state().to_bytes()).unwrap();
        let digest = Algorithm::Sha256.digest(b"");
        for (name, good) in [
            ("fullfiletimelist-fedora", true),
            ("state.json", false),
            ("../fullfiletimelist-a", false),
        ] {
            let list = format!(r#"{{"name":"{name}","digest":"{digest}"}}"#);
            let text = text.replace("null", &list);
            assert_eq!(State::from_bytes(text.as_bytes()).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn every_prefix_is_refused_as_torn() {
        let bytes = state().to_bytes();
        for length in 0..bytes.len() - 2 {
            assert!(State::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let bytes = State {
            format: 2,
            ..state()
        }
        .to_bytes();
        assert!(matches!(State::from_bytes(&bytes), Err(Error::Format(2))));
    }
}
