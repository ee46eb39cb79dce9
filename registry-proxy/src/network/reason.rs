//! Why somebody switched a host or a site off, in words of their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest reason, in bytes: it is shown beside every mirror of a list.
pub const MAX_LEN: usize = 1024;

/// A text of at most [`MAX_LEN`] bytes. It may hold anything, since it is escaped wherever it is shown.
///
/// ```
/// use registry_proxy::network::Reason;
/// assert!("moving house".parse::<Reason>().is_ok());
/// assert!("x".repeat(1025).parse::<Reason>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(Box<str>);

impl Reason {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text that may be longer, without the rest of it.
    pub(crate) fn clipped(text: &str) -> Self {
        let mut ends = (0..=MAX_LEN).rev();
        let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        Self(text[..end].into())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Reason {
    type Err = TooLong;

    fn from_str(text: &str) -> Result<Self, TooLong> {
        if text.len() <= MAX_LEN {
            Ok(Self(text.into()))
        } else {
            Err(TooLong(text.len()))
        }
    }
}

crate::by_text::by_text!(Reason);

/// Whether a character is there for what it does: controls, and marks that hide or turn around others.
pub(crate) fn is_hidden(character: char) -> bool {
    let is_mark = matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}'
    );
    character.is_control() || is_mark
}

/// The text is too long for a reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a reason of {0} bytes is longer than {MAX_LEN}")]
pub struct TooLong(usize);
