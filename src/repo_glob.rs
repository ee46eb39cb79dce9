//! Which repositories a mirror carries, as patterns.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;
use crate::reference::RepoName;

/// Longest pattern, in bytes.
pub const MAX_LEN: usize = 255;

/// A pattern over repository names: `*` stands for any run of characters except `/`, `**` for any run
/// at all, `?` for one character except `/`.
///
/// ```
/// use oci_mirror::repo_glob::RepoGlob;
/// let glob: RepoGlob = "fedora/*".parse().unwrap();
/// assert!(glob.matches(&"fedora/fedora-minimal".parse().unwrap()));
/// assert!(!glob.matches(&"fedora/eln/base".parse().unwrap()));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoGlob(Box<str>);

impl RepoGlob {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern stands for `name`.
    pub fn matches(&self, name: &RepoName) -> bool {
        matches(self.0.as_bytes(), name.as_str().as_bytes())
    }
}

/// Whether a host is meant to hold `name` that carries what these patterns stand for, or everything if there are
/// none, but not what is `excluded`.
pub fn are_for(included: &[RepoGlob], excluded: &[RepoGlob], name: &RepoName) -> bool {
    let named = |globs: &[RepoGlob]| globs.iter().any(|glob| glob.matches(name));
    (included.is_empty() || named(included)) && !named(excluded)
}

/// Goes back to the last star only, and to the last double star when that fails, so the work is at
/// most pattern × text × text: a pattern cannot make matching explode.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to resume the pattern, and how much of the text the star has eaten.
    let mut star: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(b'*') if pattern.get(p + 1) == Some(&b'*') => {
                p += 2;
                double = Some((p, t));
                star = None;
                continue;
            }
            Some(b'*') => {
                p += 1;
                star = Some((p, t));
                continue;
            }
            Some(b'?') if text.get(t).is_some_and(|&c| c != b'/') => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            Some(literal) if text.get(t) == Some(literal) => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            None if t == text.len() => return true,
            _ => {}
        }
        if let Some((resume, eaten)) = star
            && text.get(eaten).is_some_and(|&c| c != b'/')
        {
            star = Some((resume, eaten + 1));
            (p, t) = (resume, eaten + 1);
        } else if let Some((resume, eaten)) = double
            && eaten < text.len()
        {
            double = Some((resume, eaten + 1));
            star = None;
            (p, t) = (resume, eaten + 1);
        } else {
            return false;
        }
    }
}

impl fmt::Display for RepoGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RepoGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoGlob {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        let legal = |c: u8| {
            c.is_ascii_lowercase()
                || c.is_ascii_digit()
                || matches!(c, b'.' | b'_' | b'-' | b'/' | b'*' | b'?')
        };
        if (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidGlob(Excerpt(text).into()))
        }
    }
}

impl TryFrom<String> for RepoGlob {
    type Error = InvalidGlob;

    fn try_from(text: String) -> Result<Self, InvalidGlob> {
        text.parse()
    }
}

impl From<RepoGlob> for String {
    fn from(glob: RepoGlob) -> Self {
        glob.to_string()
    }
}

/// The text is not a pattern over repository names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not a pattern of repository names: use the characters of a name, `*`, `**` and `?`"
)]
pub struct InvalidGlob(Box<str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matching() {
        for (pattern, name, expected) in [
            ("fedora", "fedora", true),
            ("fedora", "fedora/x", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**", "a/b/c", true),
            ("fedora/**", "fedora/a/b", true),
            ("fedora/**", "fedora", false),
            ("**/base", "a/b/base", true),
            ("**/base", "base", false),
            ("f?dora", "fedora", true),
            ("a?b", "a/b", false),
            ("*-minimal", "fedora-minimal", true),
            ("a*b*c", "axxbyyc", true),
            ("**/x*z/y", "a/xz/b/xqz/y", true),
            ("a***b", "a/q/b", true),
        ] {
            let glob: RepoGlob = pattern.parse().unwrap();
            assert_eq!(
                glob.matches(&name.parse().unwrap()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn a_nasty_pattern_is_still_fast() {
        let pattern = "**a*".repeat(60);
        let name = "a".repeat(254) + "b";
        let glob: RepoGlob = (pattern + "c").parse().unwrap();
        assert!(!glob.matches(&name.parse().unwrap()));
    }

    /// The obvious definition, exponential but plainly right.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| slow(rest, &text[n..])),
            [b'*', rest @ ..] => {
                let run = text.iter().take_while(|&&c| c != b'/').count();
                (0..=run).any(|n| slow(rest, &text[n..]))
            }
            [b'?', rest @ ..] => text.first().is_some_and(|&c| c != b'/') && slow(rest, &text[1..]),
            [c, rest @ ..] => text.first() == Some(c) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn agrees_with_the_definition(pattern in "[ab/*?]{1,8}", text in "[ab/]{0,8}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
