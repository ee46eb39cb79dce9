//! What earlier runs have left.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci_mirror::tree::{TreePath, writer};

use super::check::make_passable;
use super::{PART, PARTIAL_DIRECTORY, Staging, Wrong, discard, failed};
use crate::sync::{Proof, Wanted};

impl Staging {
    /// Looks through what earlier runs have left: what is wanted and right stays, and is returned; the
    /// beginnings of what is wanted stay too; all else goes.
    pub fn adopt(&self, wanted: &[Wanted]) -> Result<HashSet<TreePath>, writer::Error> {
        // A stranger may have had a directory replaced.
        self.made().clear();
        let is_empty = fs::read_dir(self.root())
            .map_err(|source| failed(self.root(), source))?
            .next()
            .is_none();
        if is_empty {
            return Ok(HashSet::new());
        }
        let by_path: HashMap<&TreePath, &Wanted> =
            wanted.iter().map(|wanted| (&wanted.path, wanted)).collect();
        let mut left = Left {
            staging: self,
            wanted: by_path,
            right: HashSet::new(),
            unread: Vec::new(),
        };
        left.look_in(self.root(), "")?;
        let Left {
            mut right, unread, ..
        } = left;
        for (wanted, result) in unread.iter().zip(self.verify_all(&unread)) {
            match result {
                Ok(()) => {
                    right.insert(wanted.path.clone());
                }
                Err(Wrong::Disk(error)) => return Err(error),
                Err(wrong) => {
                    tracing::debug!(path = %wanted.path, %wrong, "left by an earlier run, and of no use");
                }
            }
        }
        Ok(right)
    }

    /// Whether files are there and right, each, found out on all cores.
    pub(in crate::sync) fn verify_all(&self, files: &[&Wanted]) -> Vec<Result<(), Wrong>> {
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<_>> = Mutex::new(files.iter().map(|_| None).collect());
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(wanted) = files.get(number) else {
                    return;
                };
                let result = self.verify(wanted).map(|_| ());
                results.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(result);
            }
        };
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 1..cores.min(files.len()) {
                scope.spawn(work);
            }
            work();
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let unread = || Err(Wrong::Missing);
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(unread))
            .collect()
    }
}

/// What is found.
struct Left<'a> {
    staging: &'a Staging,
    wanted: HashMap<&'a TreePath, &'a Wanted>,
    /// Found right by this run, already.
    right: HashSet<TreePath>,
    /// Has to be read.
    unread: Vec<&'a Wanted>,
}

impl Left<'_> {
    /// Goes through a directory; `below` is its path in the tree, with a slash at its end.
    fn look_in(&mut self, directory: &Path, below: &str) -> Result<(), writer::Error> {
        let unreadable = |source| failed(directory, source);
        let metadata = fs::symlink_metadata(directory).map_err(unreadable)?;
        make_passable(directory, &metadata).map_err(unreadable)?;
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
            let name = entry.file_name();
            match name.to_str() {
                // What rsync has begun belongs to the directory above.
                Some(PARTIAL_DIRECTORY) if kind.is_dir() => self.look_in(&path, below)?,
                Some(name) if kind.is_dir() && self.is_of_file(&format!("{below}{name}")) => {
                    remove(&path)?;
                }
                Some(name) if kind.is_dir() => self.look_in(&path, &format!("{below}{name}/"))?,
                Some(name) if kind.is_file() => {
                    let is_partial = directory.ends_with(PARTIAL_DIRECTORY);
                    if !self.keep(&format!("{below}{name}"), is_partial) {
                        remove(&path)?;
                    }
                }
                _ => remove(&path)?,
            }
        }
        Ok(())
    }

    /// Whether a name is that of a file that is wanted, or of its beginning.
    fn is_of_file(&self, name: &str) -> bool {
        let path = name.strip_suffix(PART).unwrap_or(name).parse::<TreePath>();
        path.is_ok_and(|path| self.wanted.contains_key(&path))
    }

    /// Whether a file may stay.
    fn keep(&mut self, name: &str, is_partial: bool) -> bool {
        let (name, is_partial) = match name.strip_suffix(PART) {
            Some(name) => (name, true),
            None => (name, is_partial),
        };
        let Ok(path) = name.parse::<TreePath>() else {
            return false;
        };
        if let (TreePath::Pieces(digest), false) = (&path, is_partial)
            && self.staging.is_right(&TreePath::Blob(*digest))
        {
            return true;
        }
        let Some(wanted) = self.wanted.get(&path) else {
            return false;
        };
        // A document of this name may have been another one a moment ago.
        if wanted.proof == Proof::Name && self.staging.is_right(&path) {
            self.right.insert(path);
            return !is_partial;
        }
        if !is_partial {
            self.unread.push(wanted);
        }
        true
    }
}

fn remove(path: &Path) -> Result<(), writer::Error> {
    discard(path).map_err(|source| writer::Error::Remove {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use oci_mirror::tree::TreeWriter;

    use super::*;

    #[test]
    fn odd_things_where_files_belong_stand_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        let wanted = Wanted::blob(b"bytes");
        let place = staging.path(&wanted.path);
        let make = |path: &Path| {
            let below = path.join("a/b");
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join("file"), "").unwrap();
            fs::set_permissions(&below, fs::Permissions::from_mode(0o0)).unwrap();
        };
        make(&place);
        make(&staging.part(&wanted.path));
        let right = staging.adopt(std::slice::from_ref(&wanted)).unwrap();
        assert!(right.is_empty());
        assert!(!place.exists() && !staging.part(&wanted.path).exists());

        make(&place);
        assert!(matches!(staging.verify(&wanted), Err(Wrong::NotAFile)));
        staging.place(&wanted, b"bytes").unwrap();
        assert!(staging.verify(&wanted).is_ok());

        // A file in the place of a directory that this run has made.
        let parent = place.parent().unwrap();
        fs::remove_dir_all(parent).unwrap();
        fs::write(parent, "").unwrap();
        staging.adopt(std::slice::from_ref(&wanted)).unwrap();
        staging.place(&wanted, b"bytes").unwrap();
    }
}
