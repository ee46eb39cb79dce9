//! Ranges of versions, as people of this field write them.
//!
//! The language is that of skopeo's `images-by-semver` (the library is Masterminds' semver), which is
//! npm's with commas: comparators that must all hold, separated by commas or white space; `||`
//! between alternatives; `1.2 - 1.4` for both ends included. The comparators are those of the
//! `semver` crate, but not its parser: cargo takes a bare `1.2` for `^1.2`, so that 1.9 would match.
//! To skopeo it is `1.2.x`, to regsync 1.2.0 alone; nobody who mirrors tags means 1.9 by it.
//!
//! Pre-releases match as cargo and npm have it: only where a comparator of the same three numbers
//! names one, so `>=1.2.0-rc.1` takes 1.2.0-rc.2 and never 1.3.0-rc.1. skopeo would take both;
//! whoever asks for the candidates of one release should not get those of the next.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use semver::{Comparator, Op, Prerelease, VersionReq};
use serde::Deserialize;

use super::{TagVersion, number, prerelease};

/// A range of versions.
///
/// | written | means |
/// |---|---|
/// | `1.2`, `=1.2`, `1.2.x`, `1.2.*` | ≥ 1.2.0 and < 1.3.0 |
/// | `1.2.3` | 1.2.3 alone |
/// | `*` | every version but pre-releases |
/// | `~1.2`, `~1.2.3` | the same, from 1.2.3 on |
/// | `^1.2` | ≥ 1.2.0 and < 2.0.0 |
/// | `>1.2` | ≥ 1.3.0 |
/// | `<=1.2` | < 1.3.0 |
/// | `>=1.2 <2 \|\| 3` | several at once, and alternatives |
/// | `1.2 - 1.4` | ≥ 1.2.0 and < 1.5.0 |
///
/// ```
/// use mirror_tool::export::version::{TagVersion, VersionRange};
/// let range: VersionRange = ">=1.2 <2".parse().unwrap();
/// assert!(range.contains(&TagVersion::of("v1.10").unwrap()));
/// assert!(!range.contains(&TagVersion::of("1.10-alpine").unwrap()));
/// assert_eq!(range.to_string(), ">=1.2, <2");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct VersionRange(Vec<VersionReq>);

impl VersionRange {
    /// Whether a version lies in the range.
    pub fn contains(&self, version: &TagVersion) -> bool {
        self.0.iter().any(|all| all.matches(&version.0))
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, all) in self.0.iter().enumerate() {
            let or = if position == 0 { "" } else { " || " };
            write!(f, "{or}{all}")?;
        }
        Ok(())
    }
}

impl FromStr for VersionRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        match text.split("||").map(all_of).collect() {
            Ok(alternatives) => Ok(Self(alternatives)),
            Err(wrong) => Err(InvalidRange {
                text: Excerpt(text).into(),
                wrong,
            }),
        }
    }
}

impl TryFrom<String> for VersionRange {
    type Error = InvalidRange;

    fn try_from(text: String) -> Result<Self, InvalidRange> {
        text.parse()
    }
}

/// The text is no range of versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} is not a range of versions such as `>=1.2 <2` or `1.2.x || ^3`: {wrong}")]
pub struct InvalidRange {
    text: Box<str>,
    wrong: Wrong,
}

/// What is wrong with a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Wrong {
    #[error("there is nothing between two commas or beside `||`")]
    Nothing,
    #[error("{0} is no version")]
    Version(Box<str>),
    #[error("{0} has no version to compare with")]
    Dangling(Box<str>),
    #[error("no version is beyond `*`")]
    BeyondAny,
    #[error("`-` with spaces around it stands between two bare versions")]
    Hyphen,
    #[error("`!=` is not known; leave tags out with --exclude-tags")]
    NotEqual,
}

