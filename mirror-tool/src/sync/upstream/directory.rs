//! A tree on a disk: one that came by mail, or is mounted from elsewhere.

use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use oci_mirror::error_chain::chain;
use oci_mirror::tree::state::{self, ListRef};
use oci_mirror::tree::{Tree, TreePath, reader};
use tokio_util::sync::CancellationToken;

use super::{Error, Fetched, blocking, max_list};
use crate::sync::progress::Progress;
use crate::sync::staging::{Staging, Wrong, failed};
use crate::sync::{Options, Wanted};

/// A tree on a disk.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    upstream: Box<str>,
    root: Box<Path>,
    max_entries: u64,
}

impl Directory {
    pub(super) fn new(root: &Path, name: &str, options: &Options) -> Self {
        Self {
            upstream: name.into(),
            root: root.into(),
            max_entries: options.max_entries,
        }
    }

    /// The bytes of its `state.json`.
    pub(super) fn state(&self) -> Result<Bytes, Error> {
        let path = TreePath::State;
        self.tree()?
            .read(&path, state::MAX_BYTES)
            .map_err(|error| self.unread(&path, &error))
    }

    /// Copies a list into staging, and compares it.
    pub(super) async fn list(&self, list: &ListRef, staging: &Staging) -> Result<(), Error> {
        let (this, list, staging) = (self.clone(), list.clone(), staging.clone());
        blocking(move || this.copy_list(&list, &staging)).await
    }

    /// Copies files into staging, and verifies them, on all cores.
    pub(super) async fn fetch(
        &self,
        wanted: Vec<Wanted>,
        staging: &Staging,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Fetched, Error> {
        let (this, staging) = (self.clone(), staging.clone());
        let (progress, stop) = (progress.clone(), stop.clone());
        blocking(move || this.copy_all(&wanted, &staging, &progress, &stop)).await
    }

    fn copy_list(&self, list: &ListRef, staging: &Staging) -> Result<(), Error> {
        let path = TreePath::List(list.module.clone());
        let limit = max_list(self.max_entries);
        let target = staging.list();
        let copied = self.copy(&self.tree()?, &path, limit, &target, staging)?;
        if copied.is_none_or(|length| length > limit) {
            let (upstream, path) = (self.upstream.clone(), path);
            return Err(match copied {
                None => Error::NotFound { upstream, path },
                Some(_) => Error::TooLarge {
                    upstream,
                    path,
                    limit,
                },
            });
        }
        let is = File::open(&target)
            .and_then(|file| list.digest.algorithm().digest_of(file))
            .map_err(|source| failed(&target, source))?;
        if is != list.digest {
            return Err(Error::Digest {
                upstream: self.upstream.clone(),
                should: list.digest,
                is,
            });
        }
        Ok(())
    }

    fn copy_all(
        &self,
        wanted: &[Wanted],
        staging: &Staging,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Fetched, Error> {
        let tree = self.tree()?;
        let next = AtomicUsize::new(0);
        let all = Mutex::new((Fetched::default(), None));
        let work = || {
            while let Some(wanted) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let outcome = if stop.is_cancelled() {
                    Err(Error::Stopped)
                } else {
                    self.copy_one(&tree, wanted, staging)
                };
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                match outcome {
                    Ok(Ok(())) => {
                        all.0.files += 1;
                        all.0.bytes += wanted.size;
                        progress.came(1, wanted.size);
                    }
                    Ok(Err(Wrong::Missing)) => all.0.missing.push(wanted.path.clone()),
                    Ok(Err(wrong)) => all.0.wrong.push((wanted.path.clone(), wrong)),
                    Err(error) => {
                        all.1 = Some(error);
                        return;
                    }
                }
            }
        };
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 1..cores.min(wanted.len()) {
                scope.spawn(work);
            }
            work();
        });
        match all.into_inner().unwrap_or_else(PoisonError::into_inner) {
            (_, Some(error)) => Err(error),
            (fetched, None) => Ok(fetched),
        }
    }

    /// Copies a file and reads the copy: the disk may be as old as the one it came from.
    fn copy_one(
        &self,
        tree: &Tree,
        wanted: &Wanted,
        staging: &Staging,
    ) -> Result<Result<(), Wrong>, Error> {
        let target = staging.path(&wanted.path);
        let copied = self.copy(tree, &wanted.path, wanted.size, &target, staging)?;
        if copied.is_none() {
            return Ok(Err(Wrong::Missing));
        }
        match staging.verify(wanted) {
            Err(Wrong::Disk(error)) => Err(error.into()),
            verified => Ok(verified.map(|_| ())),
        }
    }

    /// Copies a file, and at most a byte more than it may have; its length, or `None` if there is none.
    fn copy(
        &self,
        tree: &Tree,
        path: &TreePath,
        limit: u64,
        target: &Path,
        staging: &Staging,
    ) -> Result<Option<u64>, Error> {
        let source = match tree.open_file(path) {
            Ok(source) => source,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(self.unread(path, &error)),
        };
        let mut copy = staging.create(target)?;
        let copied = io::copy(&mut source.take(limit.saturating_add(1)), &mut copy);
        Ok(Some(copied.map_err(|source| failed(target, source))?))
    }

    fn tree(&self) -> Result<Tree, Error> {
        Tree::open(&self.root).map_err(|error| Error::Unreachable {
            upstream: self.upstream.clone(),
            why: chain(&error).into(),
        })
    }

    fn unread(&self, path: &TreePath, error: &reader::Error) -> Error {
        let upstream = self.upstream.clone();
        if error.is_not_found() {
            let path = path.clone();
            return Error::NotFound { upstream, path };
        }
        Error::Unreachable {
            upstream,
            why: chain(error).into(),
        }
    }
}
