//! The platform an image of an index is built for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

/// Operating system, architecture and, where it matters, variant; for example `linux/arm/v7`.
///
/// The field names are those of the [image index][spec]. Further fields of a descriptor's platform
/// (`os.version`, `os.features`) do not take part in selection and stay in the raw bytes.
///
/// [spec]: https://github.com/opencontainers/image-spec/blob/main/image-index.md
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `GOOS` name: `linux`, `windows`, …
    pub os: Box<str>,
    /// `GOARCH` name: `amd64`, `arm64`, …
    pub architecture: Box<str>,
    /// Variant of the CPU: `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Box<str>>,
}

impl Platform {
    /// Whether an image for `offered` satisfies a wish for this platform: a wish without a variant
    /// takes any.
    pub fn accepts(&self, offered: &Self) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.variant.is_none() || self.variant == offered.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error(Excerpt(text).into());
        let word = |part: &str| {
            !part.is_empty()
                && part.len() <= 64
                && part
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
        };
        let mut parts = text.split('/');
        let mut next = || parts.next().filter(|part| word(part)).map(Box::<str>::from);
        let (os, architecture) = next().zip(next()).ok_or_else(wrong)?;
        let variant = next();
        let platform = Self {
            os,
            architecture,
            variant,
        };
        // Catches a third part that is no word, and a fourth.
        if platform.to_string() == text {
            Ok(platform)
        } else {
            Err(wrong())
        }
    }
}

/// The text is not `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a platform: write OS/ARCH or OS/ARCH/VARIANT")]
pub struct Error(Box<str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wish_without_variant_takes_any() {
        let wish: Platform = "linux/arm".parse().unwrap();
        assert!(wish.accepts(&"linux/arm/v7".parse().unwrap()));
        let exact: Platform = "linux/arm/v6".parse().unwrap();
        assert!(!exact.accepts(&"linux/arm/v7".parse().unwrap()));
        assert!(!exact.accepts(&"linux/arm".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn only_its_own_output_parses(text in "[a-z0-9/ ]{0,20}") {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert_eq!(platform.to_string(), text);
            }
        }
    }
}