/// One alternative: comparators that must all hold. `*` adds none.
fn all_of(text: &str) -> Result<VersionReq, Wrong> {
    let mut comparators = Vec::new();
    for part in text.split(',') {
        let words: Vec<_> = part.split_whitespace().collect();
        match words[..] {
            [] => return Err(Wrong::Nothing),
            [from, "-", to] => {
                comparators.extend(bare(from)?.compare(Op::GreaterEq)?);
                comparators.extend(bare(to)?.compare(Op::LessEq)?);
            }
            _ if words.contains(&"-") => return Err(Wrong::Hyphen),
            _ => spaced(&words, &mut comparators)?,
        }
    }
    Ok(VersionReq { comparators })
}

/// Comparators with white space between them, and perhaps behind their operators.
fn spaced(words: &[&str], comparators: &mut Vec<Comparator>) -> Result<(), Wrong> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (op, version) = operator(word)?;
        let version = match version {
            "" => words
                .next()
                .ok_or_else(|| Wrong::Dangling(Excerpt(word).into()))?,
            version => version,
        };
        comparators.extend(Partial::parse(version)?.compare(op)?);
    }
    Ok(())
}

/// Splits the operator off. The longer ones come first; `=>`, `=<` and `~>` are Masterminds' spellings.
fn operator(text: &str) -> Result<(Op, &str), Wrong> {
    const OPERATORS: [(&str, Op); 10] = [
        (">=", Op::GreaterEq),
        ("=>", Op::GreaterEq),
        ("<=", Op::LessEq),
        ("=<", Op::LessEq),
        ("~>", Op::Tilde),
        (">", Op::Greater),
        ("<", Op::Less),
        ("=", Op::Exact),
        ("~", Op::Tilde),
        ("^", Op::Caret),
    ];
    if text.starts_with("!=") {
        return Err(Wrong::NotEqual);
    }
    Ok(OPERATORS
        .iter()
        .find_map(|(sign, op)| Some((*op, text.strip_prefix(sign)?)))
        .unwrap_or((Op::Exact, text)))
}

/// An end of a hyphen range, which has no operator.
fn bare(text: &str) -> Result<Partial, Wrong> {
    if text.starts_with(|c: char| "<>=~^!".contains(c)) {
        return Err(Wrong::Hyphen);
    }
    Partial::parse(text)
}

/// A version of which the last numbers may be open: `1`, `1.2.x`, `*`.
struct Partial {
    numbers: Vec<u64>,
    pre: Prerelease,
}

