//! What is wrong with a configuration, in one line: the file, the place, the reason.
//!
//! The parser's own message draws the line of the file over several lines of its own, and whole,
//! however long it is. A journal wants one line, and a terminal no foreign control characters.

use std::path::PathBuf;
use std::str::Utf8Error;

use oci_mirror::excerpt::Excerpt;

use super::{MAX_BYTES, MAX_SOURCES};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It says something it must not.
    #[error("the configuration {} is wrong", .path.display())]
    Mistake {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        mistake: Box<Mistake>,
    },
}

/// What is wrong with the content of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// The file is far larger than a configuration can be.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// The file is not text.
    #[error("it is no text")]
    NotText(#[source] Utf8Error),
    /// It has more sources than one run can be meant to export.
    #[error("it has {count} sources; there may be {MAX_SOURCES}")]
    TooManySources {
        /// How many it has.
        count: usize,
    },
    /// It is not TOML, has a key there is not, or a value its key does not take.
    #[error("line {line}, {found}: {reason}")]
    At {
        /// The line, from 1.
        line: usize,
        /// What stands there.
        found: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
}

impl Mistake {
    /// The parser's error about `text`.
    pub(super) fn at(error: &toml::de::Error, text: &str) -> Self {
        // Without a place it is about the file as a whole, which starts at its start.
        let start = error.span().map_or(0, |span| span.start);
        let before = text.as_bytes().get(..start).unwrap_or(text.as_bytes());
        let line = before.split(|byte| *byte == b'\n').count();
        let found = text.split('\n').nth(line - 1).unwrap_or_default();
        Self::At {
            line,
            found: Excerpt(found.trim()).into(),
            reason: one_line(error.message()),
        }
    }
}

/// A message as one line of bounded length; it may quote what the file says.
fn one_line(message: &str) -> Box<str> {
    const LONGEST: usize = 400;
    let mut line = String::new();
    for character in message.trim_end().chars().take(LONGEST) {
        match character {
            '\n' => line.push(' '),
            character if character.is_control() => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    if message.trim_end().chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line.into()
}
