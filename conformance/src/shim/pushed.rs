//! What the docker-registry has been given, as far as the tree must follow.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What has been pushed to a repository and not been deleted.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// By digest: the digests each manifest refers to.
    pub(super) manifests: BTreeMap<String, BTreeSet<String>>,
    /// Which of them were pushed by digest.
    pub(super) by_digest: BTreeSet<String>,
    pub(super) tags: BTreeMap<String, String>,
    /// The manifests that the shim has made, by the blob they refer to.
    pub(super) holders: BTreeMap<String, String>,
}

impl Pushed {
    /// Takes away a tag, or a manifest with all its tags.
    pub(super) fn forget(&mut self, reference: &str) {
        self.tags
            .retain(|tag, digest| tag != reference && digest != reference);
        self.by_digest.remove(reference);
        self.manifests.remove(reference);
    }
}

/// What has happened since the tree was last brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Added,
    Removed,
}

/// The digests a manifest names, wherever it does.
pub(super) fn digests(manifest: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<Value> = serde_json::from_slice(manifest).into_iter().collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(values) => open.extend(values),
            Value::Object(mut fields) => {
                if let Some(Value::String(digest)) = fields.remove("digest") {
                    found.insert(digest);
                }
                open.extend(fields.into_iter().map(|(_, value)| value));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_digest_of_a_manifest() {
        let manifest =
            br#"{"config":{"digest":"a"},"layers":[{"digest":"b"},{"x":{"digest":"c"}}]}"#;
        assert_eq!(
            digests(manifest).into_iter().collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert!(digests(b"nonsense").is_empty());
    }
}
