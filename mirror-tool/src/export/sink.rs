//! Where a large blob goes: a thread that hashes and writes, fed a MiB at a time.
//!
//! A new MiB is gathered only once the writer has taken the previous one, so a transfer holds two MiB
//! whatever the size of the blob.

use std::sync::Arc;

use bytes::Bytes;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::writer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::Error;
use super::progress::BlobProgress;
use super::source::Origin;
use super::transfer::{BUFFER, join};

/// The way to the writer of one blob.
#[derive(Debug)]
pub(super) struct Sink {
    steps: mpsc::Sender<Step>,
    thread: JoinHandle<Result<(), writer::Error>>,
    /// How much has been handed over.
    written: u64,
    /// How much has ever been handed over between two starts.
    pub(super) furthest: u64,
    /// Whether the source has refused to go on once already.
    refused: bool,
}

#[derive(Debug)]
enum Step {
    Write(Vec<Bytes>),
    Restart,
    Finish,
}

impl Sink {
    pub(super) fn open(writer: &Arc<TreeWriter>, descriptor: &Descriptor) -> Self {
        let (steps, mut received) = mpsc::channel(1);
        let (writer, digest, size) = (Arc::clone(writer), descriptor.digest, descriptor.size);
        // Ends with the channel, so an abandoned transfer leaves neither thread nor file behind.
        let thread = tokio::task::spawn_blocking(move || {
            let mut blob = writer.stage(digest, size)?;
            while let Some(step) = received.blocking_recv() {
                match step {
                    Step::Write(chunks) => chunks.iter().try_for_each(|chunk| blob.write(chunk))?,
                    Step::Restart => blob.restart()?,
                    Step::Finish => return blob.finish(),
                }
            }
            Ok(())
        });
        Self {
            steps,
            thread,
            written: 0,
            furthest: 0,
            refused: false,
        }
    }

    /// Hands over what is still missing, until the source ends or breaks.
    pub(super) async fn fill(
        &mut self,
        descriptor: &Descriptor,
        origin: &Origin,
        progress: &BlobProgress,
    ) -> Result<(), Error> {
        if self.written >= descriptor.size {
            // Only the end was missing, and nothing can be asked for behind it.
            return Ok(());
        }
        let mut chunks = match origin.blob(&descriptor.digest, self.written).await {
            // It cannot go on, so it starts again; but it had its chance once.
            Err(error) if self.written > 0 && error.is_range_refused() && !self.refused => {
                self.refused = true;
                origin.blob(&descriptor.digest, 0).await?
            }
            chunks => chunks?,
        };
        if chunks.start() == 0 && self.written > 0 {
            self.send(Step::Restart).await?;
            self.written = 0;
        }
        loop {
            // Taken before gathering: the writer holds one MiB, and we the next.
            let Ok(turn) = self.steps.reserve().await else {
                return Err(self.end().await);
            };
            let mut gathered = Vec::new();
            let mut length = 0;
            let result = loop {
                match chunks.next().await {
                    Ok(Some(chunk)) => {
                        length += chunk.len() as u64;
                        gathered.push(chunk);
                        if length >= BUFFER {
                            break Ok(Flow::More);
                        }
                    }
                    Ok(None) => break Ok(Flow::End),
                    Err(error) => break Err(error),
                }
            };
            // What came before the break counts: the next try goes on behind it.
            turn.send(Step::Write(gathered));
            self.written += length;
            self.furthest = self.furthest.max(self.written);
            progress.at(self.written);
            match result? {
                Flow::More => {}
                Flow::End => return Ok(()),
            }
        }
    }

    /// Compares and hands the blob over to be published.
    pub(super) async fn finish(mut self) -> Result<(), Error> {
        self.send(Step::Finish).await?;
        Ok(join(&mut self.thread).await?)
    }

    async fn send(&mut self, step: Step) -> Result<(), Error> {
        match self.steps.send(step).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.end().await),
        }
    }

    /// Why the writer has stopped taking more.
    async fn end(&mut self) -> Error {
        match join(&mut self.thread).await {
            Err(error) => error.into(),
            Ok(()) => Error::Stopped,
        }
    }
}

enum Flow {
    More,
    End,
}
