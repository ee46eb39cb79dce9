//! A body whose every piece was checked before it goes out.
//!
//! A piece is read whole, hashed as it comes in, and only then handed on. One that is wrong, or does not come,
//! is read from the next mirror, and in the end from the tree; if that has it no better, the connection is
//! broken off, which a client notices.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, Stream as _, try_unfold};
use http_body::{Frame, SizeHint};
use oci_mirror::digest::Digest;
use oci_mirror::error_chain::chain;
use oci_mirror::http::Body;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::pieces::{PieceHash, length_for};
use tokio::task::spawn_blocking;

use super::room::Taken;
use super::source::{Error, Transfer};
use super::{Order, Relay, Source};
use crate::remembered::OURSELVES;

/// Which pieces are wanted, and what each must be.
#[derive(Debug)]
pub(super) struct Plan {
    /// How long each is but the last of the blob.
    length: u64,
    /// By number; of a blob without pieces there is one.
    digests: Vec<Digest>,
    /// The number of the next.
    next: usize,
    /// What of the blob is asked for.
    part: Range<u64>,
}

impl Plan {
    /// The plan of an order; `None` if there is nothing to check the bytes by.
    pub(super) fn of(order: &Order) -> Option<Self> {
        let part = order.part.clone().unwrap_or(0..order.size);
        let (length, digests) = match length_for(order.size) {
            None => (order.size.max(1), vec![order.digest]),
            Some(length) => {
                let pieces = order.pieces.as_ref()?.pieces.as_ref()?;
                let digest = |hash: &PieceHash| Digest::Sha256(*hash);
                (length, pieces.hashes().iter().map(digest).collect())
            }
        };
        Some(Self {
            next: usize::try_from(part.start / length).ok()?,
            length,
            digests,
            part,
        })
    }

    /// The next piece: where it is in the blob of `size` bytes, and what it must be.
    fn piece(&self, size: u64) -> Option<(Range<u64>, Digest)> {
        let start = self.next as u64 * self.length;
        let digest = self.digests.get(self.next)?;
        (start < self.part.end).then(|| (start..size.min(start + self.length), *digest))
    }

    /// Where the last piece ends that is wanted.
    fn end(&self, size: u64) -> u64 {
        size.min(self.part.end.next_multiple_of(self.length))
    }
}

/// The body with what is ordered. It holds the `room` for as long as it lives.
pub(super) fn body(relay: Arc<Relay>, order: Order, plan: Plan, room: Taken) -> Body {
    let left = plan.part.end - plan.part.start;
    let reader = Reader {
        sources: order.sources.into(),
        order: Order {
            sources: Vec::new(),
            ..order
        },
        relay,
        plan,
        transfer: None,
        _room: room,
    };
    let chunks = try_unfold(reader, async |mut reader| {
        let piece = reader.next().await?;
        Ok::<_, io::Error>(piece.map(|piece| (piece, reader)))
    });
    Body::boxed(Through {
        chunks: chunks.boxed(),
        left,
    })
}

/// Where the next piece comes from.
struct Reader {
    relay: Arc<Relay>,
    order: Order,
    plan: Plan,
    /// The mirrors that have not failed.
    sources: VecDeque<Source>,
    /// What the first of them is sending.
    transfer: Option<Transfer>,
    _room: Taken,
}

/// Why a piece of a mirror is not handed on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Source(#[from] Error),
    #[error("its bytes are not those of the blob")]
    Wrong,
}

impl Reader {
    /// The next piece, as far as it is asked for.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some((piece, digest)) = self.plan.piece(self.order.size) else {
            return Ok(None);
        };
        let bytes = self.checked(&piece, &digest).await?;
        self.plan.next += 1;
        let part = &self.plan.part;
        let within = |at: u64| usize::try_from(at - piece.start).unwrap_or(usize::MAX);
        let first = within(part.start.max(piece.start));
        let last = within(part.end.min(piece.end));
        Ok(Some(bytes.slice(first..last)))
    }

    async fn checked(&mut self, piece: &Range<u64>, digest: &Digest) -> io::Result<Bytes> {
        let length = piece.end - piece.start;
        while let Some(source) = self.sources.front().cloned() {
            let host = source.host;
            // A server gives up a client that is slow; so a transfer that was under way may break for a reason
            // that is none of the mirror's, and is begun once more.
            let was_under_way = self.transfer.is_some();
            let mut read = self.read_mirror(&source, piece, digest).await;
            if was_under_way && matches!(read, Err(Failure::Source(Error::Broken(_)))) {
                self.transfer = None;
                read = self.read_mirror(&source, piece, digest).await;
            }
            match read {
                Ok(bytes) => {
                    self.relay.count(true, length);
                    return Ok(bytes);
                }
                Err(failure) => {
                    tracing::debug!(host.id = %host, blob = %self.order.digest, error = chain(&failure), "a mirror fails a client that is served here");
                    let here = (*OURSELVES, Instant::now());
                    self.order.remembered.suspect(host, self.order.id, here);
                    self.sources.pop_front();
                    self.transfer = None;
                }
            }
        }
        let bytes = self.read_tree(piece.clone(), *digest).await?;
        self.relay.count(false, length);
        Ok(bytes)
    }

    async fn read_mirror(
        &mut self,
        source: &Source,
        piece: &Range<u64>,
        digest: &Digest,
    ) -> Result<Bytes, Failure> {
        if self.transfer.is_none() {
            let size = self.order.size;
            let wanted = piece.start..self.plan.end(size);
            let opened = self
                .relay
                .lasting
                .mirrors
                .open(source, &wanted, size)
                .await?;
            self.transfer = Some(opened);
        }
        let Some(transfer) = &mut self.transfer else {
            return Err(Failure::Source(Error::Broken(None)));
        };
        let length = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::with_capacity(length);
        let mut hasher = digest.algorithm().hasher();
        transfer.start();
        while bytes.len() < length {
            let chunk = transfer.next(length - bytes.len()).await?;
            hasher.update(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        if hasher.finish() == *digest {
            Ok(bytes.freeze())
        } else {
            Err(Failure::Wrong)
        }
    }

    async fn read_tree(&mut self, piece: Range<u64>, digest: Digest) -> io::Result<Bytes> {
        let (tree, blob) = (self.order.tree.clone(), self.order.digest);
        let read = move || {
            let file = tree
                .open_file(&TreePath::Blob(blob))
                .map_err(io::Error::other)?;
            let length = usize::try_from(piece.end - piece.start).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, piece.start)?;
            if digest.algorithm().digest(&bytes) == digest {
                Ok(Bytes::from(bytes))
            } else {
                let what = "neither a mirror nor the tree has the right bytes";
                Err(io::Error::other(what))
            }
        };
        let read = spawn_blocking(read).await.map_err(io::Error::other)?;
        read.inspect_err(|error| {
            tracing::error!(error = error as &dyn std::error::Error, blob = %blob, "a client gets half of a blob");
        })
    }
}

/// A stream of pieces whose length is known.
struct Through {
    chunks: BoxStream<'static, io::Result<Bytes>>,
    left: u64,
}

impl http_body::Body for Through {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let chunk = ready!(Pin::new(&mut self.chunks).poll_next(context));
        Poll::Ready(chunk.map(|chunk| {
            chunk.map(|bytes| {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Frame::data(bytes)
            })
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
