//! Tags that name a digest: what belongs to a manifest, in registries that know no referrers.
//!
//! The distribution specification's [fallback][spec] keeps the index of a manifest's referrers under
//! `sha256-<hex>`; cosign keeps signatures, attestations and SBOMs under the same with `.sig`, `.att`
//! and `.sbom`. Such a tag says nothing by itself. It is exported because, and only if, the manifest
//! it names is.
//!
//! A whole sha512 digest would be longer than a tag may be: the specification cuts what stands behind
//! the algorithm to 64 digits. A digest can therefore not be had back from its tag, and what belongs
//! together is found the other way round: a [`Subject`] is made of either.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema

use std::fmt;

use oci_mirror::digest::{Algorithm, Digest, Hex};
use oci_mirror::reference::Tag;

/// A tag of the form `sha256-<hex>` or `sha256-<hex>.<suffix>`; sha512 likewise, cut to 64 digits.
///
/// ```
/// use mirror_tool::export::select::{DigestTag, Subject};
/// use oci_mirror::digest::Algorithm;
/// let manifest = Algorithm::Sha256.digest(b"{}");
/// let fallback = Subject::from(&manifest);
/// let tag = format!("{fallback}.sig").parse().unwrap();
/// let signature = DigestTag::of(&tag).unwrap();
/// assert_eq!(signature.subject, fallback);
/// assert_eq!(signature.suffix.as_deref(), Some("sig"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DigestTag {
    /// The manifest it belongs to.
    pub subject: Subject,
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
        let (subject, suffix) = match name.split_once('.') {
            Some((_, "")) => return None,
            Some((subject, suffix)) => (subject, Some(suffix.into())),
            None => (name, None),
        };
        let subject = Subject::parse(subject)?;
        Some(Self { subject, suffix })
    }
}

impl fmt::Display for DigestTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suffix {
            Some(suffix) => write!(f, "{}.{suffix}", self.subject),
            None => self.subject.fmt(f),
        }
    }
}

/// The digest of a manifest as far as a tag can name it; shown, the tag of its referrers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    algorithm: Algorithm,
    /// The first 64 hexadecimal digits.
    start: [u8; 32],
}

impl Subject {
    fn parse(text: &str) -> Option<Self> {
        let (algorithm, hex) = text.split_once('-')?;
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.name() == algorithm)?;
        // Of a sha512 digest too, this is what is left of it.
        match Digest::from_parts(Algorithm::Sha256, hex) {
            Ok(Digest::Sha256(start)) => Some(Self { algorithm, start }),
            _ => None,
        }
    }
}

impl From<&Digest> for Subject {
    fn from(digest: &Digest) -> Self {
        let mut start = [0; 32];
        start.copy_from_slice(&digest.as_bytes()[..32]);
        Self {
            algorithm: digest.algorithm(),
            start,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.algorithm, Hex(&self.start))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_subjects_make_a_digest_tag() {
        let hex = "0123456789abcdef".repeat(4);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        for (name, expected) in [
            (format!("sha256-{hex}"), Some(None)),
            (format!("sha256-{hex}.sig"), Some(Some("sig"))),
            (format!("sha256-{hex}.a.b"), Some(Some("a.b"))),
            (format!("sha256-{hex}."), None),
            (format!("sha256-{hex}-sig"), None),
            (format!("sha256-{}", &hex[1..]), None),
            (format!("sha256-{hex}0"), None),
            (format!("sha256-{}", hex.to_uppercase()), None),
            (format!("sha1-{hex}"), None),
            (format!("sha256:{hex}"), None),
            ("sha256-".to_owned(), None),
            ("latest".to_owned(), None),
        ] {
            let expected = expected.map(|suffix: Option<&str>| DigestTag {
                subject: Subject::from(&digest),
                suffix: suffix.map(Into::into),
            });
            assert_eq!(DigestTag::parse(&name), expected, "{name}");
        }
    }

    #[test]
    fn a_sha512_digest_is_cut_to_what_a_tag_may_hold() {
        let digest = Algorithm::Sha512.digest(b"{}");
        let subject = Subject::from(&digest);
        let tag: Tag = format!("{subject}.att").parse().unwrap();
        assert_eq!(tag.as_str().len(), "sha512-.att".len() + 64);
        assert_eq!(DigestTag::of(&tag).unwrap().subject, subject);
        let whole = format!("sha512-{}", digest.hex());
        assert!(whole.parse::<Tag>().is_err());
        assert_ne!(subject, Subject::from(&Algorithm::Sha256.digest(b"{}")));
    }

    proptest! {
        #[test]
        fn a_digest_tag_is_shown_as_it_was_written(
            name in "sha(256|512)-[0-9a-f]{64}(\\.[a-z.]{1,5})?|.{0,80}"
        ) {
            if let Some(tag) = DigestTag::parse(&name) {
                prop_assert_eq!(tag.to_string(), name);
            }
        }
    }
}
