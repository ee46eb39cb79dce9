//! Prune: what no index reaches any more goes, after a grace period.
//!
//! `survey` looks at every file once and decides what is unneeded, `since` remembers from run to run
//! for how long it has been, and the tree's writer removes it. Pruning is publishing backwards: links
//! before blobs, manifests before layers, so that a run that is killed leaves a sound tree with some
//! litter, and the next one finishes.
//!
//! When in doubt, nothing goes. A repository whose index or manifests cannot be read keeps all it links,
//! since nobody knows what it needs.

pub mod report;

mod blobs;
mod files;
mod rank;
mod since;
mod survey;

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use oci_mirror::error_chain::chain;
use oci_mirror::tree::writer::unreferenced;
use oci_mirror::tree::{Tree, TreePath, TreeWriter};
use tracing::warn;

use rank::Rank;
pub use report::Report;
use report::{Kept, Removed};
use since::Records;
use survey::{Survey, Unneeded};

/// How far the clock may be behind the tree's last writer, which may have been another machine.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(1);

/// What to prune, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The tree.
    pub tree: PathBuf,
    /// For how long something must have been unneeded.
    pub grace: Duration,
    /// Say what would go, and change nothing.
    pub dry_run: bool,
    /// The time to go by; `None` for the time it is.
    pub now: Option<Timestamp>,
}

/// Prunes. Fails if there is no tree, or if something could not be removed; the next run then finishes.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let tree = Tree::open(&options.tree)?;
    let state = match tree.state() {
        Err(error) if error.is_not_found() => None,
        state => Some(state?),
    };
    // Opening for writing would make a tree of whatever directory was mistyped.
    anyhow::ensure!(
        state.is_some() || tree.root().join("repos").is_dir(),
        "{} holds no tree: there is neither a state.json nor a repository",
        tree.root().display()
    );
    let now = options.now.unwrap_or_else(Timestamp::now);
    let written = state.map(|state| state.created);
    if let Some(written) = written.filter(|written| written.duration_since(now) > CLOCK_SLACK) {
        // By such a clock nothing has an age, and what is remembered by it would go at once when it
        // is right again.
        warn!("removing nothing: it is {now} by the clock, but the tree was written at {written}");
        let survey = Survey::take(&tree, &mut records(&tree), now.as_second())?;
        return Ok(sort_out(survey, options, None).1);
    }
    if options.dry_run {
        let survey = Survey::take(&tree, &mut records(&tree), now.as_second())?;
        return Ok(sort_out(survey, options, Some(now)).1);
    }
    let writer = TreeWriter::open(&options.tree)?;
    let mut records = records(writer.tree());
    let mut survey = Survey::take(writer.tree(), &mut records, now.as_second())?;
    // Remembered first: to take away one name of a file makes its others look new.
    match writer.remember_unreferenced(&records.to_bytes()) {
        // Who prunes a full disk wants room on it, and what looks new is only kept for longer.
        Err(error) if error.is_out_of_space() => {
            let error = chain(&error);
            warn!(error, "not remembering what is unneeded before it goes");
        }
        remembered => remembered?,
    }
    let empty = std::mem::take(&mut survey.empty);
    let (expired, report) = sort_out(survey, options, Some(now));
    writer.remove(&steps(&expired), &empty)?;
    writer.finish(now)?;
    records.forget(expired.iter().map(|unneeded| &unneeded.path));
    writer.remember_unreferenced(&records.to_bytes())?;
    Ok(report)
}

/// What earlier runs remember; without it, the times of the files have to do.
fn records(tree: &Tree) -> Records {
    let torn = |error: &dyn std::error::Error| {
        let error = chain(error);
        warn!(
            error,
            "not using what earlier runs remember as unneeded: starting over"
        );
        Records::default()
    };
    match unreferenced::read(tree) {
        Ok(None) => Records::default(),
        Ok(Some(bytes)) => Records::from_bytes(&bytes).unwrap_or_else(|error| torn(&error)),
        Err(error) => torn(&error),
    }
}

/// What goes, in the order in which it does, and the report of it. Nothing goes when it is not known what
/// time it is.
fn sort_out(survey: Survey, options: &Options, now: Option<Timestamp>) -> (Vec<Unneeded>, Report) {
    let grace = i64::try_from(options.grace.as_secs()).unwrap_or(i64::MAX);
    let is_expired = |unneeded: &Unneeded| {
        now.is_some_and(|now| now.as_second().saturating_sub(unneeded.since) >= grace)
    };
    let (mut expired, kept): (Vec<_>, Vec<_>) = survey.unneeded.into_iter().partition(is_expired);
    expired.sort_by_key(step);
    let removed: Vec<_> = expired.iter().map(Removed::new).collect();
    let report = Report {
        dry_run: options.dry_run,
        freed: removed.iter().map(|removed| removed.bytes).sum(),
        removed,
        kept: Kept {
            files: kept.len() as u64,
            bytes: kept.iter().map(|unneeded| unneeded.bytes).sum(),
        },
        damaged: survey.damaged,
    };
    (expired, report)
}

/// Roots before leaves: what may still be needed by a file goes after it.
fn step(unneeded: &Unneeded) -> (u8, Rank) {
    let rank = unneeded.rank;
    match (&unneeded.path, rank) {
        (TreePath::Link(..), Rank::Index | Rank::Manifest) => (0, rank),
        (TreePath::Link(..), Rank::Leaf) => (1, rank),
        (TreePath::Blob(_), Rank::Index | Rank::Manifest) => (2, rank),
        (TreePath::Blob(_), Rank::Leaf) => (3, rank),
        // A blob without pieces would be damage, pieces without a blob are litter.
        (TreePath::Pieces(_), _) => (4, rank),
        (TreePath::Index(_), _) => (5, rank),
        (_, _) => (6, rank),
    }
}

fn steps(expired: &[Unneeded]) -> Vec<Vec<TreePath>> {
    expired
        .chunk_by(|a, b| step(a).0 == step(b).0)
        .map(|step| step.iter().map(|unneeded| unneeded.path.clone()).collect())
        .collect()
}
