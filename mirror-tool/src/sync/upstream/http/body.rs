//! The body of an answer, no faster than it may come, and not slower.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use oci_mirror::bucket::Bucket;
use tokio::time::Instant;

use super::Failure;

/// Over how much waiting the pace is looked at.
const WINDOW: Duration = Duration::from_secs(60);

/// Least bytes that have to come in it.
const LEAST: u64 = 60 << 10;

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Body<'a> {
    response: reqwest::Response,
    bucket: Option<&'a Bucket>,
    pace: Pace,
}

impl<'a> Body<'a> {
    pub(super) fn new(response: reqwest::Response, bucket: Option<&'a Bucket>) -> Self {
        Self {
            response,
            bucket,
            pace: Pace::default(),
        }
    }

    /// How long it is going to be, as far as that was said.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Whether it begins where it was asked to begin, and not at the beginning.
    pub(super) fn is_rest(&self) -> bool {
        self.response.status() == StatusCode::PARTIAL_CONTENT
    }

    /// The next bytes; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let began = Instant::now();
        let chunk = self.response.chunk().await.map_err(Failure::Broken)?;
        let Some(chunk) = chunk else {
            return Ok(None);
        };
        let length = chunk.len() as u64;
        if !self.pace.note(length, began.elapsed()) {
            return Err(Failure::Stalled);
        }
        if let Some(bucket) = self.bucket {
            // Our own waiting is not theirs.
            bucket.take(length).await;
        }
        Ok(Some(chunk))
    }
}

/// How fast bytes come while they are waited for.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts what has come; false if that is next to nothing.
    fn note(&mut self, bytes: u64, waited: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < WINDOW {
            return true;
        }
        let is_enough = self.bytes >= LEAST;
        *self = Self::default();
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_a_stall() {
        let second = Duration::from_secs(1);
        let mut trickle = Pace::default();
        let stalled = (0..60).position(|_| !trickle.note(100, second));
        assert_eq!(stalled, Some(59));
        let mut slow = Pace::default();
        assert!((0..600).all(|_| slow.note(1 << 10, second)));
    }
}
