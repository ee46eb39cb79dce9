//! One run: from the question whether there is anything new to the last file removed.
//!
//! In the order in which it happens, with what a kill leaves behind:
//!
//! 1. the tree is locked, and what the last run left is remembered ([`memory`](super::memory));
//! 2. the other tree's state is read. If that is the one followed last, this was all (*nothing*);
//! 3. its list is brought here and a plan is made of the difference (*a list nobody looks at*);
//! 4. what is lacking is brought into staging, and each file is verified there (*kept for the next run*);
//! 5. what is going to be visible is checked to be complete, before any of it is;
//! 6. the tree is marked; content, links, indexes get their names in this order (*content that nobody
//!    names; then some repositories that are new, each of them whole*);
//! 7. what is gone is written down, then the list and last the state take their names; the mark goes
//!    (*a marked tree: the next run looks at all of it, and brings nothing twice*);
//! 8. what has had its grace is removed, and a front end is told.
//!
//! Nothing here is changed by an upstream that cannot be followed; the next one is asked.

mod after;
mod attempt;
mod here;
mod judge;
mod publish;
mod trouble;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::digest::Digest;
use oci_mirror::tree::{TreePath, TreeWriter};

use super::memory::{Last, Memory};
use super::progress::Progress;
use super::report::Outcome;
use super::staging::Staging;
use super::upstream::{self, Upstream};
use super::{Options, Report};
use attempt::attempt;
use trouble::{Kind, Trouble};

