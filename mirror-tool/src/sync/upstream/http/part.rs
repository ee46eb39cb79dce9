//! Where a large file grows up that comes over HTTP: a thread that hashes and writes `X.part`.
//!
//! What an earlier run, or an earlier connection, has left of it is read and hashed once, and the rest goes
//! behind it. Whether the beginning was right shows at the end, in the digest of the whole. A transfer that was
//! abandoned ends here a little later: when staging was cleared meanwhile, what lies under the name is not its own.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::sync::Wanted;
use crate::sync::staging::{Comparison, Generation, Staging, Wrong, failed, make_readable};
use crate::sync::upstream::join;

/// How often, and after which pause, a beginning is asked for that somebody still has.
const TRIES: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(10);

/// How much is gathered before it is written.
const GATHERED: usize = 512 << 10;

/// The way to the writer of one file.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    steps: mpsc::Sender<Step>,
    thread: JoinHandle<Result<(), Wrong>>,
    gathered: Vec<Bytes>,
    waiting: usize,
    /// How much of the file there is.
    pub(super) length: u64,
    /// How often it was begun anew.
    pub(super) restarts: u32,
}

#[derive(Debug)]
enum Step {
    Write(Vec<Bytes>),
    Restart,
    Finish,
}

impl Part {
    /// Goes on with what there is of a file.
    pub(super) async fn open(wanted: &Wanted, staging: &Staging) -> Result<Self, Wrong> {
        let (steps, received) = mpsc::channel(2);
        let (tell, told) = oneshot::channel();
        let (wanted, staging) = (wanted.clone(), staging.clone());
        let path = staging.part(&wanted.path);
        // Ends with the channel, so an abandoned transfer leaves no thread behind.
        let thread =
            tokio::task::spawn_blocking(move || Growing::run(&wanted, &staging, tell, received));
        let mut part = Self {
            path,
            steps,
            thread,
            gathered: Vec::new(),
            waiting: 0,
            length: 0,
            restarts: 0,
        };
        match told.await {
            Ok(length) => part.length = length,
            Err(_) => return Err(part.end().await),
        }
        Ok(part)
    }

    /// Adds the next bytes.
    pub(super) async fn write(&mut self, chunk: Bytes) -> Result<(), Wrong> {
        self.length += chunk.len() as u64;
        self.waiting += chunk.len();
        self.gathered.push(chunk);
        if self.waiting >= GATHERED {
            self.flush().await?;
        }
        Ok(())
    }

    /// Begins anew.
    pub(super) async fn restart(&mut self) -> Result<(), Wrong> {
        self.gathered.clear();
        (self.waiting, self.length) = (0, 0);
        self.restarts += 1;
        self.send(Step::Restart).await
    }

    /// Hands over what was gathered; what comes later goes behind it.
    pub(super) async fn flush(&mut self) -> Result<(), Wrong> {
        let gathered = std::mem::take(&mut self.gathered);
        self.waiting = 0;
        self.send(Step::Write(gathered)).await
    }

    /// Compares the whole, and gives it its name in staging. What is wrong is removed.
    pub(super) async fn finish(mut self) -> Result<(), Wrong> {
        self.flush().await?;
        self.send(Step::Finish).await?;
        join(self.thread).await
    }

    async fn send(&mut self, step: Step) -> Result<(), Wrong> {
        match self.steps.send(step).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.end().await),
        }
    }

    /// Why the writer has stopped taking more.
    async fn end(&mut self) -> Wrong {
        let early = || io::Error::other("the writer has ended early");
        join(&mut self.thread)
            .await
            .err()
            .unwrap_or_else(|| Wrong::Disk(failed(&self.path, early())))
    }
}

/// Opens a beginning for the only one that writes to it. The thread of a transfer that was abandoned may still be
/// at work, but not for long; it may also give the file its name, and then there is another one to open.
fn alone(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let opened = file.metadata()?;
                let is_it = |found: fs::Metadata| {
                    (found.dev(), found.ino()) == (opened.dev(), opened.ino())
                };
                if fs::symlink_metadata(path).is_ok_and(is_it) {
                    return Ok(file);
                }
            }
            Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "an abandoned transfer does not end",
    ))
}

/// The file, in the thread that writes it.
struct Growing<'a> {
    wanted: &'a Wanted,
    staging: &'a Staging,
    /// When it was begun.
    generation: Generation,
    file: File,
    comparison: Comparison,
}

