//! Bringing content into the tree, each digest once.
//!
//! Whoever needs a digest first fetches it, under a lock of that digest; whoever comes meanwhile
//! waits and finds it there. A small blob is gathered and handed over whole, a large one goes through
//! a [`Sink`] as it comes.
//!
//! A dry run goes the same way, but blobs are only counted: what the tree does not have would be
//! fetched. Manifests are read all the same, since nothing else says what an image consists of.
//!
//! A transfer that breaks goes on where it stopped, if the source knows ranges. Tries are counted
//! from the last progress: a large blob over a bad line takes long, but arrives. Progress is what goes
//! beyond all that any earlier try has brought.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::{self, Manifest};
use oci_mirror::registry::retry::Advice as _;
use oci_mirror::tree::writer;
use oci_mirror::tree::{Tree, TreePath, TreeWriter};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::error::Error;
use super::progress::{BlobProgress, Progress};
use super::sink::Sink;
use super::source::{Origin, Wish};

/// How much is handed to the writer at once; a blob up to this size is handed over whole.
pub(super) const BUFFER: u64 = 1 << 20;

/// The transfers of one run.
#[derive(Debug)]
pub(crate) struct Transfers {
    store: Store,
    slots: Semaphore,
    fates: Mutex<HashMap<Digest, Slot>>,
    progress: Progress,
}

/// Where content goes.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// Into a tree.
    Tree(Arc<TreeWriter>),
    /// Nowhere; what this tree has, if there is one, would not have to be fetched.
    Nowhere(Option<Tree>),
}

impl Store {
    fn holds(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(match self {
            Self::Tree(writer) => writer.holds(digest)?,
            Self::Nowhere(None) => None,
            Self::Nowhere(Some(tree)) => tree.blob_size(digest)?,
        })
    }

    fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Bytes>, Error> {
        Ok(match self {
            Self::Tree(writer) => Some(writer.read(digest, limit)?),
            Self::Nowhere(Some(tree)) if tree.blob_size(digest)?.is_some() => {
                Some(tree.read(&TreePath::Blob(*digest), limit)?)
            }
            Self::Nowhere(_) => None,
        })
    }
}

type Slot = Arc<tokio::sync::Mutex<Fate>>;

/// What the run knows of a digest.
#[derive(Debug, Default)]
enum Fate {
    #[default]
    Unknown,
    /// In the tree, or staged for it.
    Here {
        size: u64,
        /// Still in use by some image: its file may be between its two names just now.
        manifest: Weak<Manifest>,
    },
    /// This origin could not deliver it at this length. Another may, or a descriptor that does not
    /// lie about the length.
    Failed {
        origin: String,
        size: u64,
        error: Arc<Error>,
    },
}

/// How content came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// So many bytes were fetched for it.
    Fetched(u64),
    /// So many bytes did not have to be.
    Shared(u64),
}

impl Transfers {
    pub(crate) fn new(store: Store, parallel: usize, progress: Progress) -> Self {
        Self {
            store,
            slots: Semaphore::new(parallel),
            fates: Mutex::default(),
            progress,
        }
    }

    /// Makes sure that a blob is there.
    pub(super) async fn blob(
        &self,
        descriptor: &Descriptor,
        origin: &Origin,
    ) -> Result<Outcome, Error> {
        let slot = self.slot(&descriptor.digest);
        let mut fate = slot.lock().await;
        if self.is_here(&mut fate, descriptor, origin).await? {
            return Ok(Outcome::Shared(descriptor.size));
        }
        match self.fetch(descriptor, origin).await {
            Ok(()) => {
                *fate = Fate::here(descriptor.size, Weak::new());
                Ok(Outcome::Fetched(descriptor.size))
            }
            Err(error) => Err(fate.fail(error, descriptor, origin)),
        }
    }

    /// The content of a small blob, such as a config.
    pub(super) async fn content(
        &self,
        descriptor: &Descriptor,
        origin: &Origin,
    ) -> Result<Bytes, Error> {
        self.blob(descriptor, origin).await?;
        let (store, digest, size) = (self.store.clone(), descriptor.digest, descriptor.size);
        match blocking(move || store.read(&digest, size)).await? {
            Some(bytes) => Ok(bytes),
            None => origin.retry().run(|| collect(descriptor, origin)).await,
        }
    }

