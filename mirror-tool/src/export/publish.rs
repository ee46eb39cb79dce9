//! Making finished images visible, as many at once as have queued up.
//!
//! Publishing costs syncs, and a set of syncs costs the same for one image as for a hundred. So one
//! task publishes. A round waits a little for company, and while the disk works, finished images queue
//! up for the next one. It does not wait when no image is left that could come.

use std::sync::Arc;
use std::time::Duration;

use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::writer::Image;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::Error;
use super::transfer::blocking;

/// Most images of one round, each with what belongs to it: the first of them waits for the last.
pub(super) const MAX_ROUND: usize = 1024;

/// How long the first image of a round waits for others: short for a person, long for a disk.
const GATHER: Duration = Duration::from_millis(500);

struct Finished {
    /// What belongs together: visible at once, or not at all.
    images: Vec<Image>,
    published: oneshot::Sender<Result<(), Error>>,
}

/// Where finished images queue up.
#[derive(Debug, Clone)]
pub(super) struct Queue(mpsc::Sender<Finished>);

/// The one task that publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    queue: mpsc::Receiver<Finished>,
    writer: Arc<TreeWriter>,
}

/// A queue and the publisher at its end.
pub(super) fn channel(writer: Arc<TreeWriter>) -> (Queue, Publisher) {
    let (sender, queue) = mpsc::channel(MAX_ROUND);
    (Queue(sender), Publisher { queue, writer })
}

impl Queue {
    /// Waits until `images` are visible, all of them at the same moment if they are of one repository.
    ///
    /// Takes the queue, since it has to be gone while its owner waits: so the publisher sees that nobody
    /// else is to come.
    pub(super) async fn publish(self, images: Vec<Image>) -> Result<(), Error> {
        let (published, result) = oneshot::channel();
        let finished = Finished { images, published };
        self.0.send(finished).await.map_err(|_| Error::Stopped)?;
        drop(self);
        result.await.map_err(|_| Error::Stopped)?
    }
}

impl Publisher {
    /// Publishes until every [`Queue`] is gone.
    pub(super) async fn run(mut self) {
        let mut round = Vec::new();
        while self.gather(&mut round).await > 0 {
            let (groups, waiting): (Vec<Vec<Image>>, Vec<_>) = round
                .drain(..)
                .map(|finished| (finished.images, finished.published))
                .unzip();
            for (result, published) in self.publish(groups).await.into_iter().zip(waiting) {
                // Whoever has stopped waiting was stopped itself.
                drop(published.send(result));
            }
        }
    }

    /// Waits for the first image of a round, and a little for the others.
    async fn gather(&mut self, round: &mut Vec<Finished>) -> usize {
        if self.queue.recv_many(round, MAX_ROUND).await > 0 {
            let until = Instant::now() + GATHER;
            while round.len() < MAX_ROUND {
                let more = self.queue.recv_many(round, MAX_ROUND - round.len());
                if !matches!(timeout_at(until, more).await, Ok(1..)) {
                    break;
                }
            }
        }
        round.len()
    }

    /// Publishes all together, or, when that fails, one by one: an image that cannot be published, say
    /// because the index of its repository is damaged, must not take the others with it.
    async fn publish(&self, groups: Vec<Vec<Image>>) -> Vec<Result<(), Error>> {
        let count = groups.len();
        let writer = Arc::clone(&self.writer);
        blocking(move || match writer.publish(&groups.concat()) {
            Ok(()) => (0..count).map(|_| Ok(())).collect(),
            Err(error) if count == 1 => vec![Err(error.into())],
            Err(error) if error.is_out_of_space() => {
                let error = Arc::new(Error::from(error));
                (0..count)
                    .map(|_| Err(Error::Shared(Arc::clone(&error))))
                    .collect()
            }
            Err(_) => groups
                .iter()
                .map(|images| writer.publish(images).map_err(Error::from))
                .collect(),
        })
        .await
    }
}
