//! What is gone over there and kept here for a while, for those who are reading it.
//!
//! A client that has read a manifest a moment ago still wants its layers, and a mirror of this mirror
//! works by the list of a moment ago. So what a list no longer has stays for a grace, counted from the
//! run that first missed it. Since when stands in `.~tmp~/sync/gone`, one line each, seconds since 1970
//! and the path, between a first and a last line that prove it whole:
//!
//! ```text
//! gone 1
//! 1767225600 blobs/sha256/ab/ab…
//! end 1
//! ```
//!
//! It is written before the state that no longer counts what is in it, so a file of the tree is in the
//! list, in here, or the tree is marked and the next run walks it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};

use oci_mirror::tree::writer::{self, SYNC, TEMPORARY};
use oci_mirror::tree::{Tree, TreePath, TreeWriter};

/// What is kept for its grace, and since when it is gone, in seconds since 1970.
pub type Gone = BTreeMap<TreePath, i64>;

/// What is kept in a tree for its grace. Nothing if nobody follows another tree with it.
///
/// A file that is torn is [`io::ErrorKind::InvalidData`].
pub fn read(tree: &Tree) -> io::Result<Gone> {
    let path = tree.root().join(TEMPORARY).join(SYNC).join(NAME);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Gone::new()),
        file => file?,
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "torn"))
}

/// Remembers it for the next run, durably.
pub(super) fn write(writer: &TreeWriter, gone: &Gone) -> Result<(), writer::Error> {
    writer.remember_for_sync(NAME, text(gone).as_deref().map(str::as_bytes))
}

/// Brings the record up to date: `missed` has gone over there, `back` is there again.
///
/// Nothing is gone since tomorrow, whatever a clock that was put back says.
pub(super) fn update(gone: &mut Gone, missed: &[TreePath], back: &[TreePath], now: i64) {
    for path in back {
        gone.remove(path);
    }
    for since in gone.values_mut() {
        *since = (*since).min(now);
    }
    for path in missed {
        gone.entry(path.clone()).or_insert(now);
    }
}

/// Takes out what has had its grace, in the steps in which it may be removed: what names others first.
pub(super) fn take_due(gone: &mut Gone, now: i64, grace: i64) -> Vec<Vec<TreePath>> {
    let mut steps = vec![Vec::new(); 3];
    gone.retain(|path, since| {
        let is_due = is_due(*since, now, grace);
        if is_due && let Some(step) = steps.get_mut(step_of(path)) {
            step.push(path.clone());
        }
        !is_due
    });
    steps
}

/// Since when the oldest of it is gone.
pub(super) fn oldest(gone: &Gone) -> Option<i64> {
    gone.values().min().copied()
}

/// Whether what is gone since then has had its grace.
pub(super) fn is_due(since: i64, now: i64, grace: i64) -> bool {
    since.saturating_add(grace) <= now
}

fn step_of(path: &TreePath) -> usize {
    match path {
        TreePath::Index(_) | TreePath::State | TreePath::List(_) | TreePath::DirectorySizes => 0,
        TreePath::Layout(_) | TreePath::Link(..) => 1,
        TreePath::Blob(_) | TreePath::Pieces(_) => 2,
    }
}

fn parse(text: &str) -> Option<Gone> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return None;
    }
    let mut gone = Gone::new();
    loop {
        let (word, rest) = lines.next()?.split_once(' ')?;
        if word == LAST_WORD {
            let is_whole = rest.parse() == Ok(gone.len()) && lines.next().is_none();
            return is_whole.then_some(gone);
        }
        gone.insert(rest.parse().ok()?, word.parse().ok()?);
    }
}

/// The content of the file; `None` if there is nothing to remember.
fn text(gone: &Gone) -> Option<String> {
    if gone.is_empty() {
        return None;
    }
    let mut text = format!("{FIRST_LINE}\n");
    for (path, since) in gone {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{since} {path}");
    }
    let _ = writeln!(text, "{LAST_WORD} {}", gone.len());
    Some(text)
}

/// In the directory that a mirror keeps from run to run.
const NAME: &str = "gone";

const FIRST_LINE: &str = "gone 1";

const LAST_WORD: &str = "end";

/// Largest such file, in bytes: room for some million lines.
const MAX_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;

    use super::*;

    fn blob(content: &str) -> TreePath {
        TreePath::Blob(Algorithm::Sha256.digest(content.as_bytes()))
    }

    fn link(content: &str) -> TreePath {
        TreePath::Link(
            "a/b".parse().unwrap(),
            Algorithm::Sha256.digest(content.as_bytes()),
        )
    }

    #[test]
    fn what_is_remembered_is_read_and_nothing_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        assert_eq!(read(writer.tree()).unwrap(), Gone::new());
        let gone = Gone::from([(blob("a"), 5), (link("a"), -7)]);
        write(&writer, &gone).unwrap();
        drop(writer);
        let writer = TreeWriter::open(dir.path()).unwrap();
        assert_eq!(read(writer.tree()).unwrap(), gone);
        write(&writer, &Gone::new()).unwrap();
        assert_eq!(read(writer.tree()).unwrap(), Gone::new());
    }

    #[test]
    fn every_prefix_is_torn() {
        let whole = text(&Gone::from([(blob("a"), 5), (blob("b"), 6)])).unwrap();
        assert!(parse(&whole).is_some());
        for length in 0..whole.len() - 1 {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse("gone 1\n1 ../../etc/passwd\nend 1\n"), None);
        assert_eq!(parse("gone 2\nend 0\n"), None);
    }

    #[test]
    fn the_grace_counts_from_the_first_run_that_missed_it() {
        let mut gone = Gone::new();
        update(&mut gone, &[blob("a"), link("a")], &[], 100);
        update(&mut gone, &[blob("a"), blob("b")], &[], 150);
        assert_eq!(oldest(&gone), Some(100));
        assert_eq!(take_due(&mut gone.clone(), 149, 50).concat(), []);
        let steps = take_due(&mut gone, 150, 50);
        assert_eq!(steps, [vec![], vec![link("a")], vec![blob("a")]]);
        assert_eq!(gone, Gone::from([(blob("b"), 150)]));
    }

    #[test]
    fn what_comes_back_is_not_gone() {
        let mut gone = Gone::from([(blob("a"), 1), (blob("b"), 900)]);
        update(&mut gone, &[], &[blob("a")], 10);
        assert_eq!(gone, Gone::from([(blob("b"), 10)]));
    }

    #[test]
    fn an_index_goes_before_what_it_names() {
        let mut gone = Gone::from([
            (blob("a"), 1),
            (link("a"), 1),
            (TreePath::Index("a/b".parse().unwrap()), 1),
            (TreePath::Layout("a/b".parse().unwrap()), 1),
        ]);
        let steps = take_due(&mut gone, 1, 0);
        assert_eq!(steps[0], [TreePath::Index("a/b".parse().unwrap())]);
        assert_eq!(steps[1].len(), 2);
        assert_eq!(steps[2], [blob("a")]);
    }
}