impl Partial {
    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::read(text).ok_or_else(|| Wrong::Version(Excerpt(text).into()))
    }

    fn read(text: &str) -> Option<Self> {
        let (numbers, pre) = match text.split_once('-') {
            Some((numbers, pre)) => (numbers, prerelease(pre)?),
            None => (text, Prerelease::EMPTY),
        };
        let parts: Vec<_> = numbers
            .strip_prefix('v')
            .unwrap_or(numbers)
            .split('.')
            .collect();
        let open = |part: &&str| matches!(*part, "x" | "X" | "*");
        let fixed = parts.iter().take_while(|part| !open(part)).count();
        let mut numbers = parts[..fixed]
            .iter()
            .map(|part| number(part))
            .collect::<Option<Vec<_>>>()?;
        if parts.len() > 3 || !parts[fixed..].iter().all(open) {
            return None;
        }
        if !pre.is_empty() {
            // A pre-release is of one version: `43-rc1` of 43.0.0, and `1.x-rc1` of none.
            if fixed < parts.len() {
                return None;
            }
            numbers.resize(3, 0);
        }
        Some(Self { numbers, pre })
    }

    /// The comparator it makes, or none where every version will do.
    fn compare(self, op: Op) -> Result<Option<Comparator>, Wrong> {
        match (self.numbers.first(), op) {
            (Some(&major), op) => Ok(Some(Comparator {
                op,
                major,
                minor: self.numbers.get(1).copied(),
                patch: self.numbers.get(2).copied(),
                pre: self.pre,
            })),
            (None, Op::Greater | Op::Less) => Err(Wrong::BeyondAny),
            (None, _) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_contain_what_skopeo_would_take() {
        for (range, inside, outside) in [
            (
                "1.2",
                &["1.2", "1.2.9", "v1.2.0"][..],
                &["1.3", "1.1", "1.9", "latest"][..],
            ),
            ("=1.2", &["1.2.9"], &["1.3"]),
            ("1.2.x", &["1.2.9"], &["1.3"]),
            ("v1.*", &["1", "1.9.9"], &["2", "0.9"]),
            ("1.2.3", &["1.2.3", "v1.2.3_5"], &["1.2.4", "1.2.3-rc1"]),
            ("*", &["0", "1.2.3"], &["1-rc1", "rawhide"]),
            (">= 3.12.0", &["3.12", "4"], &["3.11.9", "3.13-rc1"]),
            (">=1.2, <2", &["1.2", "1.10"], &["2", "2.0.0-rc1", "1.1.9"]),
            (">=1.2 <2", &["1.2", "1.10"], &["2", "1.1.9"]),
            (">1.2", &["1.3"], &["1.2.9"]),
            ("<=1.2", &["1.2.9", "0.1"], &["1.3"]),
            ("=>1.2 =<1.4", &["1.4.9"], &["1.5"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3"]),
            ("~>1.2", &["1.2.9"], &["1.3"]),
            ("~1", &["1.9"], &["2"]),
            ("^1.2", &["1.9"], &["2", "1.1"]),
            ("^0.2.3", &["0.2.4"], &["0.3"]),
            ("1.2 - 1.4", &["1.2", "1.4.9"], &["1.5", "1.1.9"]),
            ("1 || >=3 <4", &["1.5", "3.9"], &["2", "4"]),
            (">=24.04", &["24.04", "24.10"], &["23.10"]),
            (">=20240101", &["20240105"], &["20231231", "43"]),
            (
                ">=1.2.0-rc.1",
                &["1.2.0-rc.2", "1.2.0", "9"],
                &["1.3.0-rc.1", "1.2.0-beta"],
            ),
            ("43-rc1", &["43-rc1"], &["43", "43-rc2"]),
        ] {
            let parsed: VersionRange = range.parse().unwrap();
            let contains = |tag: &&str| TagVersion::of(tag).is_some_and(|v| parsed.contains(&v));
            for tag in inside {
                assert!(contains(tag), "{tag} is in {range}");
            }
            for tag in outside {
                assert!(!contains(tag), "{tag} is not in {range}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "nothing"),
            ("1 ||", "nothing"),
            (">=1,,<2", "nothing"),
            (">=1,", "nothing"),
            (">=", "has no version"),
            (">= <2", "`<2` is no version"),
            ("latest", "no version"),
            ("1.2.3.4", "no version"),
            ("1.x.3", "no version"),
            ("1.x-rc1", "no version"),
            (">=1.2<2", "no version"),
            ("99999999999999999999", "no version"),
            (">*", "beyond"),
            ("!=1.2", "--exclude-tags"),
            ("1 - 2 - 3", "between two"),
            (">=1 - 2", "between two"),
            ("- 2", "between two"),
        ] {
            let error = text.parse::<VersionRange>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_same_range(text in "(>=|<|~|\\^|=|)[0-9]{1,2}(\\.[0-9]{1,2}){0,2}( <=[0-9]{1,2}|, >1\\.x| - 7)?( \\|\\| (\\*|1\\.2\\.3-rc\\.1))?") {
            if let Ok(range) = text.parse::<VersionRange>() {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
            }
        }

        #[test]
        fn no_text_panics(text in "[0-9a-z<>=~^*|, .!_-]{0,40}|.{0,40}") {
            if let Ok(range) = text.parse::<VersionRange>() {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
            }
        }
    }
}
