//! Tags read as versions: which are newer, and which lie in a range.
//!
//! Tags are looser than [semantic versions](https://semver.org): `43`, `v1.2` and `24.04` are
//! versions to whoever publishes them. [`TagVersion`] therefore fills missing numbers with 0 and
//! drops leading zeros, as skopeo's and Helm's library does; what is left orders as semver says. A tag
//! such as `latest` is no version, which is an answer and not an error.

use std::fmt;

use semver::{BuildMetadata, Prerelease, Version};

mod range;

pub use range::{InvalidRange, VersionRange};

/// What a tag says as a version.
///
/// One to three numbers, with or without a `v`; then a pre-release behind `-`; then metadata behind
/// `_`, which stands for the `+` that no tag can have, as Helm writes it. Nothing else. By this rule
/// `1.2.3-alpine` is a pre-release of 1.2.3: semver has no variants, and ranges leave it out.
///
/// ```
/// use mirror_tool::export::version::TagVersion;
/// let version = |tag| TagVersion::of(tag).unwrap();
/// assert!(version("v1.10") > version("1.9.3"));
/// assert!(version("43-rc1") < version("43"));
/// assert_eq!(version("24.04"), version("24.4.0"));
/// assert_eq!(TagVersion::of("latest"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagVersion(Version);

impl TagVersion {
    /// Reads a tag; `None` if it is no version.
    pub fn of(tag: &str) -> Option<Self> {
        let (rest, build) = match tag.split_once('_') {
            Some((rest, build)) => (rest, Some(build)),
            None => (tag, None),
        };
        let (numbers, pre) = match rest.split_once('-') {
            Some((numbers, pre)) => (numbers, Some(pre)),
            None => (rest, None),
        };
        let mut numbers = numbers.strip_prefix('v').unwrap_or(numbers).split('.');
        let mut next = || numbers.next().map(number);
        let (major, minor, patch) = (next()??, next(), next());
        if numbers.next().is_some() {
            return None;
        }
        Some(Self(Version {
            major,
            minor: minor.unwrap_or(Some(0))?,
            patch: patch.unwrap_or(Some(0))?,
            pre: pre.map_or(Some(Prerelease::EMPTY), prerelease)?,
            build: build.map_or(Some(BuildMetadata::EMPTY), metadata)?,
        }))
    }
}

impl fmt::Display for TagVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of a version. A date such as `20240105` fits; what does not fit is no version.
fn number(text: &str) -> Option<u64> {
    // `parse` alone would take a `+`.
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A pre-release of one identifier or more. Its numbers lose their leading zeros too, since semver
/// would have none of them.
fn prerelease(text: &str) -> Option<Prerelease> {
    let plain = |identifier: &str| {
        if identifier.bytes().all(|c| c.is_ascii_digit()) && identifier.len() > 1 {
            let digits = identifier.trim_start_matches('0');
            if digits.is_empty() { "0" } else { digits }.to_owned()
        } else {
            identifier.to_owned()
        }
    };
    let identifiers: Vec<_> = text.split('.').map(plain).collect();
    Prerelease::new(&identifiers.join("."))
        .ok()
        .filter(|pre| !pre.is_empty())
}

fn metadata(text: &str) -> Option<BuildMetadata> {
    BuildMetadata::new(text)
        .ok()
        .filter(|build| !build.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_that_are_versions() {
        for (tag, version) in [
            ("43", "43.0.0"),
            ("v1", "1.0.0"),
            ("1.2", "1.2.0"),
            ("v1.2.3", "1.2.3"),
            ("24.04", "24.4.0"),
            ("20240105", "20240105.0.0"),
            ("2024.01.05", "2024.1.5"),
            ("43-rc1", "43.0.0-rc1"),
            ("1.2.3-alpine", "1.2.3-alpine"),
            ("1.2.3-alpine3.19", "1.2.3-alpine3.19"),
            ("43-20250105.0", "43.0.0-20250105.0"),
            ("43-00.007", "43.0.0-0.7"),
            ("1.2.3-a-b", "1.2.3-a-b"),
            ("v1.30.0_k3s1", "1.30.0+k3s1"),
            ("1.2.3-rc.1_5", "1.2.3-rc.1+5"),
        ] {
            assert_eq!(
                TagVersion::of(tag).map(|v| v.to_string()).as_deref(),
                Some(version),
                "{tag}"
            );
        }
    }

    #[test]
    fn tags_that_are_none() {
        for tag in [
            "",
            "v",
            "latest",
            "rawhide",
            "V1",
            "vv1",
            "1.",
            "1..2",
            "1.2.3.4",
            "1.x",
            "+1",
            "1.+2",
            "1-",
            "1_",
            "1-_2",
            "1-a..b",
            "1_a_b",
            "43-aarch64!",
            "18446744073709551616",
            "1.2.3rc1",
            "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert_eq!(TagVersion::of(tag), None, "{tag}");
        }
    }

    #[test]
    fn precedence_is_that_of_semver() {
        let ascending = [
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1",
            "1.0.1",
            "1.9",
            "1.10",
            "2-9",
            "2-10",
            "20240105",
        ];
        for pair in ascending.windows(2) {
            assert!(
                TagVersion::of(pair[0]) < TagVersion::of(pair[1]),
                "{pair:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_same_version(tag in "v?[0-9]{1,3}(\\.[0-9]{1,3}){0,2}(-[a-z0-9]{1,3}(\\.[0-9a-z]{1,3})?)?") {
            let version = TagVersion::of(&tag).unwrap();
            prop_assert_eq!(TagVersion::of(&version.to_string()), Some(version));
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            drop(TagVersion::of(&text));
        }
    }
}
