//! Comparing two lists.

mod files;

use std::collections::BTreeMap;
use std::io::BufRead;

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::index::OCI_LAYOUT;
use oci_mirror::tree::list::{Entry, Kind, ListPath, Reader, Record, Sum};
use oci_mirror::tree::state::State;
use oci_mirror::tree::{RepoDir, TreePath};

use super::carried::Mark;
use super::old::Old;
use super::part::{Part, part};
use super::refusal::Why;
use super::sum_up::{self, Counts, check_shrink, check_totals, piece_bytes};
use super::unproven::Unproven;
use super::{Here, PiecesFile, Plan, Refusal, Terms};

/// What has to be done so that the tree `here` becomes what the list `new` of `state` says.
pub fn make(
    new: impl BufRead,
    state: &State,
    here: Here<'_, impl BufRead>,
    terms: &Terms<'_>,
) -> Result<Plan, Refusal> {
    let mut diff = Diff {
        terms,
        state,
        old: Old::new(here.tree)?,
        gone: here.gone,
        plan: Plan::default(),
        was: Counts::default(),
        listed: Counts::default(),
        bytes: 0,
        all: 0,
        last: None,
        entries: 0,
        sums: None,
        unproven: Unproven::default(),
        piece_times: Vec::new(),
        repository: None,
    };
    let mut new = Reader::new(new);
    while new.advance().map_err(Refusal::List)?
        && let Some(line) = new.line()
    {
        let is_same = diff.old.passes(&line)?;
        match line.record().map_err(Refusal::List)? {
            Record::Entry(entry) => diff.entry(entry, is_same)?,
            Record::Sum(path, sum) => diff.sum(path, sum, is_same)?,
        }
    }
    diff.finish()
}

/// Two lists while they are read.
struct Diff<'a, R: BufRead> {
    terms: &'a Terms<'a>,
    state: &'a State,
    old: Old<R>,
    gone: &'a BTreeMap<TreePath, u64>,
    plan: Plan,
    /// What there is here.
    was: Counts,
    /// What the new list has, carried or not.
    listed: Counts,
    /// Bytes of its blobs.
    bytes: u64,
    /// Bytes of all its files, each name counted.
    all: u64,
    /// The last entry, then the last sum.
    last: Option<ListPath>,
    entries: u64,
    /// How many sums there were; `None` while there are still entries.
    sums: Option<u64>,
    unproven: Unproven,
    /// The times of pieces files, in the order of the list.
    piece_times: Vec<(Digest, u32)>,
    /// The repository of the last path, and whether it is carried.
    repository: Option<(RepoDir, bool)>,
}

/// What is here under the path of an entry.
#[derive(Debug, Clone, Copy)]
struct Own {
    kind: Kind,
    size: u64,
    /// Only of what a walk has found and no digest names.
    sum: Option<Sum>,
}

