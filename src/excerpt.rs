//! Untrusted text, made fit to be printed.
//!
//! Names, headers and paths from peers end up in error messages and logs. There they must neither
//! flood the line nor smuggle control characters into a terminal, so every message shows them
//! through [`Excerpt`].

use std::fmt;

/// How many characters of a foreign text a message shows.
const SHOWN: usize = 96;

/// Displays at most 96 characters of a text, quoted and escaped.
///
/// ```
/// use oci_mirror::excerpt::Excerpt;
/// assert_eq!(Excerpt("a\u{1b}[2J").to_string(), "`a\\u{1b}[2J`");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Excerpt<'a>(
    /// The foreign text.
    pub &'a str,
);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for character in self.0.chars().take(SHOWN) {
            write!(f, "{}", character.escape_debug())?;
        }
        if self.0.chars().nth(SHOWN).is_some() {
            f.write_str("…")?;
        }
        f.write_str("`")
    }
}

impl From<Excerpt<'_>> for Box<str> {
    fn from(excerpt: Excerpt<'_>) -> Self {
        excerpt.to_string().into_boxed_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_long_text_at_a_character() {
        let text = "é".repeat(500);
        assert_eq!(Excerpt(&text).to_string().chars().count(), SHOWN + 3);
    }
}