/// Follows the first of the trees named that can be followed.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let upstreams = options
        .from
        .iter()
        .map(|source| Upstream::open(source, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let options = Arc::new(options);
    let opened = {
        let options = Arc::clone(&options);
        blocking(move || Mirror::open(options)).await
    };
    let mirror = match opened {
        Ok(mirror) => Arc::new(mirror),
        Err(trouble) => return Ok(failed(&trouble, Vec::new(), false)),
    };
    // It would write where others are verified, whoever is asked now.
    if let Err(error) = upstream::end_what_is_left(&mirror.staging).await {
        return Ok(failed(&error.into(), Vec::new(), mirror.is_partly_new()));
    }
    let mut notes = Vec::new();
    let mut refused = None;
    let mut failure = None;
    for upstream in &upstreams {
        let result = follow(&mirror, upstream).await;
        mirror.progress.finish();
        let trouble = match result {
            Ok(followed) => return Ok(after::finish(&mirror, upstream, followed, notes).await),
            Err(trouble) => trouble,
        };
        match trouble.kind {
            // Nobody else could do anything about it.
            Kind::Here | Kind::Stopped => {
                return Ok(failed(&trouble, notes, mirror.is_partly_new()));
            }
            Kind::Lie | Kind::Passing => {
                refused.get_or_insert(notes.len());
            }
            Kind::Away => {
                failure.get_or_insert(notes.len());
            }
        }
        notes.push(trouble.to_string());
    }
    let outcome = match refused {
        Some(_) => Outcome::Refused,
        None => Outcome::Failed,
    };
    let mut report = Report::of(outcome);
    if let Some(first) = refused.or(failure) {
        report.error = Some(notes.remove(first));
    }
    report.notes = notes;
    report.partly_new = mirror.is_partly_new();
    Ok(report)
}

fn failed(trouble: &Trouble, notes: Vec<String>, partly_new: bool) -> Report {
    Report {
        notes,
        partly_new,
        error: Some(trouble.to_string()),
        ..Report::of(Outcome::Failed)
    }
}

/// The mirror, locked for this run.
struct Mirror {
    options: Arc<Options>,
    writer: TreeWriter,
    staging: Staging,
    progress: Progress,
    /// What is remembered; `None` if the tree never followed another.
    memory: Option<Memory>,
    /// Whether the tree was exactly what its list says, as the last run left it.
    was_known: bool,
    /// The digest of the state that was published here before this run.
    was_published: Option<Digest>,
    /// What this run has found to be damaged here.
    damaged: Mutex<BTreeSet<TreePath>>,
    /// The time at which the run began, in seconds since 1970.
    now: i64,
}

fn time(options: &Options) -> i64 {
    options.now.unwrap_or_else(Timestamp::now).as_second()
}

/// How an upstream was followed.
enum Followed {
    /// There was nothing new.
    Unchanged(Last),
    /// The tree has become what the other one is.
    Anew(Last, Done),
    /// What would be done.
    Planned(Done),
}

/// What was done, or would be.
#[derive(Debug, Default)]
struct Done {
    files: u64,
    bytes: u64,
    received: u64,
    links: u64,
    kept: u64,
    skipped: u64,
}

impl Mirror {
    fn open(options: Arc<Options>) -> Result<Self, Trouble> {
        let writer = TreeWriter::open(&options.tree)?;
        let staging = Staging::open(&writer)?;
        let memory =
            Memory::read(&options.tree).map_err(|source| Trouble::new(Kind::Here, source))?;
        let last = memory.as_ref().and_then(|memory| memory.last.as_ref());
        let published = here::published(writer.tree());
        let was_known = !options.check
            && !writer.is_dirty()
            && last.is_some_and(|last| Some(last.published) == published);
        let now = time(&options);
        Ok(Self {
            options,
            writer,
            staging,
            progress: Progress::for_stderr(),
            memory,
            was_known,
            was_published: published,
            damaged: Mutex::default(),
            now,
        })
    }

    /// Whether the tree is exactly what its list says: as the last run left it, no attempt of this run was
    /// cut off in the middle, and none has found damage.
    fn is_known(&self) -> bool {
        self.was_known && !self.writer.is_dirty() && self.damaged().is_empty()
    }

    /// What this run has found to be damaged here.
    fn damaged(&self) -> MutexGuard<'_, BTreeSet<TreePath>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a plan that takes account of this damage can be another one. Each costs a look at the tree.
    fn is_new_damage(&self, path: &TreePath) -> bool {
        let mut damaged = self.damaged();
        damaged.len() < MAX_DAMAGED && damaged.insert(path.clone())
    }

    /// Whether what has had its grace may be removed before a run has come to its end.
    fn may_make_room(&self) -> bool {
        self.is_known() && !self.options.dry_run
    }

    /// Whether something of what was to be followed can be seen here, though the run failed.
    fn is_partly_new(&self) -> bool {
        self.writer.is_dirty() || here::published(self.writer.tree()) != self.was_published
    }

    /// The time it is, in seconds since 1970. A run may take hours.
    fn time(&self) -> i64 {
        time(&self.options)
    }

    fn last(&self) -> Option<&Last> {
        self.memory.as_ref()?.last.as_ref()
    }

    fn is_stopped(&self) -> Result<(), Trouble> {
        if self.options.shutdown.is_cancelled() {
            return Err(upstream::Error::Stopped.into());
        }
        Ok(())
    }
}

/// Follows one upstream, and waits for it where it is just being changed.
async fn follow(mirror: &Arc<Mirror>, upstream: &Upstream) -> Result<Followed, Trouble> {
    let mut delays = AGAIN.into_iter();
    let mut has_made_room = false;
    loop {
        let trouble = match attempt(mirror, upstream).await {
            Err(trouble) => trouble,
            followed => return followed,
        };
        match trouble.kind {
            Kind::Passing => {
                let Some(delay) = delays.next() else {
                    return Err(trouble);
                };
                tracing::info!(%trouble, "the tree over there is just being changed; asking again");
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = mirror.options.shutdown.cancelled() => {}
                }
                mirror.is_stopped()?;
            }
            // What has had its grace would go at the end of this run.
            // Not once names were given: an index may name by now what the old list does not have.
            Kind::Here if trouble.is_full && mirror.may_make_room() && !has_made_room => {
                has_made_room = true;
                let here = Arc::clone(mirror);
                if blocking(move || after::make_room(&here)).await? == 0 {
                    return Err(trouble);
                }
            }
            Kind::Here
                if trouble
                    .damaged
                    .as_ref()
                    .is_some_and(|path| mirror.is_new_damage(path)) =>
            {
                tracing::warn!(%trouble, "looking at the tree, and bringing it again");
            }
            Kind::Here | Kind::Away | Kind::Lie | Kind::Stopped => return Err(trouble),
        }
    }
}

/// For how many damaged files one run plans anew.
const MAX_DAMAGED: usize = 10;

/// How long a tree that is just being changed is given.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Runs work that blocks on a thread for it.
async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down; nobody will look at the result.
            Err(_) => std::future::pending().await,
        },
    }
}