impl<R: BufRead> Diff<'_, R> {
    /// An entry; `is_same` if the list here has the same one.
    fn entry(&mut self, entry: Entry, is_same: bool) -> Result<(), Refusal> {
        self.entries += 1;
        if self.entries > self.terms.max_entries {
            return Err(Refusal::TooMany(self.terms.max_entries));
        }
        let wrong = |why| Refusal::Entry {
            path: entry.path.clone(),
            why,
        };
        let is_sorted = self.last.as_ref().is_none_or(|last| *last < entry.path);
        if self.sums.is_some() || !is_sorted {
            return Err(wrong(Why::Unsorted));
        }
        if entry.kind == Kind::Link {
            return Err(wrong(Why::SymbolicLink));
        }
        let mut held = is_same.then_some(Own {
            kind: entry.kind,
            size: entry.size,
            sum: None,
        });
        if !is_same {
            while let Some(old) = self.old.entry(Some(&entry.path))? {
                if old.path == entry.path {
                    held = Some(Own {
                        kind: old.kind,
                        size: old.size,
                        sum: old.sum,
                    });
                } else {
                    self.missed(&old.path, old.kind);
                }
            }
        }
        match part(&entry) {
            Part::File(path) => {
                // What is wanted is a part of this, so that no sum of it overflows.
                let all = self.all.checked_add(entry.size);
                self.all = all.ok_or(wrong(Why::TooLarge))?;
                self.file(&path, held, &entry)?;
            }
            Part::Directory => {
                if held.is_none_or(|held| held.kind != Kind::Directory) {
                    self.plan.directories.push(entry.path.clone());
                }
            }
            Part::Hidden(path) => {
                // They are counted in the totals all the same.
                match path {
                    Some(TreePath::Blob(_)) => self.count_blob(&entry)?,
                    Some(TreePath::Index(_)) => self.listed.repositories += 1,
                    _ => {}
                }
                self.skip(&entry.path, held);
            }
            Part::Foreign => self.skip(&entry.path, held),
        }
        self.last = Some(entry.path);
        Ok(())
    }

    /// A sum; `is_same` if the list here has the same one.
    fn sum(&mut self, path: ListPath, sum: Sum, is_same: bool) -> Result<(), Refusal> {
        if self.sums.is_none() {
            self.end_of_entries()?;
        }
        let count = self.sums.get_or_insert(0);
        *count += 1;
        if *count > self.terms.max_entries {
            return Err(Refusal::TooMany(self.terms.max_entries));
        }
        if self.last.as_ref().is_some_and(|last| *last >= path) {
            let why = Why::Unsorted;
            return Err(Refusal::Entry { path, why });
        }
        let before = if is_same {
            Some(sum)
        } else {
            self.old.sum(&path)?
        };
        match path.as_str().parse() {
            Ok(TreePath::Index(_) | TreePath::DirectorySizes) => {
                if let Some(wanted) = self.unproven.prove(&path, sum, before)? {
                    match wanted.path {
                        TreePath::DirectorySizes => self.plan.sizes = Some(wanted),
                        _ => self.plan.indexes.push(wanted),
                    }
                }
            }
            Ok(TreePath::Layout(_)) if !is_layout(sum) => {
                let why = Why::Layout;
                return Err(Refusal::Entry { path, why });
            }
            Ok(TreePath::Pieces(digest)) => {
                if let Some(row) = self.plan.carried.row_mut(&digest)
                    && row.is(Mark::Pieces)
                {
                    row.set(Mark::PiecesSum, true);
                    let size = piece_bytes(row.size);
                    let is_held = row.is(Mark::PiecesHeld) && before == Some(sum);
                    if row.is(Mark::Carried) && !is_held {
                        self.plan.pieces.push(PiecesFile {
                            digest,
                            sum: Some(sum),
                            size,
                            time: 0,
                        });
                    }
                }
            }
            _ => {}
        }
        self.last = Some(path);
        Ok(())
    }

    /// Before the first sum: what is left of the tree here is not in the list, and what is carried is known.
    fn end_of_entries(&mut self) -> Result<(), Refusal> {
        while let Some(old) = self.old.entry(None)? {
            self.missed(&old.path, old.kind);
        }
        if self.terms.filter.is_all() {
            self.plan.carried.carry_all();
        }
        self.last = None;
        self.sums = Some(0);
        Ok(())
    }

    fn finish(mut self) -> Result<Plan, Refusal> {
        if self.sums.is_none() {
            self.end_of_entries()?;
        }
        self.unproven.finish()?;
        check_totals(&self.state.totals, self.listed, self.bytes)?;
        let mut plan = self.plan;
        plan.is_verbatim = self.terms.filter.is_all() && plan.skipped == 0;
        if !plan.is_verbatim {
            plan.sizes = None;
            if !self.terms.filter.is_all() {
                plan.carried.find_directories();
            }
            let carried = &plan.carried;
            plan.directories.retain(|path| carried.has_directory(path));
        }
        let is = sum_up::enter(&mut plan, self.gone, &self.piece_times);
        if !self.terms.accept_shrink {
            let repositories = plan.carried.indexes().count() as u64;
            check_shrink("blobs", self.was.blobs, is)?;
            check_shrink("repositories", self.was.repositories, repositories)?;
        }
        plan.gone.sort_unstable();
        let wanted = plan.wanted();
        let sizes = wanted.iter().map(|wanted| wanted.size);
        plan.bytes = sizes.fold(0, u64::saturating_add);
        Ok(plan)
    }

    fn count_blob(&mut self, entry: &Entry) -> Result<(), Refusal> {
        self.listed.blobs += 1;
        self.bytes = self.bytes.saturating_add(entry.size);
        // At once: the row of each costs memory.
        let (state, list) = (self.state.totals.blobs, self.listed.blobs);
        if list > state {
            let what = "blobs";
            return Err(Refusal::Totals { what, state, list });
        }
        Ok(())
    }

    /// Something of the tree here that the list does not have.
    fn missed(&mut self, old: &ListPath, kind: Kind) {
        if kind != Kind::File {
            return;
        }
        let Ok(path) = old.as_str().parse::<TreePath>() else {
            return;
        };
        if !self.gone.contains_key(&path) {
            match &path {
                TreePath::Blob(_) => self.was.blobs += 1,
                TreePath::Index(_) => self.was.repositories += 1,
                _ => {}
            }
        }
        match path {
            // They are written anew.
            TreePath::State | TreePath::List(_) | TreePath::DirectorySizes => {}
            path => self.plan.gone.push(path),
        }
    }

    /// An entry that is no part of what is followed; what there is of it here is none either.
    fn skip(&mut self, path: &ListPath, held: Option<Own>) {
        self.plan.skipped += 1;
        if let Some(held) = held {
            self.missed(path, held.kind);
        }
    }
}

fn is_layout(sum: Sum) -> bool {
    Algorithm::Sha256.digest(OCI_LAYOUT) == Digest::Sha256(sum)
}
