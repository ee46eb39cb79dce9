//! Many files over a few connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::vec;

use bytes::BytesMut;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::patience::Patience;
use super::part::Part;
use super::{Ask, Failure, Http};
use crate::sync::Wanted;
use crate::sync::progress::Progress;
use crate::sync::staging::{Comparison, Staging, Wrong};
use crate::sync::upstream::{Error, Fetched};

/// Up to this many bytes a file is gathered in memory, and written at once.
const SMALL: u64 = 256 << 10;

/// How much has to come for the tries to be counted anew.
const ADVANCE: u64 = 1 << 20;

/// Brings all of it, the longest first, so that no connection is left alone with a long one at the end.
pub(super) async fn run(
    http: &Http,
    mut wanted: Vec<Wanted>,
    staging: &Staging,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Fetched, Error> {
    wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.size));
    let jobs = http.0.jobs.get().min(wanted.len());
    let queue = Arc::new(Mutex::new(wanted.into_iter()));
    let mut workers = JoinSet::new();
    for _ in 0..jobs {
        let worker = Worker {
            http: http.clone(),
            staging: staging.clone(),
            progress: progress.clone(),
            queue: Arc::clone(&queue),
            fetched: Fetched::default(),
        };
        workers.spawn(worker.work());
    }
    let mut all = Fetched::default();
    loop {
        // Whoever leaves here ends the others by dropping them.
        let ended = tokio::select! {
            () = stop.cancelled() => return Err(Error::Stopped),
            ended = workers.join_next() => ended,
        };
        match ended {
            None => return Ok(all),
            Some(Ok(fetched)) => all.add(fetched?),
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(Error::Stopped),
            },
        }
    }
}

/// One of those who fetch.
struct Worker {
    http: Http,
    staging: Staging,
    progress: Progress,
    queue: Arc<Mutex<vec::IntoIter<Wanted>>>,
    fetched: Fetched,
}

impl Worker {
    async fn work(mut self) -> Result<Fetched, Error> {
        while let Some(wanted) = self.next() {
            let path = &wanted.path;
            let outcome = match self.one(&wanted, Ask::Any).await {
                Err(Failure::Wrong(wrong)) => {
                    tracing::info!(%path, %wrong, "fetching again from the start");
                    self.one(&wanted, Ask::Anew).await
                }
                outcome => outcome,
            };
            match outcome {
                Ok(()) => {
                    self.fetched.files += 1;
                    self.fetched.bytes += wanted.size;
                }
                Err(Failure::NotFound) => self.fetched.missing.push(wanted.path),
                Err(Failure::Wrong(wrong)) => self.fetched.wrong.push((wanted.path, wrong)),
                Err(failure) => return Err(failure.into_error(&self.http.0.upstream, path)),
            }
        }
        Ok(self.fetched)
    }

    fn next(&self) -> Option<Wanted> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.next()
    }

    async fn one(&mut self, wanted: &Wanted, ask: Ask) -> Result<(), Failure> {
        if wanted.size <= SMALL {
            self.small(wanted, ask).await
        } else {
            self.large(wanted, ask).await
        }
    }

    async fn small(&mut self, wanted: &Wanted, ask: Ask) -> Result<(), Failure> {
        let mut patience = Patience::new(self.http.0.retries);
        loop {
            match self.collect(wanted, ask).await {
                Ok(()) => break,
                Err(failure) => self.again(failure, wanted, &mut patience).await?,
            }
        }
        self.progress.came(1, wanted.size);
        Ok(())
    }

    /// A small file, by one question.
    async fn collect(&mut self, wanted: &Wanted, ask: Ask) -> Result<(), Failure> {
        let mut comparison = Comparison::new(wanted)?;
        let http = self.http.clone();
        let mut body = http.get(&wanted.path, ask).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await? {
            self.fetched.received += chunk.len() as u64;
            comparison.update(&chunk)?;
            bytes.extend_from_slice(&chunk);
        }
        comparison.finish()?;
        // So small that a thread for it would cost more than all that is done.
        self.staging.place(wanted, &bytes).map_err(Failure::Disk)
    }

    async fn large(&mut self, wanted: &Wanted, ask: Ask) -> Result<(), Failure> {
        let mut part = Part::open(wanted, &self.staging).await?;
        if ask == Ask::Anew {
            part.restart().await?;
        }
        self.progress.came(0, part.length);
        let mut patience = Patience::new(self.http.0.retries);
        // The most there ever was: what comes once more after a new start is no advance.
        let mut most = part.length;
        while part.length < wanted.size {
            let before = part.length;
            let failure = match self.fill(wanted, ask, &mut part).await {
                Ok(()) => break,
                Err(Failure::Range) if before > 0 && self.may_restart(&part) => {
                    // It cannot go on, so it starts again.
                    part.restart().await?;
                    continue;
                }
                Err(failure) => failure,
            };
            // What came before the break counts: the next try goes on behind it.
            part.flush().await?;
            if part.length > most.saturating_add(ADVANCE) {
                patience.renew();
            }
            most = most.max(part.length);
            self.again(failure, wanted, &mut patience).await?;
        }
        part.finish().await?;
        self.progress.came(1, 0);
        Ok(())
    }

    /// What is lacking of a large file, until the answer ends or breaks.
    async fn fill(&mut self, wanted: &Wanted, ask: Ask, part: &mut Part) -> Result<(), Failure> {
        let ask = match part.length {
            0 => ask,
            length => Ask::From(length),
        };
        let http = self.http.clone();
        let mut body = http.get(&wanted.path, ask).await?;
        if part.length > 0 && !body.is_rest() {
            if !self.may_restart(part) {
                return Err(Failure::Range);
            }
            part.restart().await?;
        }
        let rest = wanted.size - part.length;
        if let Some(length) = body.length().filter(|length| *length != rest) {
            return Err(Failure::Wrong(Wrong::Size {
                should: wanted.size,
                is: part.length + length,
            }));
        }
        while let Some(chunk) = body.next().await? {
            let length = chunk.len() as u64;
            self.fetched.received += length;
            part.write(chunk).await?;
            self.progress.came(0, length);
        }
        Ok(())
    }

    /// Whether one more new start is worth it, for a server that never goes on where it broke off.
    fn may_restart(&self, part: &Part) -> bool {
        part.restarts <= u32::from(self.http.0.retries)
    }

    /// Waits before the next try, if there is one.
    async fn again(
        &self,
        failure: Failure,
        wanted: &Wanted,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        if failure.is_temporary() && patience.wait(failure.retry_after()).await {
            tracing::debug!(path = %wanted.path, %failure, "asking again");
            return Ok(());
        }
        Err(failure)
    }
}
