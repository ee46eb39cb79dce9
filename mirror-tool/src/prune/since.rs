//! Since when something has been unneeded, remembered from run to run.
//!
//! A file's own times say only when it was last touched, and an index's when any of its tags last
//! moved: in a repository that changes every day nothing would ever grow old. So the first run that finds
//! something unneeded writes it down. Whoever is needed again is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use oci_mirror::tree::TreePath;
use oci_mirror::tree::writer::unreferenced::{FIRST_LINE, LAST_WORD};

/// Most lines remembered. Beyond, the youngest are forgotten: their files' times have to do.
const MAX_LINES: usize = 1_000_000;

/// What is unneeded, and since when.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// What earlier runs knew.
    before: HashMap<TreePath, i64>,
    /// What this run has found.
    found: BTreeMap<TreePath, i64>,
}

impl Records {
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Torn> {
        let mut lines = str::from_utf8(bytes).map_err(|_| Torn)?.lines();
        let mut before = HashMap::new();
        if lines.next() != Some(FIRST_LINE) {
            return Err(Torn);
        }
        loop {
            let (word, rest) = lines.next().and_then(|it| it.split_once(' ')).ok_or(Torn)?;
            if word == LAST_WORD {
                let whole = rest.parse() == Ok(before.len()) && lines.next().is_none();
                let found = BTreeMap::new();
                return if whole {
                    Ok(Self { before, found })
                } else {
                    Err(Torn)
                };
            }
            let since = word.parse().map_err(|_| Torn)?;
            before.insert(rest.parse().map_err(|_| Torn)?, since);
            if before.len() > MAX_LINES {
                return Err(Torn);
            }
        }
    }

    /// The content of the file; empty if there is nothing to remember.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut lines: Vec<_> = self.found.iter().collect();
        if lines.is_empty() {
            return Vec::new();
        }
        if lines.len() > MAX_LINES {
            lines.sort_by_key(|(_, since)| **since);
            lines.truncate(MAX_LINES);
            lines.sort();
        }
        let mut text = format!("{FIRST_LINE}\n");
        for (path, since) in &lines {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{since} {path}");
        }
        let _ = writeln!(text, "{LAST_WORD} {}", lines.len());
        text.into_bytes()
    }

    /// Notes that `path` is unneeded; returns since when. `certain` is the earliest time that its files
    /// allow to be said. Nothing is unneeded since tomorrow, whatever a clock that was put back says.
    pub(super) fn unneeded(&mut self, path: &TreePath, certain: i64, now: i64) -> i64 {
        let since = self.before.get(path).copied().unwrap_or(certain).min(now);
        self.found.insert(path.clone(), since);
        since
    }

    /// Forgets what is gone.
    pub(super) fn forget<'a>(&mut self, gone: impl Iterator<Item = &'a TreePath>) {
        for path in gone {
            self.found.remove(path);
        }
    }
}

/// The file is not what a run has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is torn or was written by something else")]
pub(super) struct Torn;

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;

    use super::*;

    fn path(content: &str) -> TreePath {
        TreePath::Blob(Algorithm::Sha256.digest(content.as_bytes()))
    }

    #[test]
    fn what_was_found_is_known_to_the_next_run_and_only_to_that() {
        let mut first = Records::default();
        assert_eq!(first.unneeded(&path("a"), 5, 100), 5);
        let link = TreePath::Link("a/b".parse().unwrap(), Algorithm::Sha256.digest(b"b"));
        assert_eq!(first.unneeded(&link, 6, 100), 6);
        let mut second = Records::from_bytes(&first.to_bytes()).unwrap();
        assert_eq!(second.unneeded(&path("a"), 90, 100), 5);
        let mut third = Records::from_bytes(&second.to_bytes()).unwrap();
        assert_eq!(third.unneeded(&link, 90, 100), 90);
    }

    #[test]
    fn nothing_is_unneeded_since_tomorrow() {
        let mut first = Records::default();
        assert_eq!(first.unneeded(&path("a"), 200, 100), 100);
        let mut earlier = Records::from_bytes(&first.to_bytes()).unwrap();
        assert_eq!(earlier.unneeded(&path("a"), 200, 50), 50);
    }

    #[test]
    fn nothing_to_remember_is_no_file() {
        let mut records = Records::default();
        records.unneeded(&path("a"), 1, 2);
        records.forget([&path("a")].into_iter());
        assert_eq!(records.to_bytes(), b"");
    }

    #[test]
    fn what_is_torn_or_foreign_is_refused() {
        let mut records = Records::default();
        records.unneeded(&path("a"), 1, 2);
        records.unneeded(&path("b"), 1, 2);
        let whole = records.to_bytes();
        for length in 0..whole.len() - 1 {
            assert_eq!(Records::from_bytes(&whole[..length]), Err(Torn), "{length}");
        }
        for text in [
            "unreferenced 2\nend 0\n",
            "unreferenced 1\nx blobs\nend 1\n",
            "unreferenced 1\n1 ../../etc/passwd\nend 1\n",
            "unreferenced 1\nend 0\nend 0\n",
            "\u{feff}",
        ] {
            assert_eq!(Records::from_bytes(text.as_bytes()), Err(Torn), "{text}");
        }
        assert_eq!(Records::from_bytes(&[0xff]), Err(Torn));
    }
}
