//! What follows once the tree is what it should be: files for direct pulls, removals, and telling others.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use oci_mirror::digest::Digest;
use oci_mirror::tree::list::{Kind as EntryKind, Reader, Record};
use oci_mirror::tree::{RepoDir, TreePath};

use super::trouble::{Kind, Trouble};
use super::{Followed, Mirror, blocking};
use crate::report;
use crate::site_config::static_v2;
use crate::sync::Report;
use crate::sync::gone::{self, Gone};
use crate::sync::memory::{Last, Memory};
use crate::sync::report::Outcome;
use crate::sync::upstream::Upstream;

/// Does what is left to do, and says how the run has ended.
pub(super) async fn finish(
    mirror: &Arc<Mirror>,
    upstream: &Upstream,
    followed: Followed,
    notes: Vec<String>,
) -> Report {
    let (outcome, last, done) = match followed {
        Followed::Unchanged(last) => (Outcome::Unchanged, Some(last), None),
        Followed::Anew(last, done) => (Outcome::Followed, Some(last), Some(done)),
        Followed::Planned(done) => (Outcome::DryRun, None, Some(done)),
    };
    let mut report = Report {
        from: Some(upstream.name().to_owned()),
        notes,
        ..Report::of(outcome)
    };
    if let Some(done) = done {
        report.files = done.files;
        report.bytes = done.bytes;
        report.received = done.received;
        report.links = done.links;
        report.kept = done.kept;
        report.skipped = done.skipped;
    }
    let Some(last) = last.filter(|_| !mirror.options.dry_run) else {
        return report;
    };
    let here = Arc::clone(mirror);
    let is_changed = outcome == Outcome::Followed;
    let (last, removed, mut undone) = blocking(move || here.tidy(last, is_changed)).await;
    report.serial = Some(last.serial);
    report.kept = last.kept;
    report.removed = removed;
    if let Some(to) = &mirror.options.report
        && let Err(error) = report::check_in(&mirror.options.tree, to, false).await
    {
        undone.push(format!("cannot report: {error:#}"));
    }
    if !undone.is_empty() {
        report.outcome = Outcome::Partial;
        report.notes.append(&mut undone);
    }
    report
}

impl Mirror {
    /// Brings the files for direct pulls up to date, and then removes what has had its grace. Returns what
    /// is remembered now, how many files went, and what was left undone.
    fn tidy(&self, mut last: Last, is_changed: bool) -> (Last, u64, Vec<String>) {
        let before = last.clone();
        let mut undone = Vec::new();
        let mut removed = 0;
        // Old ones lead to what is about to go.
        let behind = match self.update_static_v2(&last, is_changed) {
            Ok(None) => {
                last.static_v2.clone_from(&self.options.static_v2);
                Some(BTreeSet::new())
            }
            Ok(Some(behind)) => {
                undone.push(format!("files for direct pulls: {:#}", behind.error));
                Some(behind.repositories)
            }
            Err(error) => {
                undone.push(format!("files for direct pulls: {error:#}"));
                None
            }
        };
        if let Some(behind) = behind {
            match self.remove_if_due(&last, &behind) {
                Ok(None) => {}
                Ok(Some(went)) => {
                    removed = went.removed;
                    last.oldest_gone = gone::oldest(&went.left);
                    last.kept = went.left.len() as u64;
                }
                Err(trouble) => undone.push(trouble.to_string()),
            }
        }
        if last != before
            && let Err(error) = Memory::new(Some(last.clone())).write(&self.writer)
        {
            undone.push(Trouble::from(error).to_string());
        }
        (last, removed, undone)
    }

    /// What could not be brought up to date, of what there is to be.
    fn update_static_v2(
        &self,
        last: &Last,
        is_changed: bool,
    ) -> anyhow::Result<Option<static_v2::Behind>> {
        match &self.options.static_v2 {
            Some(directory) if is_changed || last.static_v2.as_ref() != Some(directory) => {
                let (_, behind) = static_v2::update_each(self.writer.tree(), directory)?;
                Ok(behind)
            }
            _ => Ok(None),
        }
    }

    fn remove_if_due(
        &self,
        last: &Last,
        behind: &BTreeSet<RepoDir>,
    ) -> Result<Option<Went>, Trouble> {
        let now = self.time();
        let is_due = |since| gone::is_due(since, now, self.grace());
        if last.oldest_gone.is_some_and(is_due) {
            remove_due(self, behind).map(Some)
        } else {
            Ok(None)
        }
    }

