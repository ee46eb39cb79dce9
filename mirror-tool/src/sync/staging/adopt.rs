//! What earlier runs have left.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci_mirror::tree::{TreePath, writer};

use super::{PART, PARTIAL_DIRECTORY, Staging, Wrong, failed};
use crate::sync::{Proof, Wanted};

impl Staging {
    /// Looks through what earlier runs have left: what is wanted and right stays, and is returned; the
    /// beginnings of what is wanted stay too; all else goes.
    pub fn adopt(&self, wanted: &[Wanted]) -> Result<HashSet<TreePath>, writer::Error> {
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
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
            let name = entry.file_name();
            match name.to_str() {
                // What rsync has begun belongs to the directory above.
                Some(PARTIAL_DIRECTORY) if kind.is_dir() => self.look_in(&path, below)?,
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
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(writer::Error::Remove {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
