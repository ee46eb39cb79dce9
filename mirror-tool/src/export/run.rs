//! One run: the plan, the images side by side, the state, the report.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::platform::Platform;
use oci_mirror::reference::{Reference, RepoName};
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{Tree, TreeWriter};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::error::Error;
use super::fetch::{self, Closure};
use super::plan::{Filter, Planner, Refused, Wanted};
use super::progress::Progress;
use super::publish::{self, Queue};
use super::report::{ImageReport, Report, Status};
use super::source::{Origin, Source, Wish};
use super::transfer::{Transfers, blocking};

/// What to export, from where, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The tree; it is made if it is not there.
    pub tree: PathBuf,
    /// Where images come from.
    pub sources: Vec<Source>,
    /// The repository of the tree, instead of the source's own name.
    pub dest_name: Option<RepoName>,
    /// Which tags are wanted of a source that names none.
    pub filter: Filter,
    /// Which images of an index are wanted; empty means all.
    pub platforms: Vec<Platform>,
    /// How many images to work on at once.
    pub jobs: usize,
    /// Say what would be exported, and change nothing.
    pub dry_run: bool,
    /// How to talk to registries.
    pub connection: client::Options,
    /// The logins to use.
    pub credentials: Credentials,
    /// Where to show progress.
    pub progress: Progress,
    /// Ends the run early but cleanly when cancelled.
    pub shutdown: CancellationToken,
    /// The time the tree's state will carry; `None` for the time when it is written.
    pub now: Option<Timestamp>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tree: PathBuf::new(),
            sources: Vec::new(),
            dest_name: None,
            filter: Filter::default(),
            platforms: Vec::new(),
            jobs: 4,
            dry_run: false,
            connection: client::Options::default(),
            credentials: Credentials::none(),
            progress: Progress::Silent,
            shutdown: CancellationToken::new(),
            now: None,
        }
    }
}

/// How long, and how often, to wait for abandoned transfers.
const WAIT: Duration = Duration::from_millis(5);
const MAX_WAITS: u32 = 1000;

/// Transfers under way per image worked on: most images have a few layers, and one slow layer should
/// not leave the line idle.
const TRANSFERS_PER_JOB: usize = 2;

/// Most transfers under way, however many images are worked on: each keeps a thread of the runtime's
/// blocking pool until its blob is complete. Were the pool full of them, none could go on, since
/// reading files and resolving names need threads of it too.
pub const MAX_TRANSFERS: usize = 64;

/// Exports. Fails only if nothing could be tried; what went wrong with single images, or at the end
/// with the tree's state, is in the report.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let writer = if options.dry_run {
        None
    } else {
        let root = options.tree.clone();
        Some(Arc::new(blocking(move || TreeWriter::open(&root)).await?))
    };
    let tree = match &writer {
        Some(writer) => Some(writer.tree().clone()),
        None => Tree::open(&options.tree).ok(),
    };
    let planner = Planner {
        dest_name: options.dest_name.as_ref(),
        filter: &options.filter,
        connection: &options.connection,
        credentials: Arc::new(options.credentials.clone()),
        tree: tree.as_ref(),
    };
    let plan = tokio::select! {
        plan = planner.plan(&options.sources) => plan,
        () = options.shutdown.cancelled() => anyhow::bail!("stopped"),
    };
    options
        .progress
        .planned(plan.wanted.len() + plan.refused.len());

    let mut images: Vec<ImageReport> = plan.refused.into_iter().map(refused).collect();
    for image in &images {
        options.progress.done(image);
    }
    images.extend(match &writer {
        Some(writer) => export(plan.wanted, writer, &options).await,
        None => survey(plan.wanted, tree.as_ref(), &options).await,
    });
    let mut report = Report::new(images);
    if let Some(writer) = writer {
        // The thread of an abandoned transfer ends with its channel, but holds the tree's lock until it
        // has: the next run must not find it locked.
        for _ in 0..MAX_WAITS {
            if Arc::strong_count(&writer) == 1 {
                break;
            }
            tokio::time::sleep(WAIT).await;
        }
        let now = options.now.unwrap_or_else(Timestamp::now);
        let finished = blocking(move || {
            // What no image needs after all must not stand in the way of the last small file.
            writer.discard_staged();
            writer.finish(now)
        });
        if let Err(error) = finished.await {
            report.error = Some(Error::from(error).chain());
        }
    }
    options.progress.finish(&report);
    Ok(report)
}

/// Everything the images of a run share.
struct Work {
    transfers: Transfers,
    queue: Queue,
    tree: Tree,
    platforms: Vec<Platform>,
    slots: Semaphore,
    /// Cancelled by the caller, or by the first image that finds the disk full.
    stop: CancellationToken,
    progress: Progress,
}

/// An image that is ready.
enum Fetched {
    /// The tree has it, visible and complete.
    Unchanged,
    /// All it reaches is staged or in the tree.
    Complete(Image),
}

async fn export(
    wanted: Vec<Wanted>,
    writer: &Arc<TreeWriter>,
    options: &Options,
) -> Vec<ImageReport> {
    let jobs = options.jobs.max(1);
    let (queue, publisher) = publish::channel(Arc::clone(writer));
    let work = Arc::new(Work {
        transfers: Transfers::new(
            Arc::clone(writer),
            (jobs * TRANSFERS_PER_JOB).min(MAX_TRANSFERS),
            options.progress.clone(),
        ),
        queue,
        tree: writer.tree().clone(),
        platforms: options.platforms.clone(),
        slots: Semaphore::new(jobs),
        stop: options.shutdown.child_token(),
        progress: options.progress.clone(),
    });
    let mut publishing = JoinSet::new();
    publishing.spawn(publisher.run());
    let mut tasks = JoinSet::new();
    for image in wanted {
        let work = Arc::clone(&work);
        tasks.spawn(async move { work.image(image).await });
    }
    drop(work);
    let images = tasks.join_all().await;
    // With the last image the last queue is gone, and the publisher ends.
    publishing.join_all().await;
    images
}

