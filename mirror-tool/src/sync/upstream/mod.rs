//! The tree that is followed: over rsync, over HTTP, or from a disk.
//!
//! Whatever the way, the same four things are asked of it: its state, its list, and files by their paths, all
//! of which end in a [`Staging`]. Nothing of it is believed: lengths are bounded, and what is fetched counts
//! only once its digest was computed here.

mod directory;
mod error;
mod http;
mod patience;
mod rsync;
mod source;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::state::ListRef;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use self::directory::Directory;
use self::http::Http;
use self::rsync::Rsync;
use super::progress::Progress;
use super::staging::{Staging, Wrong};
use super::{Options, Wanted};

pub use error::Error;
pub use source::{InvalidSource, Source};

/// A tree that is followed.
#[derive(Debug)]
pub struct Upstream {
    name: Box<str>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Rsync(Rsync),
    Http(Http),
    Directory(Directory),
}

/// What a fetch has brought.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Files that came, and are right.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes received for them, as far as that is known.
    pub received: u64,
    /// What is not there any more.
    pub missing: Vec<TreePath>,
    /// What came, twice, and is not what was wanted.
    pub wrong: Vec<(TreePath, Wrong)>,
}

impl Fetched {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.received += other.received;
        self.missing.extend(other.missing);
        self.wrong.extend(other.wrong);
    }

    /// Whether all that was wanted is in staging now, and right.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty()
    }
}

/// Most bytes of a list of so many entries: a path is that of a blob at the longest, or a repository's.
const fn max_list(max_entries: u64) -> u64 {
    (max_entries + 1000).saturating_mul(192)
}

impl Upstream {
    /// What asks the source; nothing is sent yet.
    pub fn open(source: &Source, options: &Options) -> Result<Self, Error> {
        let name: Box<str> = source.to_string().into();
        let way = match source {
            Source::Rsync(url) => Way::Rsync(Rsync::new(url, &name, options)),
            Source::Http(url) => Way::Http(Http::new(url, &name, options)?),
            Source::Directory(path) => Way::Directory(Directory::new(path, &name, options)),
        };
        Ok(Self { name, way })
    }

    /// Its URL, without a password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of its `state.json`.
    pub async fn state(&self, staging: &Staging) -> Result<Bytes, Error> {
        match &self.way {
            Way::Rsync(rsync) => rsync.state(staging).await,
            Way::Http(http) => http.state().await,
            Way::Directory(directory) => directory.state(),
        }
    }

    /// Brings the list that its state names to [`Staging::list`]. An older list to take as a `basis` spares
    /// most of the bytes over rsync.
    pub async fn list(
        &self,
        list: &ListRef,
        basis: Option<&Path>,
        staging: &Staging,
    ) -> Result<PathBuf, Error> {
        match &self.way {
            Way::Rsync(rsync) => rsync.list(list, basis, staging).await?,
            Way::Http(http) => http.list(list, staging).await?,
            Way::Directory(directory) => directory.list(list, staging).await?,
        }
        Ok(staging.list())
    }

    /// Brings all that is wanted into staging. What is there already, and right, is not asked for. Of an error,
    /// too, what was brought stays for the next time.
    pub async fn fetch(
        &self,
        wanted: Vec<Wanted>,
        staging: &Staging,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Fetched, Error> {
        let bytes = total(&wanted);
        progress.expect(wanted.len() as u64, bytes);
        let place = staging.clone();
        let wanted = blocking(move || {
            let right = place.adopt(&wanted)?;
            let mut wanted = wanted;
            wanted.retain(|wanted| !right.contains(&wanted.path));
            place.make_sure_of_room(total(&wanted))?;
            Ok::<_, Error>(wanted)
        })
        .await?;
        let lacking = total(&wanted);
        progress.came(0, bytes.saturating_sub(lacking));
        if wanted.is_empty() {
            return Ok(Fetched::default());
        }
        match &self.way {
            Way::Rsync(rsync) => rsync.fetch(wanted, staging, progress, stop).await,
            Way::Http(http) => http.fetch(wanted, staging, progress, stop).await,
            Way::Directory(directory) => directory.fetch(wanted, staging, progress, stop).await,
        }
    }
}

/// Ends what an earlier run that was killed has left running: it would write where this one verifies.
pub async fn end_what_is_left(staging: &Staging) -> Result<(), Error> {
    Ok(rsync::end_what_is_left(staging).await?)
}

/// The bytes of all of it; no disk has room for what does not fit in the number.
fn total(wanted: &[Wanted]) -> u64 {
    let sizes = wanted.iter().map(|wanted| wanted.size);
    sizes.fold(0, u64::saturating_add)
}

/// Runs blocking work on a thread for it. The one doorway of all ways.
async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    join(tokio::task::spawn_blocking(work)).await
}

/// A panic of the thread goes on here; a thread is never cancelled.
async fn join<T>(thread: impl Future<Output = Result<T, JoinError>>) -> T {
    match thread.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down; nobody will look at the result.
            Err(_) => std::future::pending().await,
        },
    }
}