    /// Makes sure that a manifest named by a descriptor is there, and reads it.
    pub(super) async fn manifest(
        &self,
        descriptor: &Descriptor,
        origin: &Origin,
    ) -> Result<(Arc<Manifest>, Outcome), Error> {
        let slot = self.slot(&descriptor.digest);
        let mut fate = slot.lock().await;
        if self.is_here(&mut fate, descriptor, origin).await?
            && let Some(manifest) = self.read_back(&fate, descriptor).await?
        {
            *fate = Fate::here(descriptor.size, Arc::downgrade(&manifest));
            return Ok((manifest, Outcome::Shared(descriptor.size)));
        }
        match self.fetch_manifest(descriptor, origin).await {
            Ok(manifest) => {
                *fate = Fate::here(descriptor.size, Arc::downgrade(&manifest));
                Ok((manifest, Outcome::Fetched(descriptor.size)))
            }
            Err(error) => Err(fate.fail(error, descriptor, origin)),
        }
    }

    /// Takes a manifest that is already in memory, because it was asked for by tag.
    pub(super) async fn adopt(
        &self,
        manifest: Manifest,
    ) -> Result<(Arc<Manifest>, Outcome), Error> {
        let manifest = Arc::new(manifest);
        let slot = self.slot(&manifest.digest());
        let mut fate = slot.lock().await;
        let held = match &*fate {
            Fate::Here { .. } => true,
            _ => self.holds(&manifest.digest()).await? == Some(manifest.size()),
        };
        let size = manifest.size();
        if !held {
            self.stage(manifest.digest(), manifest.bytes().clone())
                .await?;
        }
        *fate = Fate::here(size, Arc::downgrade(&manifest));
        // The bytes did come over the wire, but they were not new.
        let outcome = if held {
            Outcome::Shared
        } else {
            Outcome::Fetched
        };
        Ok((manifest, outcome(size)))
    }

