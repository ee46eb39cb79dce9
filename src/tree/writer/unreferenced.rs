//! What is unneeded, and since when: remembered from run to run in a file that is private to the tree and
//! no part of it.
//!
//! One line each, seconds since 1970 and the path, between a first and a last line that prove it whole:
//!
//! ```text
//! unreferenced 1
//! 1767225600 blobs/sha256/ab/ab…
//! end 1
//! ```
//!
//! Whoever prunes writes it. Whoever publishes takes out what is needed again, before it can be seen:
//! between two prunes a tag may come back and go, and then its content has all of its grace before it.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _};

use super::disk::persist;
use super::removal::remove_file;
use super::{Error, Image, TEMPORARY, TreeWriter};
use crate::tree::path::TreePath;
use crate::tree::reader::Tree;

/// The first line of the file.
pub const FIRST_LINE: &str = "unreferenced 1";

/// How the last line begins, which has the number of those between.
pub const LAST_WORD: &str = "end";

/// In [`TEMPORARY`]. Not litter, so it survives there.
pub(super) const UNREFERENCED: &str = "unreferenced";

/// Largest such file, in bytes: room for a million lines.
const MAX_BYTES: u64 = 512 << 20;

/// What an earlier run remembered as unneeded, if any did; bounded.
pub fn read(tree: &Tree) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(tree)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

impl TreeWriter {
    /// Remembers what is unneeded for the next run. A file that would not change is left alone.
    pub fn remember_unreferenced(&self, bytes: &[u8]) -> Result<(), Error> {
        let path = self.temporary.join(UNREFERENCED);
        if bytes.is_empty() {
            return remove_file(&path);
        }
        if read(&self.tree).is_ok_and(|before| before.as_deref() == Some(bytes)) {
            return Ok(());
        }
        persist(self.prepared(bytes)?, &path)?;
        self.sync_directories(&BTreeSet::from([self.temporary.clone()]))
    }

    /// Forgets that what images reach was unneeded.
    ///
    /// A file that is torn stays as it is: whoever prunes starts over.
    pub(super) fn forget_unreferenced(&self, images: &[Image]) -> Result<(), Error> {
        let path = self.temporary.join(UNREFERENCED);
        let failed = |source| Error::write(&path, source);
        let Some(mut file) = open(&self.tree).map_err(failed)? else {
            return Ok(());
        };
        let needed = Needed::of(images);
        if needed.without(&file, io::sink()).map_err(failed)? != Forgotten::Some {
            return Ok(());
        }
        file.rewind().map_err(failed)?;
        let next = self.temporary_file()?;
        let to = BufWriter::new(next.as_file());
        needed.without(&file, to).map_err(failed)?;
        next.as_file().sync_all().map_err(failed)?;
        persist(next, &path)?;
        self.sync_directories(&BTreeSet::from([self.temporary.clone()]))
    }
}

fn open(tree: &Tree) -> io::Result<Option<File>> {
    match File::open(tree.root().join(TEMPORARY).join(UNREFERENCED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// The names of all that some images reach.
struct Needed(HashSet<TreePath>);

/// What a file that was remembered has of [`Needed`].
#[derive(Debug, PartialEq, Eq)]
enum Forgotten {
    None,
    Some,
    /// It is not known: the file is not what a run has written.
    Torn,
}

impl Needed {
    fn of(images: &[Image]) -> Self {
        let mut needed = HashSet::new();
        for Image { repo, reach, .. } in images {
            needed.insert(TreePath::Index(repo.clone()));
            needed.insert(TreePath::Layout(repo.clone()));
            for digest in reach {
                needed.insert(TreePath::Link(repo.clone(), *digest));
                needed.insert(TreePath::Blob(*digest));
                needed.insert(TreePath::Pieces(*digest));
            }
        }
        Self(needed)
    }

    /// Copies the lines of what is not needed; one line at a time, since there may be a million.
    fn without(&self, from: &File, mut to: impl io::Write) -> io::Result<Forgotten> {
        let (mut kept, mut forgotten) = (0_u64, Forgotten::None);
        let mut is_first = true;
        for line in BufReader::new(from.take(MAX_BYTES)).lines() {
            let line = match line {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => break,
                line => line?,
            };
            if std::mem::take(&mut is_first) {
                if line != FIRST_LINE {
                    break;
                }
                writeln!(to, "{FIRST_LINE}")?;
                continue;
            }
            let Some((word, rest)) = line.split_once(' ') else {
                break;
            };
            if word == LAST_WORD {
                writeln!(to, "{LAST_WORD} {kept}")?;
                to.flush()?;
                return Ok(forgotten);
            }
            if rest.parse().is_ok_and(|path| self.0.contains(&path)) {
                forgotten = Forgotten::Some;
            } else {
                kept += 1;
                writeln!(to, "{line}")?;
            }
        }
        Ok(Forgotten::Torn)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::descriptor::Descriptor;
    use crate::digest::Algorithm;
    use crate::media_type::MediaType;

    fn image() -> Image {
        let digest = Algorithm::Sha256.digest(b"x");
        Image {
            repo: "a/b".parse().unwrap(),
            tag: None,
            root: Descriptor::new(MediaType::OCI_MANIFEST, digest, 1),
            reach: vec![digest],
            tag_referrers: None,
        }
    }

    #[test]
    fn what_is_remembered_survives_the_next_writer() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        assert_eq!(read(writer.tree()).unwrap(), None);
        writer.remember_unreferenced(b"something").unwrap();
        drop(writer);
        let writer = TreeWriter::open(dir.path()).unwrap();
        let remembered = read(writer.tree()).unwrap();
        assert_eq!(remembered.as_deref(), Some(&b"something"[..]));
        writer.remember_unreferenced(b"").unwrap();
        assert_eq!(read(writer.tree()).unwrap(), None);
    }

    #[test]
    fn only_what_is_needed_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let hex = Algorithm::Sha256.digest(b"x").hex().to_string();
        let other = "7 repos/c/blobs/sha256/";
        let text = format!(
            "{FIRST_LINE}\n5 blobs/sha256/{}/{hex}\n6 repos/a/b/blobs/sha256/{hex}\n{other}{hex}\nend 3\n",
            &hex[..2]
        );
        writer.remember_unreferenced(text.as_bytes()).unwrap();
        writer.forget_unreferenced(&[image()]).unwrap();
        let left = String::from_utf8(read(writer.tree()).unwrap().unwrap()).unwrap();
        assert_eq!(left, format!("{FIRST_LINE}\n{other}{hex}\nend 1\n"));

        let before = fs::metadata(dir.path().join(TEMPORARY)).unwrap();
        writer.forget_unreferenced(&[image()]).unwrap();
        let after = fs::metadata(dir.path().join(TEMPORARY)).unwrap();
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    }

    #[test]
    fn what_is_torn_is_left_to_be_started_over() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        for torn in [
            &b"something"[..],
            b"unreferenced 1\n",
            b"unreferenced 1\n5 blobs",
            b"\xff\n",
        ] {
            writer.remember_unreferenced(torn).unwrap();
            writer.forget_unreferenced(&[image()]).unwrap();
            assert_eq!(read(writer.tree()).unwrap().unwrap(), torn);
        }
    }
}
