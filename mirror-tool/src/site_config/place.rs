//! What a configuration is filled in with, so that it can be written into any of them as it is.
//!
//! Five programs have five ways to quote, and most of them expand variables inside quotes or match directories
//! by wildcards. So what any of them could misread is refused once, here, instead of being escaped in five ways.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;

/// An absolute path that every configuration can name between double quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Box<str>);

impl Place {
    /// The path.
    pub fn path(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl TryFrom<PathBuf> for Place {
    type Error = Invalid;

    /// A relative path is taken from where the program runs; links in it are left as they are.
    fn try_from(path: PathBuf) -> Result<Self, Invalid> {
        let wrong = || Invalid::Place(Excerpt(&path.to_string_lossy()).into());
        let absolute = std::path::absolute(&path).map_err(|_| wrong())?;
        // Without a slash at the end, or two in the middle.
        let absolute: PathBuf = absolute.components().collect();
        let text = absolute.to_str().ok_or_else(wrong)?;
        let is_plain = |c: char| !c.is_control() && !r#""'`\$%{}*?[]<>;#"#.contains(c);
        if text.chars().all(is_plain) && !text.ends_with(' ') && text != "/" {
            Ok(Self(text.into()))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name under which a mirror is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(Box<str>);

impl FromStr for HostName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let letter = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
        let begins = text
            .bytes()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        if begins && text.len() <= 253 && text.bytes().all(letter) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::Host(Excerpt(text).into()))
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text cannot stand in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A path that some program would read as something else.
    #[error(
        "{0} cannot be named in a configuration: no control characters, quotes or any of \\ $ % {{ }} * ? [ ] < > ; #"
    )]
    Place(Box<str>),
    /// Not a name a server can have.
    #[error("{0} is not a host name (letters, digits, `-`, `.`, `_`)")]
    Host(Box<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, Invalid> {
        PathBuf::from(text).try_into()
    }

    #[test]
    fn paths_are_made_absolute_and_plain() {
        for (given, path) in [
            ("/srv/containers", "/srv/containers"),
            ("/srv//containers/", "/srv/containers"),
            ("/srv/my mirrors/bücher", "/srv/my mirrors/bücher"),
        ] {
            assert_eq!(place(given).unwrap().to_string(), path);
        }
        assert!(place("tree").unwrap().path().is_absolute());
    }

    #[test]
    fn what_some_server_would_expand_is_refused() {
        for name in [
            "a\nb", "a\"b", "a'b", "a\\b", "a$b", "a%b", "a{b", "a}b", "a*b", "a?b", "a[b", "a;b",
            "a#b", "a ", "a\u{7f}",
        ] {
            assert!(place(&format!("/srv/{name}")).is_err(), "{name:?}");
        }
        assert!(place("/").is_err());
    }

    #[test]
    fn a_host_is_one_word() {
        for (text, good) in [
            ("mirror.example.org", true),
            ("127.0.0.1", true),
            ("", false),
            ("-x", false),
            ("a b", false),
            ("a;b", false),
            ("*.example.org", false),
            ("a:80", false),
        ] {
            assert_eq!(text.parse::<HostName>().is_ok(), good, "{text:?}");
        }
    }
}
