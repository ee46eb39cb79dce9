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
mod here;
mod judge;
mod publish;
mod trouble;

use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::error_chain::chain;
use oci_mirror::tree::state::{ListRef, State};
use oci_mirror::tree::{TreePath, TreeWriter};

use super::memory::{Last, Memory};
use super::plan::{self, Here, Plan, Refusal, Terms};
use super::progress::Progress;
use super::report::Outcome;
use super::staging::Staging;
use super::upstream::{self, Fetched, Upstream};
use super::{Options, Report};
use here::Known;
use judge::{Said, Verdict, judge};
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
        Err(trouble) => return Ok(failed(Outcome::Failed, &trouble, Vec::new())),
    };
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
            Kind::Here | Kind::Stopped => return Ok(failed(Outcome::Failed, &trouble, notes)),
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
    Ok(report)
}

fn failed(outcome: Outcome, trouble: &Trouble, notes: Vec<String>) -> Report {
    Report {
        notes,
        error: Some(trouble.to_string()),
        ..Report::of(outcome)
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
    /// Whether the tree is exactly what its list says, as the last run left it.
    is_known: bool,
    /// The time it is, in seconds since 1970.
    now: i64,
}

/// How an upstream was followed.
enum Followed {
    /// There was nothing new.
    Unchanged(Last),
    /// The tree has become what the other one is.
    Followed(Last, Done),
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
        let is_known = !options.check
            && !writer.is_dirty()
            && last.is_some_and(|last| Some(last.published) == published);
        let now = options.now.unwrap_or_else(Timestamp::now).as_second();
        Ok(Self {
            options,
            writer,
            staging,
            progress: Progress::for_stderr(),
            memory,
            is_known,
            now,
        })
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
            Kind::Here if trouble.is_full && mirror.is_known && !has_made_room => {
                has_made_room = true;
                let here = Arc::clone(mirror);
                if blocking(move || after::remove_due(&here)).await?.removed == 0 {
                    return Err(trouble);
                }
            }
            Kind::Here | Kind::Away | Kind::Lie | Kind::Stopped => return Err(trouble),
        }
    }
}

/// How long a tree that is just being changed is given.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Follows one upstream as it is now.
async fn attempt(mirror: &Arc<Mirror>, upstream: &Upstream) -> Result<Followed, Trouble> {
    let bytes = mirror
        .unless_stopped(upstream.state(&mirror.staging))
        .await
        .map_err(|error| match error {
            // No tree, or one that is not there yet.
            upstream::Error::NotFound { .. } => Trouble::new(Kind::Away, error),
            error => error.into(),
        })?;
    let state = State::from_bytes(&bytes)
        .map_err(|error| Trouble::new(Kind::Passing, error).of(upstream.name()))?;
    let said = Said {
        from: upstream.name().to_owned(),
        serial: state.serial,
        digest: Algorithm::Sha256.digest(&bytes),
    };
    let filter = mirror.options.filter.fingerprint();
    let is_same_filter = mirror.last().is_none_or(|last| last.filter == filter);
    let verdict = judge(mirror.last(), &said, &mirror.options);
    match (verdict, mirror.last()) {
        (Verdict::Same | Verdict::Sibling, Some(last)) if mirror.is_known && is_same_filter => {
            return Ok(Followed::Unchanged(last.clone()));
        }
        (Verdict::Same | Verdict::New, _) => {}
        (Verdict::Behind { last }, _) => {
            return Err(Trouble::behind(&said, last));
        }
        (Verdict::Sibling, _) => return Err(Trouble::sibling(&said)),
    }
    let Some(list) = &state.list else {
        let error = anyhow::anyhow!("{} has no file list", upstream.name());
        return Err(Trouble::new(Kind::Lie, error));
    };
    let path = mirror.list(upstream, list, verdict).await?;
    let work = Work {
        said,
        state_bytes: bytes,
        state,
        list: path,
        filter,
        accept_shrink: mirror.options.accept_shrink || !is_same_filter,
    };
    let here = Arc::clone(mirror);
    let (work, plan) = blocking(move || {
        let plan = here.plan(&work)?;
        Ok::<_, Trouble>((work, plan))
    })
    .await
    .map_err(|trouble| trouble.of(upstream.name()))?;
    mirror.is_stopped()?;
    if mirror.options.dry_run {
        return Ok(Followed::Planned(planned(&plan)));
    }
    let fetched = mirror
        .fetch(upstream, &plan)
        .await
        .map_err(|trouble| trouble.of(upstream.name()))?;
    mirror.is_stopped()?;
    let here = Arc::clone(mirror);
    let published = blocking(move || publish::publish(&here, &work, &plan, &fetched)).await;
    let (last, done) = published.map_err(|trouble| trouble.of(upstream.name()))?;
    Ok(Followed::Followed(last, done))
}

