//! The end of a run: the file list, `DIRECTORY_SIZES.txt` and, last, `state.json`.
//!
//! All three are prepared in [`TEMPORARY`](super::TEMPORARY) and then take their names one right after
//! the other. A list belongs to the state that names its digest; killed in between, the state in place
//! names no list that is there, the mark [`DIRTY`] is still set, and the next run writes them anew.
//!
//! A mirror skips what is older than its last run and has the size it knows. It may have run after an
//! `index.json` was published and before the list says so, so a changed index is given the time at
//! which the list is made.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use tempfile::NamedTempFile;
use tracing::warn;

use super::disk::persist;
use super::previous::Previous;
use super::survey::{Survey, as_sum, spooled};
use super::{DIRTY, Error, TreeWriter, lock};
use crate::digest::{Algorithm, Digest};
use crate::tree::list::{Access, Entry, Kind, ListPath, Record, Sum, Writer};
use crate::tree::path::{Module, RepoDir, TreePath};
use crate::tree::state::{FORMAT, ListRef, State};

impl TreeWriter {
    /// Makes the next [`finish`](Self::finish) look at the whole tree and replace what is not right of
    /// the list, the sizes and the state, as if something had been published.
    pub fn mark_stale(&self) -> Result<(), Error> {
        self.mark_dirty()
    }

    /// Replaces the list, `DIRECTORY_SIZES.txt` and `state.json` if anything was published since they
    /// were written; says whether it did.
    ///
    /// `now` becomes the time of creation. The serial only grows, whatever the clock does. Times in the
    /// list are those of the file system's clock.
    pub fn finish(&self, now: Timestamp) -> Result<bool, Error> {
        let _one_at_a_time = lock(&self.publishing);
        let old = match self.tree.state() {
            Ok(state) => Some(state),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let listed = old.as_ref().and_then(|old| old.list.as_ref());
        let module = match (&self.module, listed) {
            (Some(module), _) => module.clone(),
            (None, Some(listed)) => listed.module.clone(),
            (None, None) => Module::default(),
        };
        // A tree of an older version has no list yet.
        let is_listed = listed.is_some_and(|listed| listed.module == module);
        if is_listed && !self.temporary.join(DIRTY).exists() {
            return Ok(false);
        }
        let previous = match listed {
            Some(listed) => Previous::open(&self.tree, listed)?,
            None => None,
        };
        let is_trusted = previous.is_some() && is_listed;
        let survey = self.survey(previous)?;
        self.sync_mounts(&survey)?;
        let state = State {
            format: FORMAT,
            serial: old.as_ref().map_or(1, |old| old.serial + 1),
            created: now,
            list: None,
            totals: survey.totals,
        };
        let next = self.prepare(survey, state, module)?;
        let has_same_totals = old.as_ref().map(|old| old.totals) == Some(next.state.totals);
        if is_trusted && has_same_totals && next.sizes.is_none() && self.is_in_place(&next)? {
            // A run was cut off after its state had its name, with nothing left to do.
            self.unmark_dirty()?;
            return Ok(false);
        }
        // Also for a tree that was not: a reader may tell from it what to expect.
        self.mark_dirty()?;
        let renamed = listed.filter(|_| !is_listed).map(|old| &old.module);
        self.put_in_place(next, renamed)?;
        self.unmark_dirty()?;
        Ok(true)
    }

    /// Takes off the totals of the state in place what is about to go: a state that counts more than there
    /// is makes readers take the tree for torn, and a run may be cut off before its end.
    ///
    /// Less than there is does no harm, so it does not matter how often this is repeated.
    pub(super) fn lower_totals(&self, repositories: usize, tags: usize) -> Result<(), Error> {
        if repositories == 0 && tags == 0 {
            return Ok(());
        }
        let mut state = match self.tree.state() {
            Err(error) if error.is_not_found() => return Ok(()),
            state => state?,
        };
        let totals = &mut state.totals;
        totals.repositories = totals.repositories.saturating_sub(repositories as u64);
        totals.tags = totals.tags.saturating_sub(tags as u64);
        state.serial += 1;
        self.replace(&TreePath::State, &state.to_bytes())?;
        self.sync_directories(&BTreeSet::from([self.tree.root().to_owned()]))
    }

    /// Writes everything that is to get a name, durably, next to the tree.
    fn prepare(&self, survey: Survey, mut state: State, module: Module) -> Result<Next, Error> {
        let failed = |source| Error::write(&self.temporary, source);
        let list = self.temporary_file()?;
        // The kernel stamps the files, so its clock says when the list is made.
        let made = list.as_file().metadata().map_err(failed)?.mtime();
        let touched = survey
            .changed
            .iter()
            .filter_map(|repo| self.touch_index(repo))
            .collect::<HashMap<ListPath, i64>>();

        let mut specials = Vec::new();
        let text = survey.sizes.to_text();
        let path = TreePath::DirectorySizes;
        let in_place = self.tree.read(&path, text.len() as u64);
        let sizes = match (survey.sizes_entry, in_place) {
            (Some(entry), Ok(bytes)) if bytes == text.as_bytes() => {
                specials.push(entry);
                None
            }
            _ => {
                specials.extend(entry_of(&path, made, text.len()));
                Some(self.prepared(text.as_bytes())?)
            }
        };
        let sizes_sum = as_sum(Algorithm::Sha256.digest(text.as_bytes()));
        // A digest is as long as any other, so the length of the state is known before its content.
        let digest = Digest::Sha256([0; 32]);
        state.list = Some(ListRef { module, digest });
        specials.extend(entry_of(&TreePath::State, made, state.to_bytes().len()));

        let special_sum = path.to_string().parse().ok().zip(sizes_sum);
        let mut writer = Writer::new(BufWriter::new(list.as_file())).map_err(failed)?;
        merge_entries(survey.entries, specials, &touched, &mut writer).map_err(failed)?;
        merge_sums(survey.sums, special_sum, &mut writer).map_err(failed)?;
        let (_, digest) = writer.finish().map_err(failed)?;
        list.as_file().sync_all().map_err(failed)?;
        if let Some(list) = &mut state.list {
            list.digest = digest;
        }
        Ok(Next { sizes, list, state })
    }

    /// Whether the list in place, known to be the one its state names, says the same.
    fn is_in_place(&self, next: &Next) -> Result<bool, Error> {
        let Some(list) = &next.state.list else {
            return Ok(false);
        };
        let path = TreePath::List(list.module.clone());
        let in_place = BufReader::new(self.tree.open_file(&path)?);
        let prepared = File::open(next.list.path()).map(BufReader::new);
        prepared
            .and_then(|prepared| is_same_but_for_the_state(in_place, prepared))
            .map_err(|source| Error::write(next.list.path(), source))
    }

    /// Gives everything its name. The list of the name the tree had goes before the state that does not
    /// name it: nobody would look for it afterwards.
    fn put_in_place(&self, next: Next, renamed: Option<&Module>) -> Result<(), Error> {
        let state = self.prepared(&next.state.to_bytes())?;
        let target = |path: TreePath| path.under(self.tree.root());
        let root = BTreeSet::from([self.tree.root().to_owned()]);
        if let Some(sizes) = next.sizes {
            persist(sizes, &target(TreePath::DirectorySizes))?;
        }
        if let Some(list) = next.state.list {
            persist(next.list, &target(TreePath::List(list.module)))?;
        }
        if let Some(module) = renamed {
            remove_if_there(&target(TreePath::List(module.clone())))?;
        }
        self.sync_directories(&root)?;
        persist(state, &target(TreePath::State))?;
        self.sync_directories(&root)
    }

    /// Gives an index the time of now; returns the time that its entry in the list has then.
    ///
    /// `None` if it is not ours to change: mirrors still see it if none of them ran during this run.
    fn touch_index(&self, repo: &RepoDir) -> Option<(ListPath, i64)> {
        let path = TreePath::Index(repo.clone());
        let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let now = Timestamps {
            last_access: time(UTIME_OMIT),
            last_modification: time(UTIME_NOW),
        };
        let opened = self.tree.open_file(&path).map_err(io::Error::other);
        let touched = opened.and_then(|file| {
            rustix::fs::futimens(&file, &now)?;
            file.metadata()
        });
        match touched {
            Ok(metadata) => {
                let time = metadata.mtime().max(metadata.ctime());
                Some((path.to_string().parse().ok()?, time))
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, %path, "cannot give a changed index the time of now");
                None
            }
        }
    }