impl<'a> Growing<'a> {
    fn run(
        wanted: &'a Wanted,
        staging: &'a Staging,
        tell: oneshot::Sender<u64>,
        mut received: mpsc::Receiver<Step>,
    ) -> Result<(), Wrong> {
        let mut growing = Self::open(wanted, staging)?;
        // Nobody listens any more when the run was ended.
        let _ = tell.send(growing.comparison.seen());
        while let Some(step) = received.blocking_recv() {
            if staging.generation() != growing.generation {
                return Err(Wrong::Missing);
            }
            match step {
                Step::Write(chunks) => growing.write(&chunks)?,
                Step::Restart => growing.restart()?,
                Step::Finish => return growing.finish(),
            }
        }
        Ok(())
    }

    fn open(wanted: &'a Wanted, staging: &'a Staging) -> Result<Self, Wrong> {
        let generation = staging.generation();
        let path = staging.part(&wanted.path);
        staging.make_parent(&path).map_err(Wrong::Disk)?;
        let mut file = alone(&path).map_err(|source| Wrong::Disk(failed(&path, source)))?;
        let mut comparison = Comparison::new(wanted)?;
        let mut buffer = vec![0; 128 << 10];
        let kept = loop {
            match file.read(&mut buffer) {
                Ok(0) => break true,
                Ok(length) if comparison.update(&buffer[..length]).is_err() => break false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        let mut growing = Self {
            wanted,
            staging,
            generation,
            file,
            comparison,
        };
        if !kept {
            growing.restart()?;
        }
        Ok(growing)
    }

    fn write(&mut self, chunks: &[Bytes]) -> Result<(), Wrong> {
        for chunk in chunks {
            if let Err(wrong) = self.comparison.update(chunk) {
                self.remove();
                return Err(wrong);
            }
            self.file
                .write_all(chunk)
                .map_err(|source| self.disk(source))?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Wrong> {
        self.comparison = Comparison::new(self.wanted)?;
        self.file
            .set_len(0)
            .and_then(|()| io::Seek::rewind(&mut self.file))
            .map_err(|source| self.disk(source))
    }

    fn finish(self) -> Result<(), Wrong> {
        let part = self.staging.part(&self.wanted.path);
        let verified = match self.comparison.finish() {
            Ok(verified) => verified,
            Err(wrong) => {
                // Whatever becomes of it: it is compared again before it is used.
                let _ = fs::remove_file(part);
                return Err(wrong);
            }
        };
        let target = self.staging.path(&self.wanted.path);
        make_readable(&self.file, Some(self.wanted.time))
            .and_then(|()| fs::rename(&part, &target))
            .map_err(|source| Wrong::Disk(failed(&target, source)))?;
        self.staging
            .keep_pieces(self.wanted, &verified)
            .map_err(Wrong::Disk)?;
        self.staging.note(&self.wanted.path, self.generation);
        Ok(())
    }

    fn remove(&self) {
        let _ = fs::remove_file(self.staging.part(&self.wanted.path));
    }

    fn disk(&self, source: io::Error) -> Wrong {
        Wrong::Disk(failed(&self.staging.part(&self.wanted.path), source))
    }
}

#[cfg(test)]
mod tests {
    use oci_mirror::tree::TreeWriter;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_ends_after_a_clearing_touches_nothing_that_came_later() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        let wanted = Wanted::blob(b"bytes");
        let mut late = Part::open(&wanted, &staging).await.unwrap();
        late.write(Bytes::from_static(b"bytes")).await.unwrap();
        late.flush().await.unwrap();
        staging.clear().unwrap();
        // Somebody else has begun it anew.
        let mut begun = Part::open(&wanted, &staging).await.unwrap();
        begun.write(Bytes::from_static(b"by")).await.unwrap();
        begun.flush().await.unwrap();
        assert!(matches!(late.finish().await, Err(Wrong::Missing)));
        assert!(!staging.is_right(&wanted.path));
        assert!(!staging.path(&wanted.path).exists());
        begun.write(Bytes::from_static(b"tes")).await.unwrap();
        begun.finish().await.unwrap();
        assert!(staging.is_right(&wanted.path));
        assert_eq!(fs::read(staging.path(&wanted.path)).unwrap(), b"bytes");
    }
}
