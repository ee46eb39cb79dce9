//! One run: the plan, the images side by side, what left, the state, the report.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::reference::RegistryHost;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::tree::path::Module;
use oci_mirror::tree::{Tree, TreeWriter, reader};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::error::Error;
use super::order::Order;
use super::plan::{Known, Plan, Planner, Refused, Wanted};
use super::progress::Progress;
use super::publish;
use super::removal;
use super::report::{ImageReport, Report, Status};
use super::transfer::{Store, Transfers, blocking};
use super::work::Work;

/// What to export, from where, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The tree; it is made if it is not there.
    pub tree: PathBuf,
    /// The name of the tree's file list, instead of the one it has.
    pub module: Option<Module>,
    /// Where images come from, and which.
    pub orders: Vec<Order>,
    /// How many images to work on at once.
    pub jobs: usize,
    /// Say what would be exported, and change nothing.
    pub dry_run: bool,
    /// Let [`Order::prune`] take more than half of a repository's tags.
    pub accept_shrink: bool,
    /// How to talk to registries.
    pub connection: client::Options,
    /// How to talk to certain ones.
    pub connections: HashMap<RegistryHost, client::Options>,
    /// The logins to use.
    pub credentials: Credentials,
    /// Where to show progress.
    pub progress: Progress,
    /// Ends the run early but cleanly when cancelled.
    pub shutdown: CancellationToken,
    /// The time the tree's state will carry, and images are compared with; `None` for the time when
    /// that is done.
    pub now: Option<Timestamp>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tree: PathBuf::new(),
            module: None,
            orders: Vec::new(),
            jobs: 4,
            dry_run: false,
            accept_shrink: false,
            connection: client::Options::default(),
            connections: HashMap::new(),
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
        let mut writer = blocking(move || TreeWriter::open(&root)).await?;
        if let Some(module) = &options.module {
            writer = writer.with_module(module.clone());
        }
        Some(Arc::new(writer))
    };
    let tree = match &writer {
        Some(writer) => Some(writer.tree().clone()),
        None => existing(&options.tree)?,
    };
    let jobs = options.jobs.max(1);
    let parallel = (jobs * TRANSFERS_PER_JOB).min(MAX_TRANSFERS);
    let planner = Planner {
        connection: &options.connection,
        connections: &options.connections,
        credentials: Arc::new(options.credentials.clone()),
        tree: tree.as_ref(),
        reading: &Transfers::new(Store::Nowhere(tree.clone()), parallel, Progress::Silent),
        jobs,
        known: Known::default(),
    };
    let Plan {
        wanted,
        orphans,
        refused,
        pruned,
        ..
    } = tokio::select! {
        plan = planner.plan(&options.orders) => plan,
        () = options.shutdown.cancelled() => anyhow::bail!("stopped"),
    };
    if pruned.is_empty() && refused.is_empty() && options.orders.iter().any(|order| order.prune) {
        warn!("nothing is pruned: no source is without a tag, so none says what has left it");
    }
    options.progress.planned(wanted.len() + refused.len());

    let mut images: Vec<ImageReport> = refused.into_iter().map(ImageReport::from).collect();
    for image in &images {
        options.progress.done(image);
    }
    let store = match &writer {
        Some(writer) => Store::Tree(Arc::clone(writer)),
        None => Store::Nowhere(tree.clone()),
    };
    let transfers = Transfers::new(store, parallel, options.progress.clone());
    let work = Arc::new(Work::new(transfers, tree, jobs, &options));
    images.extend(export(wanted, &work, writer.as_ref()).await);
    let orphans = work.unclaimed(orphans);
    options.progress.planned(orphans.len());
    images.extend(export(orphans, &work, writer.as_ref()).await);
    let kept = work.finish();

    let removal = if options.shutdown.is_cancelled() {
        // What was not looked at is not gone.
        removal::Outcome::default()
    } else {
        removal::run(pruned, kept, options.accept_shrink, writer.as_ref()).await
    };
    for failure in &removal.failures {
        options.progress.done(failure);
    }
    images.extend(removal.failures);
    let mut report = Report::new(images, removal.removed);
    report.dry_run = options.dry_run;
    if let Some(writer) = writer
        && let Err(error) = finish(writer, &options).await
    {
        report.error = Some(error.chain());
    }
    options.progress.finish(&report);
    Ok(report)
}

/// The tree a dry run looks at; `None` if the real one would make it.
fn existing(root: &Path) -> Result<Option<Tree>, reader::Error> {
    match Tree::open(root) {
        Ok(tree) => Ok(Some(tree)),
        Err(reader::Error::Root { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Works on images, and publishes them if there is a tree to be written.
async fn export(
    wanted: Vec<Wanted>,
    work: &Arc<Work>,
    writer: Option<&Arc<TreeWriter>>,
) -> Vec<ImageReport> {
    let Some(writer) = writer else {
        return work.all(wanted, None).await;
    };
    let mut publishing = JoinSet::new();
    let (queue, publisher) = publish::channel(Arc::clone(writer));
    publishing.spawn(publisher.run());
    let images = work.all(wanted, Some(queue)).await;
    // With the last image the last queue is gone, and the publisher ends.
    publishing.join_all().await;
    images
}

/// Writes the tree's state, if it has changed.
async fn finish(writer: Arc<TreeWriter>, options: &Options) -> Result<(), Error> {
    // The thread of an abandoned transfer ends with its channel, but holds the tree's lock until it
    // has: the next run must not find it locked.
    for _ in 0..MAX_WAITS {
        if Arc::strong_count(&writer) == 1 {
            break;
        }
        tokio::time::sleep(WAIT).await;
    }
    let now = options.now.unwrap_or_else(Timestamp::now);
    blocking(move || {
        // What no image needs after all must not stand in the way of the last small file.
        writer.discard_staged();
        writer.finish(now)
    })
    .await?;
    Ok(())
}

/// A report that says failed until something better is known.
impl From<&Wanted> for ImageReport {
    fn from(wanted: &Wanted) -> Self {
        Self {
            source: wanted.source.clone(),
            repository: Some(wanted.repo.name().to_string()),
            tag: wanted.tag.as_ref().map(ToString::to_string),
            digest: wanted.wish.digest(),
            subject: wanted.subject,
            ..Self::failed(String::new())
        }
    }
}

impl From<Refused> for ImageReport {
    fn from(refused: Refused) -> Self {
        Self {
            repository: refused.repo.map(String::from),
            tag: refused.tag.map(String::from),
            error: Some(refused.error.chain()),
            ..Self::failed(refused.source)
        }
    }
}

impl ImageReport {
    pub(super) fn failed(source: String) -> Self {
        Self {
            source,
            repository: None,
            tag: None,
            digest: None,
            subject: None,
            status: Status::Failed,
            bytes_fetched: 0,
            bytes_shared: 0,
            platforms_left_out: 0,
            layers_left_out: 0,
            error: None,
        }
    }
}
