//! The images of a run, side by side: each with what belongs to it, made visible together.
//!
//! A client that checks signatures must not meet an image before its signature, so an image waits for
//! what belongs to it. What of that fails is reported by itself; the image is exported all the same,
//! as a source whose signature cannot be read still has the image.

mod companions;
mod kept;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::Manifest;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{RepoDir, Tree};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::age;
use super::error::Error;
use super::fetch::{self, Closure};
use super::plan::Wanted;
use super::present::{self, Linked};
use super::progress::Progress;
use super::publish::{MAX_ROUND, Queue};
use super::report::{ImageReport, Status};
use super::run::Options;
use super::source::Origin;
use super::transfer::{Transfers, blocking};
use companions::{Companion, Shared};

pub(super) use kept::Kept;

/// Most images begun and not yet visible: two rounds of publishing, so that one can gather while the
/// other is written.
const MAX_BEGUN: usize = 2 * MAX_ROUND;

/// Everything the images of a run share.
pub(super) struct Work {
    transfers: Transfers,
    linked: Option<Arc<Linked>>,
    slots: Semaphore,
    /// Cancelled by the caller, or by the first image that finds the disk full.
    stop: CancellationToken,
    progress: Progress,
    now: Option<Timestamp>,
    kept: Mutex<HashMap<RepoDir, Kept>>,
    shared: Mutex<HashMap<Shared, Arc<OnceCell<Option<Companion>>>>>,
}

/// How an image was found.
struct Found {
    /// `None` if it is reported with another image that it belongs to.
    report: Option<ImageReport>,
    /// To be published; `None` if it is visible, or not to be.
    image: Option<Image>,
    /// What others may belong to.
    manifests: Vec<Digest>,
}

impl Work {
    pub(super) fn new(
        transfers: Transfers,
        tree: Option<Tree>,
        jobs: usize,
        options: &Options,
    ) -> Self {
        Self {
            transfers,
            linked: tree.map(|tree| Arc::new(Linked::new(tree))),
            slots: Semaphore::new(jobs),
            stop: options.shutdown.child_token(),
            progress: options.progress.clone(),
            now: options.now,
            kept: Mutex::default(),
            shared: Mutex::default(),
        }
    }

