//! Tags that name a digest: what belongs to a manifest, in registries that know no referrers.
//!
//! The distribution specification's [fallback][spec] keeps the index of a manifest's referrers under
//! `sha256-<hex>`; cosign keeps signatures, attestations and SBOMs under the same with `.sig`, `.att`
//! and `.sbom`. Such a tag says nothing by itself. It is exported because, and only if, the manifest
//! it names is.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema

use std::fmt;

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::reference::Tag;

/// A tag of the form `sha256-<hex>` or `sha256-<hex>.<suffix>`; sha512 likewise.
///
/// ```
/// use mirror_tool::export::select::DigestTag;
/// let tag = format!("sha256-{}.sig", "0".repeat(64)).parse().unwrap();
/// let belongs = DigestTag::of(&tag).unwrap();
/// assert_eq!(belongs.suffix.as_deref(), Some("sig"));
/// assert_eq!(belongs.to_string(), tag.to_string());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DigestTag {
    /// The manifest it belongs to.
    pub digest: Digest,
    /// What stands behind the dot: `sig`, `att`, `sbom`; nothing for the index of referrers.
    pub suffix: Option<Box<str>>,
}

impl DigestTag {
    /// Reads a tag; `None` if it is an ordinary one.
    pub fn of(tag: &Tag) -> Option<Self> {
        Self::parse(tag.as_str())
    }

    /// The same for a name that may be no tag, such as that of an entry of a layout.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (algorithm, rest) = name.split_once('-')?;
        let (hex, suffix) = match rest.split_once('.') {
            Some((_, "")) => return None,
            Some((hex, suffix)) => (hex, Some(suffix.into())),
            None => (rest, None),
        };
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.name() == algorithm)?;
        // Most tags are ordinary; making an error for each would cost more than looking.
        if hex.len() != algorithm.hex_len() {
            return None;
        }
        let digest = Digest::from_parts(algorithm, hex).ok()?;
        Some(Self { digest, suffix })
    }
}

impl fmt::Display for DigestTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.digest.algorithm(), self.digest.hex())?;
        match &self.suffix {
            Some(suffix) => write!(f, ".{suffix}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_digests_make_a_digest_tag() {
        let hex = "0123456789abcdef".repeat(4);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        for (name, expected) in [
            (format!("sha256-{hex}"), Some(None)),
            (format!("sha256-{hex}.sig"), Some(Some("sig"))),
            (format!("sha256-{hex}.a.b"), Some(Some("a.b"))),
            (format!("sha256-{hex}."), None),
            (format!("sha256-{hex}-sig"), None),
            (format!("sha256-{}", &hex[1..]), None),
            (format!("sha256-{}", hex.to_uppercase()), None),
            (format!("sha1-{hex}"), None),
            (format!("sha512-{hex}"), None),
            (format!("sha256:{hex}"), None),
            ("sha256-".to_owned(), None),
            ("latest".to_owned(), None),
        ] {
            let expected = expected.map(|suffix: Option<&str>| DigestTag {
                digest,
                suffix: suffix.map(Into::into),
            });
            assert_eq!(DigestTag::parse(&name), expected, "{name}");
        }
    }

    #[test]
    fn a_sha512_tag_is_cut_to_what_a_tag_may_hold() {
        // 7 + 128 characters are no tag; what registries would keep cannot be taken for a digest.
        let name = format!("sha512-{}", "0".repeat(128));
        assert!(name.parse::<Tag>().is_err());
        assert!(DigestTag::parse(&name[..128]).is_none());
        assert!(DigestTag::parse(&name).is_some());
    }

    proptest! {
        #[test]
        fn a_digest_tag_is_shown_as_it_was_written(name in "sha256-[0-9a-f]{64}(\\.[a-z.]{1,5})?|.{0,80}") {
            if let Some(tag) = DigestTag::parse(&name) {
                prop_assert_eq!(tag.to_string(), name);
            }
        }
    }
}
