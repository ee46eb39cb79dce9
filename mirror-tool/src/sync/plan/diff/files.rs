//! The files of a tree in its list, kind by kind.

use std::io::BufRead;

use oci_mirror::digest::Digest;
use oci_mirror::tree::index::OCI_LAYOUT;
use oci_mirror::tree::list::{Entry, Kind};
use oci_mirror::tree::{RepoDir, TreePath};

use super::super::carried::{Mark, Row};
use super::super::part::time;
use super::super::refusal::Why;
use super::super::sum_up::piece_bytes;
use super::super::unproven::File;
use super::{Diff, Own, Refusal, is_layout};

impl<R: BufRead> Diff<'_, R> {
    /// A file of a tree.
    pub(super) fn file(
        &mut self,
        path: &TreePath,
        held: Option<Own>,
        entry: &Entry,
    ) -> Result<(), Refusal> {
        let is_old = held.is_some_and(|held| held.kind == Kind::File);
        let in_grace = self.gone.get(path);
        let is_held = held.is_some_and(|held| held.kind == Kind::File && held.size == entry.size)
            || in_grace == Some(&entry.size);
        match path {
            TreePath::Blob(digest) => {
                self.count_blob(entry)?;
                self.was.blobs += u64::from(is_old && in_grace.is_none());
                let mut row = Row {
                    size: entry.size,
                    time: time(entry, self.terms.now),
                    ..Row::default()
                };
                row.set(Mark::Held, is_held);
                row.set(Mark::Old, is_old);
                self.plan.carried.push(digest, row);
            }
            TreePath::Pieces(digest) => self.pieces(digest, held, entry),
            TreePath::Link(repo, digest) => {
                let Some(row) = self.plan.carried.row(digest).copied() else {
                    return Err(Refusal::Dangling {
                        repo: repo.clone(),
                        digest: *digest,
                    });
                };
                if row.size != entry.size {
                    return Err(Refusal::Entry {
                        path: entry.path.clone(),
                        why: Why::Size {
                            listed: entry.size,
                            expected: row.size,
                        },
                    });
                }
                if self.carries(repo) {
                    if let Some(row) = self.plan.carried.row_mut(digest) {
                        row.set(Mark::Carried, true);
                    }
                    self.plan.carried.enter(repo, false);
                    self.came_back(path);
                    if !is_held || !row.is(Mark::Held) {
                        self.plan.links.push((repo.clone(), *digest));
                    }
                } else {
                    self.left_out(path, held);
                }
            }
            TreePath::Layout(repo) => {
                if entry.size != OCI_LAYOUT.len() as u64 {
                    return Err(Refusal::Entry {
                        path: entry.path.clone(),
                        why: Why::Layout,
                    });
                }
                if self.carries(repo) {
                    self.plan.carried.enter(repo, false);
                    self.came_back(path);
                    let is_right = held.and_then(|held| held.sum).is_none_or(is_layout);
                    if !is_held || !is_right {
                        self.plan.layouts.push(repo.clone());
                    }
                } else {
                    self.left_out(path, held);
                }
            }
            TreePath::Index(repo) => {
                self.listed.repositories += 1;
                self.was.repositories += u64::from(is_old && in_grace.is_none());
                if self.carries(repo) {
                    self.plan.carried.enter(repo, true);
                    self.came_back(path);
                    let is_held = is_held && in_grace.is_none();
                    self.prove(path, is_held, entry);
                } else {
                    self.left_out(path, held);
                }
            }
            TreePath::DirectorySizes => self.prove(path, is_held, entry),
            TreePath::State | TreePath::List(_) => {}
        }
        Ok(())
    }

    fn pieces(&mut self, digest: &Digest, held: Option<Own>, entry: &Entry) {
        let time = time(entry, self.terms.now);
        let row = self.plan.carried.row_mut(digest);
        let expected = row.as_ref().map(|row| piece_bytes(row.size));
        match row {
            // Damaged ones are as good as none, and hurt nobody who asks for none.
            Some(row) if entry.size > 0 && expected == Some(entry.size) => {
                let is_old = held.is_some_and(|held| held.kind == Kind::File);
                row.set(Mark::Pieces, true);
                row.set(Mark::PiecesOld, is_old);
                let is_held = held.is_some_and(|held| held.size == entry.size);
                row.set(Mark::PiecesHeld, is_old && is_held);
                self.piece_times.push((*digest, time));
            }
            _ => self.skip(&entry.path, held),
        }
    }

    /// A file that the filter leaves out.
    fn left_out(&mut self, path: &TreePath, held: Option<Own>) {
        if held.is_some_and(|held| held.kind == Kind::File) {
            self.plan.gone.push(path.clone());
        }
    }

    fn came_back(&mut self, path: &TreePath) {
        if self.gone.contains_key(path) {
            self.plan.back.push(path.clone());
        }
    }

    fn prove(&mut self, path: &TreePath, is_held: bool, entry: &Entry) {
        self.unproven.push(File {
            at: entry.path.clone(),
            path: path.clone(),
            size: entry.size,
            time: time(entry, self.terms.now),
            is_held,
        });
    }

    fn carries(&mut self, repo: &RepoDir) -> bool {
        match &self.repository {
            Some((last, is_carried)) if last == repo => *is_carried,
            _ => {
                let is_carried = self.terms.filter.carries(repo.name());
                self.repository = Some((repo.clone(), is_carried));
                is_carried
            }
        }
    }
}