impl Work {
    async fn image(&self, wanted: Wanted) -> ImageReport {
        let mut report = blank(&wanted);
        let fetched = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::Stopped),
            fetched = self.fetch(&wanted, &mut report) => fetched,
        };
        // What is complete is published even when the run is being stopped: it costs little now.
        let result = match fetched {
            Ok(Fetched::Unchanged) => Ok(Status::Unchanged),
            Ok(Fetched::Complete(image)) => {
                self.queue.publish(image).await.map(|()| Status::Exported)
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(status) => report.status = status,
            Err(error) => {
                if error.is_out_of_space() && !self.stop.is_cancelled() {
                    error!(%error, "the disk is full, stopping");
                    self.stop.cancel();
                }
                report.error = Some(error.chain());
            }
        }
        self.progress.done(&report);
        report
    }

    async fn fetch(&self, wanted: &Wanted, report: &mut ImageReport) -> Result<Fetched, Error> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::Stopped)?;
        if let Some(present) = self.unmoved(wanted).await? {
            report.digest = Some(present.digest);
            return Ok(Fetched::Unchanged);
        }
        let manifest = wanted.origin.manifest(&wanted.wish).await?;
        report.digest = Some(manifest.digest());
        // A registry that does not serve HEAD has told only now that nothing has moved.
        let descriptor = manifest.descriptor();
        if self.has(wanted, &descriptor).await? {
            return Ok(Fetched::Unchanged);
        }
        let root = self.transfers.adopt(manifest).await?;
        let closure =
            fetch::closure(root, &wanted.origin, &self.platforms, &self.transfers).await?;
        let Closure {
            reach,
            bytes_fetched,
            bytes_shared,
            platforms_left_out,
            layers_left_out,
        } = closure;
        report.bytes_fetched = bytes_fetched;
        report.bytes_shared = bytes_shared;
        report.platforms_left_out = platforms_left_out;
        report.layers_left_out = layers_left_out;
        Ok(Fetched::Complete(Image {
            repo: wanted.repo.clone(),
            tag: wanted.tag.clone(),
            root: descriptor,
            reach,
        }))
    }

    /// What the tree has, if the source still has the same.
    async fn unmoved(&self, wanted: &Wanted) -> Result<Option<Descriptor>, Error> {
        let Some(present) = &wanted.present else {
            return Ok(None);
        };
        let unmoved =
            current(wanted).await? == Some(present.digest) && self.has(wanted, present).await?;
        Ok(unmoved.then(|| present.clone()))
    }

    /// Whether the image is visible in the tree with all that is wanted of it.
    async fn has(&self, wanted: &Wanted, target: &Descriptor) -> Result<bool, Error> {
        let visible = wanted.present.as_ref().map(|present| present.digest);
        if visible != Some(target.digest) {
            return Ok(false);
        }
        let (tree, platforms) = (self.tree.clone(), self.platforms.clone());
        let target = target.clone();
        let repo = wanted.repo.clone();
        blocking(move || fetch::is_complete(&target, &repo, &platforms, &tree)).await
    }
}

/// The digest the source has now, if it says without sending the manifest.
async fn current(wanted: &Wanted) -> Result<Option<oci_mirror::digest::Digest>, Error> {
    match (&wanted.origin, &wanted.wish) {
        (Origin::Registry { registry, name }, Wish::Reference(reference @ Reference::Tag(_))) => {
            let head = registry.head(name, reference).await?;
            Ok(head.map(|head| head.digest))
        }
        (_, wish) => Ok(wish.digest()),
    }
}

/// A dry run: asks what has moved, and fetches nothing.
async fn survey(wanted: Vec<Wanted>, tree: Option<&Tree>, options: &Options) -> Vec<ImageReport> {
    use futures_util::{StreamExt as _, stream};
    stream::iter(wanted)
        .map(|wanted| async move {
            let mut report = blank(&wanted);
            let result = match &wanted.present {
                None => Ok(Status::Pending),
                Some(present) => current(&wanted).await.and_then(|digest| {
                    report.digest = digest;
                    let complete = match tree {
                        Some(tree) => {
                            fetch::is_complete(present, &wanted.repo, &options.platforms, tree)?
                        }
                        None => false,
                    };
                    Ok(if digest == Some(present.digest) && complete {
                        Status::Unchanged
                    } else {
                        Status::Pending
                    })
                }),
            };
            match result {
                Ok(status) => report.status = status,
                Err(error) => report.error = Some(error.chain()),
            }
            options.progress.done(&report);
            report
        })
        .buffer_unordered(options.jobs.max(1))
        .collect()
        .await
}

/// A report that says failed until something better is known.
fn blank(wanted: &Wanted) -> ImageReport {
    ImageReport {
        source: wanted.source.clone(),
        repository: Some(wanted.repo.name().to_string()),
        tag: wanted.tag.as_ref().map(ToString::to_string),
        digest: wanted.wish.digest(),
        status: Status::Failed,
        bytes_fetched: 0,
        bytes_shared: 0,
        platforms_left_out: 0,
        layers_left_out: 0,
        error: None,
    }
}

fn refused(refused: Refused) -> ImageReport {
    ImageReport {
        source: refused.source,
        repository: refused.repo.map(String::from),
        tag: refused.tag.map(String::from),
        digest: None,
        status: Status::Failed,
        bytes_fetched: 0,
        bytes_shared: 0,
        platforms_left_out: 0,
        layers_left_out: 0,
        error: Some(refused.error.chain()),
    }
}