    fn grace(&self) -> i64 {
        i64::try_from(self.options.grace.as_secs()).unwrap_or(i64::MAX)
    }
}

/// What was removed, and what was not.
struct Went {
    removed: u64,
    left: Gone,
}

/// Removes what has had its grace before a run has come to its end; how many files went. The tree is what the last
/// one has made of it, and so are the files for direct pulls, or they are brought up to date first.
pub(super) fn make_room(mirror: &Mirror) -> Result<u64, Trouble> {
    let updated = match mirror.last() {
        Some(last) => mirror.update_static_v2(last, false),
        None => Ok(None),
    };
    match updated {
        Ok(behind) => {
            let behind = behind.map(|behind| behind.repositories);
            Ok(remove_due(mirror, &behind.unwrap_or_default())?.removed)
        }
        Err(error) => {
            tracing::warn!("files for direct pulls: {error:#}; nothing is removed to make room");
            Ok(0)
        }
    }
}

/// Removes what has had its grace, but for what is needed by pulls from repositories whose files for that are old.
///
/// Nothing that the list in place has is removed, whatever was written down: a run may have been cut off
/// after it had written down what was to go, and the next may have followed a tree that has it.
fn remove_due(mirror: &Mirror, behind: &BTreeSet<RepoDir>) -> Result<Went, Trouble> {
    let here = |error: anyhow::Error| Trouble::new(Kind::Here, error);
    let mut gone = match gone::read(mirror.writer.tree()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            // What it had is found again by looking at all of the tree.
            mirror.writer.mark_stale()?;
            return Err(here(error.into()));
        }
        gone => gone.map_err(|error| here(error.into()))?,
    };
    let spared = spare(&mut gone, behind);
    let mut steps = gone::take_due(&mut gone, mirror.time(), mirror.grace());
    let listed = listed(mirror, &steps).map_err(here)?;
    for step in &mut steps {
        step.retain(|path| !listed.files.contains(path));
    }
    let removed = steps.iter().map(Vec::len).sum::<usize>() as u64;
    mirror
        .writer
        .remove_unlisted(&steps, &[], &listed.directories)?;
    gone.extend(spared);
    gone::write(&mirror.writer, &gone)?;
    Ok(Went {
        removed,
        left: gone,
    })
}

/// Takes out all that these repositories had, with the content: of what is gone, the old names of their manifests
/// lead to nothing else, and neither do these manifests.
fn spare(gone: &mut Gone, behind: &BTreeSet<RepoDir>) -> Gone {
    let linked: HashSet<Digest> = gone
        .keys()
        .filter_map(|path| match path {
            TreePath::Link(repo, digest) if behind.contains(repo) => Some(*digest),
            _ => None,
        })
        .collect();
    let is_needed = |path: &TreePath| match path {
        TreePath::Index(repo) | TreePath::Layout(repo) | TreePath::Link(repo, _) => {
            behind.contains(repo)
        }
        TreePath::Blob(digest) | TreePath::Pieces(digest) => linked.contains(digest),
        TreePath::State | TreePath::List(_) | TreePath::DirectorySizes => false,
    };
    let mut spared = Gone::new();
    gone.retain(|path, since| {
        let is_needed = is_needed(path);
        if is_needed {
            spared.insert(path.clone(), *since);
        }
        !is_needed
    });
    spared
}

/// What the list has of what is about to go.
#[derive(Default)]
struct Listed {
    files: HashSet<TreePath>,
    /// The directories these are in, relative to the tree.
    directories: HashSet<PathBuf>,
}

fn listed(mirror: &Mirror, steps: &[Vec<TreePath>]) -> anyhow::Result<Listed> {
    let mut listed = Listed::default();
    let mut paths: HashMap<String, &TreePath> = HashMap::new();
    let mut directories = HashSet::new();
    for path in steps.iter().flatten() {
        let text = path.to_string();
        let above = Path::new(&text).ancestors().skip(1);
        directories.extend(above.map(Path::to_owned));
        paths.insert(text, path);
    }
    if paths.is_empty() {
        return Ok(listed);
    }
    let list = mirror.published_list();
    let list = list.context("the file list is not the one of state.json")?;
    for record in Reader::new(BufReader::new(list)) {
        let Record::Entry(entry) = record? else {
            break;
        };
        let text = entry.path.as_str();
        if entry.kind == EntryKind::Directory {
            listed.directories.extend(directories.take(Path::new(text)));
        } else if let Some(path) = paths.get(text) {
            listed.files.insert((*path).clone());
        }
    }
    Ok(listed)
}