    pub(super) fn unmark_dirty(&self) -> Result<(), Error> {
        remove_if_there(&self.temporary.join(DIRTY))
    }
}

/// What gets its name next.
struct Next {
    /// `None` if the one in place is right.
    sizes: Option<NamedTempFile>,
    list: NamedTempFile,
    state: State,
}

fn entry_of(path: &TreePath, time: i64, size: usize) -> Option<Entry> {
    Some(Entry {
        time,
        kind: Kind::File,
        access: Access::Public,
        size: size as u64,
        path: path.to_string().parse().ok()?,
    })
}

/// Copies the entries that the walk found, with the times of those touched since, and puts the `specials`
/// where they belong.
fn merge_entries(
    mut spool: NamedTempFile,
    specials: Vec<Entry>,
    touched: &HashMap<ListPath, i64>,
    writer: &mut Writer<impl Write>,
) -> io::Result<()> {
    let mut specials = specials.into_iter().peekable();
    for record in spooled(&mut spool)? {
        let Record::Entry(mut entry) = record.map_err(io::Error::other)? else {
            continue;
        };
        while let Some(special) = specials.next_if(|special| special.path < entry.path) {
            writer.entry(&special)?;
        }
        if let Some(time) = touched.get(&entry.path) {
            entry.time = *time;
        }
        writer.entry(&entry)?;
    }
    specials.try_for_each(|special| writer.entry(&special))
}

/// Copies the sums that the walk found, and puts the `special` one where it belongs.
fn merge_sums(
    mut spool: NamedTempFile,
    mut special: Option<(ListPath, Sum)>,
    writer: &mut Writer<impl Write>,
) -> io::Result<()> {
    for record in spooled(&mut spool)? {
        let Record::Sum(path, sum) = record.map_err(io::Error::other)? else {
            continue;
        };
        if let Some((path, sum)) = special.take_if(|(special, _)| *special < path) {
            writer.sum(&path, &sum)?;
        }
        writer.sum(&path, &sum)?;
    }
    special.map_or(Ok(()), |(path, sum)| writer.sum(&path, &sum))
}

/// Compares two lists without the entry of `state.json`, whose time is that of the list.
fn is_same_but_for_the_state(mut one: impl BufRead, mut other: impl BufRead) -> io::Result<bool> {
    let next = |from: &mut dyn BufRead, line: &mut Vec<u8>| {
        loop {
            line.clear();
            let length = from.read_until(b'\n', line)?;
            if !line.ends_with(b"\tstate.json\n") {
                return Ok::<_, io::Error>(length > 0);
            }
        }
    };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        let goes_on = next(&mut one, &mut left)?;
        if goes_on != next(&mut other, &mut right)? || left != right {
            return Ok(false);
        }
        if !goes_on {
            return Ok(true);
        }
    }
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::write(path, source)),
        _ => Ok(()),
    }
}