/// What is followed, as far as it is here.
struct Work {
    said: Said,
    state_bytes: Bytes,
    state: State,
    /// Where the list lies.
    list: PathBuf,
    filter: Digest,
    accept_shrink: bool,
}

impl Mirror {
    /// Waits for something until the run is ended from outside.
    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, upstream::Error>>,
    ) -> Result<T, upstream::Error> {
        tokio::select! {
            result = work => result,
            () = self.options.shutdown.cancelled() => Err(upstream::Error::Stopped),
        }
    }

    /// Brings the list here, unless the one that is kept is the same.
    async fn list(
        self: &Arc<Self>,
        upstream: &Upstream,
        list: &ListRef,
        verdict: Verdict,
    ) -> Result<PathBuf, Trouble> {
        let (here, wanted) = (Arc::clone(self), list.digest);
        let is_same = verdict == Verdict::Same;
        let kept = blocking(move || here.kept_list(is_same.then_some(wanted))).await?;
        match kept {
            here::Kept::Same(path) => Ok(path),
            here::Kept::Basis(basis) => {
                let brought = upstream.list(list, basis.as_deref(), &self.staging);
                Ok(self.unless_stopped(brought).await?)
            }
        }
    }

    /// Compares the list with what is here.
    fn plan(&self, work: &Work) -> Result<Plan, Trouble> {
        let terms = self.terms(work);
        let gone = self.gone()?;
        let known = if self.is_known && gone.is_whole {
            Known::ByList
        } else {
            Known::Not
        };
        let plan = self.plan_from(known, work, &gone, &terms);
        match plan {
            Err(Refusal::Here(error)) if known == Known::ByList => {
                tracing::warn!(error = %chain(&error), "the file list here is damaged; looking at the tree");
                Ok(self.plan_from(Known::Not, work, &gone, &terms)?)
            }
            plan => Ok(plan?),
        }
    }

    fn plan_from(
        &self,
        known: Known,
        work: &Work,
        gone: &here::InGrace,
        terms: &Terms<'_>,
    ) -> Result<Plan, Refusal> {
        let baseline = self.baseline(known)?;
        let here = Here {
            tree: baseline,
            gone: &gone.sizes,
        };
        let list = std::fs::File::open(&work.list).map_err(Refusal::Derive)?;
        plan::make(BufReader::new(list), &work.state, here, terms)
    }

    fn terms(&self, work: &Work) -> Terms<'_> {
        Terms {
            filter: &self.options.filter,
            max_entries: self.options.max_entries,
            accept_shrink: work.accept_shrink,
            now: self.now,
        }
    }

    /// Brings everything into staging that the tree lacks.
    async fn fetch(&self, upstream: &Upstream, plan: &Plan) -> Result<Fetched, Trouble> {
        let wanted = plan.wanted();
        if wanted.is_empty() {
            return Ok(Fetched::default());
        }
        let shutdown = &self.options.shutdown;
        let fetched = upstream
            .fetch(wanted, &self.staging, &self.progress, shutdown)
            .await?;
        if let Some((path, wrong)) = fetched.wrong.first() {
            let error = anyhow::anyhow!("{path} is not what the file list says: {}", chain(wrong));
            // Content has the same name for ever; documents are replaced.
            let is_content = matches!(path, TreePath::Blob(_));
            let kind = if is_content { Kind::Lie } else { Kind::Passing };
            return Err(Trouble::new(kind, error));
        }
        if let Some(path) = fetched.missing.first() {
            let error = anyhow::anyhow!("there is no {path}, which the file list has");
            return Err(Trouble::new(Kind::Passing, error));
        }
        Ok(fetched)
    }
}

fn planned(plan: &Plan) -> Done {
    Done {
        files: plan.wanted().len() as u64,
        bytes: plan.bytes,
        received: 0,
        links: plan.links.len() as u64,
        kept: plan.gone.len() as u64,
        skipped: plan.skipped,
    }
}

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