    /// Works on all of `wanted`; without a queue nothing is published.
    pub(super) async fn all(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        queue: Option<Queue>,
    ) -> Vec<ImageReport> {
        let mut tasks = JoinSet::new();
        let mut reports = Vec::new();
        for image in wanted {
            if tasks.len() >= MAX_BEGUN {
                match tasks.join_next().await.transpose() {
                    Ok(done) => reports.extend(done.into_iter().flatten()),
                    Err(error) => {
                        if let Ok(panic) = error.try_into_panic() {
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            }
            let (work, queue) = (Arc::clone(self), queue.clone());
            tasks.spawn(async move { work.one(image, queue).await });
        }
        drop(queue);
        reports.extend(tasks.join_all().await.into_iter().flatten());
        reports
    }

    /// Those of `orphans` that did not come along with an image.
    pub(super) fn unclaimed(&self, orphans: Vec<Wanted>) -> Vec<Wanted> {
        let kept = self.kept();
        let claimed = |image: &Wanted| {
            let (tag, kept) = (image.tag.as_ref()?, kept.get(&image.repo)?);
            kept.tags.contains(tag).then_some(())
        };
        let unclaimed = orphans.into_iter().filter(|image| claimed(image).is_none());
        unclaimed.collect()
    }

    /// What was found at the sources.
    pub(super) fn finish(self: Arc<Self>) -> HashMap<RepoDir, Kept> {
        std::mem::take(&mut *self.kept())
    }

    /// One image, with what belongs to it.
    async fn one(&self, wanted: Wanted, queue: Option<Queue>) -> Vec<ImageReport> {
        let found = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::Stopped),
            found = self.in_turn(&wanted) => found,
        };
        let reports = match found {
            Ok(found) => self.publish(found, queue).await,
            Err(error) => {
                self.missed(&wanted.repo);
                vec![self.failure(ImageReport::from(&wanted), &error)]
            }
        };
        for report in &reports {
            self.progress.done(report);
        }
        reports
    }

    /// Finds the image when it may be worked on; one that waits, before or after, takes little room.
    async fn in_turn(&self, wanted: &Wanted) -> Result<Vec<Found>, Error> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::Stopped)?;
        Box::pin(self.find(wanted)).await
    }

    /// Finds the image and what belongs to it; the image itself comes last.
    async fn find(&self, wanted: &Wanted) -> Result<Vec<Found>, Error> {
        self.keep(wanted);
        let mut found = self.fetch(wanted).await?;
        let mut all = Vec::new();
        if wanted.order.referrers {
            all = self.belongings(wanted, &found).await;
        } else {
            self.asked(&wanted.repo, &found.manifests, true);
        }
        if let (Some(image), Origin::Registry(source)) = (&mut found.image, &wanted.origin) {
            let api = source.has_referrers_api();
            image.tag_referrers = api.map(|api| !api && !wanted.is_mixed);
        }
        all.push(found);
        Ok(all)
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<Found, Error> {
        let mut report = ImageReport::from(wanted);
        let platforms = wanted.platforms();
        if let Some(present) = wanted.present()
            && Self::current(wanted).await? == Some(present.digest)
            && let Some(manifests) = self.has(wanted, present).await?
        {
            report.digest = Some(present.digest);
            return Ok(Found::unchanged(report, manifests));
        }
        let manifest = wanted.origin.manifest(&wanted.wish).await?;
        let descriptor = manifest.descriptor();
        report.digest = Some(descriptor.digest);
        // A registry that does not serve HEAD has told only now that nothing has moved.
        if let Some(manifests) = self.has(wanted, &descriptor).await? {
            return Ok(Found::unchanged(report, manifests));
        }
        let root = self.transfers.adopt(manifest).await?;
        if let Some(reason) = self.too_young(&root.0, wanted).await? {
            report.status = Status::Skipped;
            report.error = Some(reason);
            return Ok(Found::unusable(report));
        }
        let closure = fetch::closure(root, &wanted.origin, platforms, &self.transfers).await?;
        let Closure {
            reach,
            manifests,
            bytes_fetched,
            bytes_shared,
            platforms_left_out,
            layers_left_out,
        } = closure;
        report.bytes_fetched = bytes_fetched;
        report.bytes_shared = bytes_shared;
        report.platforms_left_out = platforms_left_out;
        report.layers_left_out = layers_left_out;
        report.status = Status::Pending;
        let image = Image {
            repo: wanted.repo.clone(),
            tag: wanted.tag.clone(),
            root: descriptor,
            reach,
            tag_referrers: None,
        };
        Ok(Found {
            report: Some(report),
            image: Some(image),
            manifests,
        })
    }

    /// The digest the source has now, asked for once in a run.
    async fn current(wanted: &Wanted) -> Result<Option<Digest>, Error> {
        match wanted.current {
            Some(known) => Ok(Some(known)),
            None => wanted.origin.current(&wanted.wish).await,
        }
    }

    /// Why the image must wait, if it must.
    async fn too_young(
        &self,
        root: &Arc<Manifest>,
        wanted: &Wanted,
    ) -> Result<Option<String>, Error> {
        let selection = &wanted.order.selection;
        if selection.min_age.is_none() || wanted.is_belonging() {
            return Ok(None);
        }
        let platforms = wanted.platforms();
        let created = age::of_image(root, &wanted.origin, platforms, &self.transfers).await?;
        if selection.is_old_enough(created, self.now.unwrap_or_else(Timestamp::now)) {
            return Ok(None);
        }
        Ok(Some(match created {
            Some(created) => format!("it is too young: it was created {created}"),
            None => "its age is not known: it does not say when it was created".to_owned(),
        }))
    }

    /// The manifests of an image that is visible in the tree with all that is wanted of it.
    async fn has(
        &self,
        wanted: &Wanted,
        target: &Descriptor,
    ) -> Result<Option<Vec<Digest>>, Error> {
        let visible = wanted.present().map(|present| present.digest);
        let Some(linked) = self
            .linked
            .clone()
            .filter(|_| visible == Some(target.digest))
        else {
            return Ok(None);
        };
        let platforms = wanted.platforms().to_vec();
        let (target, repo) = (target.clone(), wanted.repo.clone());
        blocking(move || present::complete(&target, &repo, &platforms, &linked)).await
    }

    /// Makes all visible that was found, at once; what is complete is published even when the run is
    /// being stopped: it costs little now.
    async fn publish(&self, found: Vec<Found>, queue: Option<Queue>) -> Vec<ImageReport> {
        let mut reports = Vec::new();
        let mut images = Vec::new();
        for Found { report, image, .. } in found {
            images.extend(image);
            reports.extend(report);
        }
        let Some(queue) = queue.filter(|_| !images.is_empty()) else {
            return reports;
        };
        let result = queue.publish(images).await;
        let pending = |report: &&mut ImageReport| report.status == Status::Pending;
        for report in reports.iter_mut().filter(pending) {
            match &result {
                Ok(()) => report.status = Status::Exported,
                Err(error) => *report = self.failure(report.clone(), error),
            }
        }
        reports
    }

    fn failure(&self, mut report: ImageReport, error: &Error) -> ImageReport {
        if error.is_out_of_space() && !self.stop.is_cancelled() {
            error!(%error, "the disk is full, stopping");
            self.stop.cancel();
        }
        report.status = Status::Failed;
        report.error = Some(error.chain());
        report
    }
}

impl Found {
    fn unchanged(mut report: ImageReport, manifests: Vec<Digest>) -> Self {
        report.status = Status::Unchanged;
        Self {
            report: Some(report),
            image: None,
            manifests,
        }
    }

    fn unusable(report: ImageReport) -> Self {
        Self {
            report: Some(report),
            image: None,
            manifests: Vec::new(),
        }
    }
}
