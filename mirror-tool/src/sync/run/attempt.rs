//! Following one upstream as it is at one moment.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::error_chain::chain;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::list::Kind as EntryKind;
use oci_mirror::tree::state::{ListRef, State};

use super::here::{InGrace, Kept, Known, buffered};
use super::judge::{Said, Verdict, judge};
use super::trouble::{Kind, Trouble};
use super::{Done, Followed, Mirror, blocking, publish};
use crate::sync::plan::{self, Baseline, Here, Plan, Refusal, Terms};
use crate::sync::upstream::{self, Fetched, Upstream};

/// Follows one upstream as it is now.
pub(super) async fn attempt(
    mirror: &Arc<Mirror>,
    upstream: &Upstream,
) -> Result<Followed, Trouble> {
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
        (Verdict::Same | Verdict::Sibling, Some(last)) if mirror.is_known() && is_same_filter => {
            return Ok(Followed::Unchanged(last.clone()));
        }
        (Verdict::Same | Verdict::New, _) => {}
        (Verdict::Behind { last }, _) => {
            return Err(Trouble::behind(&said, last));
        }
        (Verdict::Sibling, _) => return Err(Trouble::sibling(&said)),
    }
    let Some(named) = &state.list else {
        let error = anyhow::anyhow!("{} has no file list", upstream.name());
        return Err(Trouble::new(Kind::Lie, error));
    };
    let path = mirror.list(upstream, named, verdict).await?;
    let work = Work {
        said,
        state_bytes: bytes,
        state,
        list: path,
        filter,
        accept_shrink: mirror.options.accept_shrink || !is_same_filter,
    };
    let here = Arc::clone(mirror);
    let (work, planned) = blocking(move || {
        let planned = here.plan(&work)?;
        Ok::<_, Trouble>((work, planned))
    })
    .await
    .map_err(|trouble| trouble.of(upstream.name()))?;
    mirror.is_stopped()?;
    if mirror.options.dry_run {
        return Ok(Followed::Planned(preview(&planned.plan)));
    }
    let fetched = mirror
        .fetch(upstream, &planned.plan)
        .await
        .map_err(|trouble| trouble.of(upstream.name()))?;
    mirror.is_stopped()?;
    let here = Arc::clone(mirror);
    blocking(move || publish::publish(&here, &work, &planned, &fetched))
        .await
        .map_err(|trouble| trouble.of(upstream.name()))
}

/// What is followed, as far as it is here.
pub(super) struct Work {
    pub(super) said: Said,
    pub(super) state_bytes: Bytes,
    pub(super) state: State,
    /// Where the list lies.
    pub(super) list: PathBuf,
    pub(super) filter: Digest,
    accept_shrink: bool,
}

/// What has to be done.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// The directories of a tree that a walk has found, relative to it.
    pub(super) walked: Vec<PathBuf>,
    /// The files that a walk has found and that are not what their names say, or may not be.
    pub(super) disowned: BTreeSet<TreePath>,
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
            Kept::Same(path) => Ok(path),
            Kept::Basis(basis) => {
                let brought = upstream.list(list, basis.as_deref(), &self.staging);
                Ok(self.unless_stopped(brought).await?)
            }
        }
    }

    /// Compares the list with what is here.
    fn plan(&self, work: &Work) -> Result<Planned, Trouble> {
        let terms = self.terms(work);
        let gone = self.gone()?;
        let known = if self.is_known() && gone.is_whole {
            Known::ByList
        } else {
            Known::Not
        };
        let planned = match self.plan_from(known, work, &gone, &terms) {
            Err(Refusal::Here(error)) if known == Known::ByList => {
                tracing::warn!(error = %chain(&error), "the file list here is damaged; looking at the tree");
                self.plan_from(Known::Not, work, &gone, &terms)?
            }
            planned => planned?,
        };
        self.check_terms(work, &planned.plan, &gone)?;
        Ok(planned)
    }

    /// What nobody can have meant has to be asked for: that a mirror loses all its repositories, be it by
    /// its own filter, and that a tree which never followed another is given up for one.
    fn check_terms(&self, work: &Work, plan: &Plan, gone: &InGrace) -> Result<(), Trouble> {
        if self.options.accept_shrink {
            return Ok(());
        }
        let is_lost =
            |path: &&TreePath| matches!(path, TreePath::Index(_)) && !gone.gone.contains_key(*path);
        let lost = plan.gone.iter().filter(is_lost).count() as u64;
        if lost > 0 && plan.carried_repositories() == 0 {
            return Err(Refusal::Shrunk {
                what: "repositories",
                was: lost,
                is: 0,
            }
            .into());
        }
        let is_another = self.memory.is_none()
            && self.was_published.is_some()
            && self.was_published != Some(Algorithm::Sha256.digest(&work.state_bytes));
        if is_another && !plan.gone.is_empty() {
            let error = anyhow::anyhow!(
                "{} holds another tree, which never followed one: {} of its files would be removed; \
                 --accept-shrink takes it over",
                self.options.tree.display(),
                plan.gone.len()
            );
            return Err(Trouble::new(Kind::Lie, error));
        }
        Ok(())
    }

    fn plan_from(
        &self,
        known: Known,
        work: &Work,
        gone: &InGrace,
        terms: &Terms<'_>,
    ) -> Result<Planned, Refusal> {
        let baseline = self.baseline(known)?;
        let mut walked = Vec::new();
        let mut disowned = BTreeSet::new();
        match &baseline {
            Baseline::Nothing | Baseline::List(_) => {}
            Baseline::Found(found) => {
                for held in found {
                    let path = held.path.as_str();
                    if held.kind == EntryKind::Directory && plan::is_directory(path) {
                        walked.push(path.into());
                    } else if held.is_disowned() {
                        disowned.extend(path.parse::<TreePath>());
                    }
                }
            }
        }
        let mut in_grace = Cow::Borrowed(&gone.sizes);
        if !disowned.is_empty() {
            in_grace.to_mut().retain(|path, _| !disowned.contains(path));
        }
        let here = Here {
            tree: baseline,
            gone: &in_grace,
        };
        let list = File::open(&work.list).map_err(Refusal::Derive)?;
        let plan = plan::make(buffered(list), &work.state, here, terms)?;
        Ok(Planned {
            plan,
            walked,
            disowned,
        })
    }

    pub(super) fn terms(&self, work: &Work) -> Terms<'_> {
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

fn preview(plan: &Plan) -> Done {
    Done {
        files: plan.wanted().len() as u64,
        bytes: plan.bytes,
        received: 0,
        links: plan.links.len() as u64,
        kept: plan.gone.len() as u64,
        skipped: plan.skipped,
    }
}
