//! `repos/<name>/index.json`: the entry document of an OCI image layout, one descriptor per tag.
//!
//! See the [image layout](https://github.com/opencontainers/image-spec/blob/main/image-layout.md).
//! We own this document (no digest names it), so it is written in one canonical order: an unchanged
//! repository gives unchanged bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, REF_NAME, null_as_default};
use crate::digest::Digest;
use crate::media_type::MediaType;
use crate::reference::Tag;

/// The content of every `oci-layout` file.
pub const OCI_LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}\n";

/// Largest `index.json` read, in bytes: room for about 200,000 tags.
pub const MAX_BYTES: u64 = 64 << 20;

/// The entries of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoIndex {
    schema_version: SchemaVersion,
    #[serde(default = "oci_index")]
    media_type: MediaType,
    manifests: Vec<Descriptor>,
    /// Notes about the repository; those of other tools are kept.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    annotations: BTreeMap<String, String>,
}

/// The annotation of an index whose source keeps referrers under tags, since it has no API for them.
const REFERRERS: &str = "io.oci-mirror.referrers";

/// Its value.
const BY_TAG: &str = "by-tag";

impl Default for RepoIndex {
    fn default() -> Self {
        Self {
            schema_version: SchemaVersion,
            media_type: oci_index(),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }
}

impl RepoIndex {
    /// Parses the content of an `index.json`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// All entries: the tagged ones by tag, then the untagged by digest, when we wrote it.
    pub fn entries(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// The entries that carry a tag of the specification's grammar.
    ///
    /// Layouts written by other tools may carry free-form names there; those are no tags.
    pub fn tags(&self) -> impl Iterator<Item = (Tag, &Descriptor)> {
        self.manifests
            .iter()
            .filter_map(|entry| Some((entry.ref_name()?.parse().ok()?, entry)))
    }

    /// Points `tag` at `target`, or enters `target` without a tag.
    ///
    /// An untagged entry keeps alive what no tag reaches: an export by digest, a referrer.
    pub fn set(&mut self, tag: Option<&Tag>, target: Descriptor) {
        self.set_all([(tag, target)]);
    }

    /// The same for many at once, which costs hardly more than one; of two for one tag, the later holds.
    pub fn set_all<'a>(
        &mut self,
        targets: impl IntoIterator<Item = (Option<&'a Tag>, Descriptor)>,
    ) {
        let mut tagged: BTreeMap<&str, Descriptor> = BTreeMap::new();
        // A tag that points there now may move; what was asked for by digest is to stay.
        let untagged = self.manifests.iter().filter(|it| it.ref_name().is_none());
        let mut kept: BTreeSet<Digest> = untagged.map(|entry| entry.digest).collect();
        let mut added = Vec::new();
        for (tag, mut target) in targets {
            match tag {
                Some(tag) => {
                    target
                        .annotations
                        .insert(REF_NAME.to_owned(), tag.to_string());
                    tagged.insert(tag.as_str(), target);
                }
                None if kept.insert(target.digest) => {
                    target.annotations.remove(REF_NAME);
                    added.push(target);
                }
                None => {}
            }
        }
        self.manifests.retain(|entry| {
            entry
                .ref_name()
                .is_none_or(|name| !tagged.contains_key(name))
        });
        self.manifests.extend(tagged.into_values());
        self.manifests.append(&mut added);
        self.manifests.sort_by(|a, b| order(a).cmp(&order(b)));
    }

    /// Removes `tag`; says whether it was there.
    pub fn remove(&mut self, tag: &Tag) -> bool {
        let before = self.manifests.len();
        self.manifests
            .retain(|entry| entry.ref_name() != Some(tag.as_str()));
        self.manifests.len() < before
    }

    /// Removes every entry that is not to be kept; returns what was removed.
    pub fn retain(&mut self, mut keep: impl FnMut(&Descriptor) -> bool) -> Vec<Descriptor> {
        self.manifests
            .extract_if(.., |entry| !keep(entry))
            .collect()
    }

    /// Whether the source of the repository was found to have no referrers API, so that what belongs to
    /// its manifests is found by tags named after them.
    pub fn has_tag_referrers(&self) -> bool {
        self.annotations
            .get(REFERRERS)
            .is_some_and(|how| how == BY_TAG)
    }

    /// Notes how the source of the repository keeps referrers.
    pub fn set_tag_referrers(&mut self, by_tag: bool) {
        if by_tag {
            self.annotations
                .insert(REFERRERS.to_owned(), BY_TAG.to_owned());
        } else {
            self.annotations.remove(REFERRERS);
        }
    }

    /// What `tag` points at.
    pub fn target(&self, tag: &Tag) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .find(|entry| entry.ref_name() == Some(tag.as_str()))
    }
}

/// Tagged entries first, by tag.
fn order(entry: &Descriptor) -> (bool, Option<&str>, Digest) {
    (entry.ref_name().is_none(), entry.ref_name(), entry.digest)
}

fn oci_index() -> MediaType {
    MediaType::OCI_INDEX
}

/// The number 2, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
struct SchemaVersion;

impl TryFrom<u64> for SchemaVersion {
    type Error = &'static str;

    fn try_from(version: u64) -> Result<Self, &'static str> {
        if version == 2 {
            Ok(Self)
        } else {
            Err("schemaVersion is not 2")
        }
    }
}

impl From<SchemaVersion> for u64 {
    fn from(_: SchemaVersion) -> Self {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn descriptor(content: &str) -> Descriptor {
        let digest = Algorithm::Sha256.digest(content.as_bytes());
        Descriptor::new(MediaType::OCI_MANIFEST, digest, content.len() as u64)
    }

    #[test]
    fn order_of_setting_does_not_show() {
        let (a, b): (Tag, Tag) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut one = RepoIndex::default();
        one.set(Some(&b), descriptor("2"));
        one.set(None, descriptor("3"));
        one.set(Some(&a), descriptor("1"));
        let mut other = RepoIndex::default();
        other.set(Some(&a), descriptor("0"));
        other.set(Some(&a), descriptor("1"));
        other.set(None, descriptor("3"));
        other.set(None, descriptor("3"));
        other.set(Some(&b), descriptor("2"));
        assert_eq!(one.to_bytes(), other.to_bytes());
        assert_eq!(RepoIndex::from_bytes(&one.to_bytes()).unwrap(), one);
    }

    #[test]
    fn the_oci_spec_crate_reads_what_we_write() {
        let mut index = RepoIndex::default();
        index.set(Some(&"1.0".parse().unwrap()), descriptor("1"));
        let read = oci_spec::image::ImageIndex::from_reader(&index.to_bytes()[..]).unwrap();
        assert_eq!(read.manifests().len(), 1);
    }

    #[test]
    fn a_moved_tag_leaves_nothing_behind() {
        let tag: Tag = "latest".parse().unwrap();
        let mut index = RepoIndex::default();
        index.set(Some(&tag), descriptor("old"));
        index.set(Some(&tag), descriptor("new"));
        assert_eq!(index.entries().len(), 1);
        assert_eq!(index.target(&tag).unwrap().digest, descriptor("new").digest);
        assert!(index.remove(&tag) && !index.remove(&tag));
    }
}