    fn slot(&self, digest: &Digest) -> Slot {
        let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fates.entry(*digest).or_default())
    }

    /// Whether the content is there already. Fails if it is, but with another length than the
    /// descriptor says, and if this origin has already failed to deliver it.
    async fn is_here(
        &self,
        fate: &mut Fate,
        descriptor: &Descriptor,
        origin: &Origin,
    ) -> Result<bool, Error> {
        // What the tree has under the name at another length is damaged, or the descriptor lies: to
        // bring it again shows which.
        if matches!(fate, Fate::Unknown)
            && self.holds(&descriptor.digest).await? == Some(descriptor.size)
        {
            *fate = Fate::here(descriptor.size, Weak::new());
        }
        match fate {
            Fate::Here { size, .. } if *size == descriptor.size => Ok(true),
            Fate::Here { size, .. } => Err(Error::Size {
                digest: descriptor.digest,
                described: descriptor.size,
                size: *size,
            }),
            Fate::Failed {
                origin: failed,
                size,
                error,
            } if *failed == origin.to_string() && *size == descriptor.size => {
                Err(Error::Shared(Arc::clone(error)))
            }
            Fate::Failed { .. } | Fate::Unknown => Ok(false),
        }
    }

    async fn holds(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let (store, digest) = (self.store.clone(), *digest);
        blocking(move || store.holds(&digest)).await
    }

    async fn stage(&self, digest: Digest, bytes: Bytes) -> Result<(), Error> {
        let Store::Tree(writer) = &self.store else {
            return Ok(());
        };
        // Most content is small, and a thread for it costs more than all that is done with it.
        if writer.hold(digest, &bytes)? {
            return Ok(());
        }
        let writer = Arc::clone(writer);
        Ok(blocking(move || writer.stage_bytes(digest, &bytes)).await?)
    }

    /// A manifest that is there; `None` in a dry run that has seen it and not kept it.
    async fn read_back(
        &self,
        fate: &Fate,
        descriptor: &Descriptor,
    ) -> Result<Option<Arc<Manifest>>, Error> {
        if let Fate::Here { manifest, .. } = fate
            && let Some(manifest) = manifest.upgrade()
        {
            return Ok(Some(manifest));
        }
        let (store, digest) = (self.store.clone(), descriptor.digest);
        let Some(bytes) = blocking(move || store.read(&digest, manifest::MAX_BYTES)).await? else {
            return Ok(None);
        };
        let manifest = Manifest::with_digest(bytes, digest, Some(&descriptor.media_type));
        let unusable = |source| Error::Manifest { digest, source };
        Ok(Some(Arc::new(manifest.map_err(unusable)?)))
    }

    async fn fetch_manifest(
        &self,
        descriptor: &Descriptor,
        origin: &Origin,
    ) -> Result<Arc<Manifest>, Error> {
        let manifest = {
            let _slot = self.slots.acquire().await.map_err(|_| Error::Stopped)?;
            origin.manifest(&Wish::Entry(descriptor.clone())).await?
        };
        if manifest.size() != descriptor.size {
            return Err(Error::Size {
                digest: descriptor.digest,
                described: descriptor.size,
                size: manifest.size(),
            });
        }
        self.stage(manifest.digest(), manifest.bytes().clone())
            .await?;
        Ok(Arc::new(manifest))
    }

    /// Fetches a blob, whether it is there or not; when the bytes turn out wrong, once more from the
    /// start, since a cache on the way may have been caught with half of it.
    pub(crate) async fn fetch(
        &self,
        descriptor: &Descriptor,
        origin: &Origin,
    ) -> Result<(), Error> {
        let Store::Tree(writer) = &self.store else {
            return Ok(());
        };
        let _slot = self.slots.acquire().await.map_err(|_| Error::Stopped)?;
        let progress = self.progress.blob(&descriptor.digest, descriptor.size);
        match self.attempt(descriptor, origin, writer, &progress).await {
            Err(error) if error.is_wrong_content() => {
                tracing::info!(digest = %descriptor.digest, %origin, %error, "fetching again from the start");
                self.attempt(descriptor, origin, writer, &progress).await
            }
            result => result,
        }
    }

    async fn attempt(
        &self,
        descriptor: &Descriptor,
        origin: &Origin,
        writer: &Arc<TreeWriter>,
        progress: &BlobProgress,
    ) -> Result<(), Error> {
        if descriptor.size <= BUFFER {
            let bytes = origin.retry().run(|| collect(descriptor, origin)).await?;
            return self.stage(descriptor.digest, bytes).await;
        }
        let sink = tokio::sync::Mutex::new(Sink::open(writer, descriptor));
        let sink_ref = &sink;
        let advance = || async move {
            let mut sink = sink_ref.lock().await;
            let before = sink.furthest;
            match sink.fill(descriptor, origin, progress).await {
                // There was progress, so the tries count from here again.
                Err(error) if error.is_retryable() && sink.furthest > before + BUFFER => Ok(false),
                result => result.map(|()| true),
            }
        };
        while !origin.retry().run(advance).await? {}
        sink.into_inner().finish().await
    }
}

impl Fate {
    fn here(size: u64, manifest: Weak<Manifest>) -> Self {
        Self::Here { size, manifest }
    }

    /// Remembers a failure, for other images of the same origin, and gives it back to be reported.
    fn fail(&mut self, error: Error, descriptor: &Descriptor, origin: &Origin) -> Error {
        let error = Arc::new(error);
        *self = Self::Failed {
            origin: origin.to_string(),
            size: descriptor.size,
            error: Arc::clone(&error),
        };
        Error::Shared(error)
    }
}

/// The whole of a small blob.
async fn collect(descriptor: &Descriptor, origin: &Origin) -> Result<Bytes, Error> {
    let (digest, size) = (descriptor.digest, descriptor.size);
    let mut chunks = origin.blob(&digest, 0).await?;
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > size {
            return Err(writer::Error::TooLong { digest, size }.into());
        }
    }
    let written = bytes.len() as u64;
    if written < size {
        return Err(writer::Error::TooShort {
            digest,
            size,
            written,
        }
        .into());
    }
    Ok(bytes.freeze())
}

/// Runs blocking work on a thread for it. The one doorway of the export.
pub(crate) async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    join(&mut tokio::task::spawn_blocking(work)).await
}

/// A panic of the thread goes on here; a thread is never cancelled.
pub(super) async fn join<T>(thread: &mut JoinHandle<T>) -> T {
    match thread.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down; nobody will look at the result.
            Err(_) => std::future::pending().await,
        },
    }
}
