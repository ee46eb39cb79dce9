//! Bytes that go through here: for clients that cannot go on with a broken transfer.
//!
//! podman before 4.5 and skopeo before 1.12 fail a whole pull when one mirror fails them. An operator may
//! [name](rule) such clients; they are sent nowhere, but get the bytes of the tree, or, if the operator would
//! rather spend the traffic than the disk, those of mirrors: read here piece by piece, each checked
//! before it is handed on, and from the next mirror or at last the tree if it is wrong or does not come.
//! Invariant: no byte goes out that was not compared with a digest.
//!
//! A body is a stream that the connection polls: it has no task, and nothing of it outlives the client. The
//! pieces that are held at any moment have their room taken from a common stock; where none is left, the tree
//! is read instead.

pub mod rule;
mod source;
mod verified;

#[cfg(test)]
mod faults;

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use http::{Response, StatusCode};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::tree::Tree;
use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::pieces::length_for;
use tokio::sync::Semaphore;

pub use rule::ClientRule;

use crate::config::{Config, Stream};
use crate::crawler::guard::Policy;
use crate::metalink::pieces::Known;
use crate::network::HostId;
use crate::remembered::Remembered;
use source::{Limits, Mirrors};

/// What hands bytes on.
#[derive(Debug)]
pub struct Relay {
    /// Who gets them, and from where.
    pub settings: Stream,
    /// How many bytes were handed on.
    pub counts: Counts,
    mirrors: Mirrors,
    /// Room for pieces, in KiB.
    room: Arc<Semaphore>,
}

/// Bytes handed on, by where they came from.
#[derive(Debug, Default)]
pub struct Counts {
    /// From mirrors.
    pub from_mirrors: AtomicU64,
    /// From the tree, where mirrors failed.
    pub from_tree: AtomicU64,
}

/// A blob to be handed on.
#[derive(Debug)]
pub struct Order {
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
    /// Its number.
    pub id: BlobId,
    /// Its pieces; one of a MiB at most needs none.
    pub pieces: Option<Arc<Known>>,
    /// The part that is asked for, if not the whole.
    pub part: Option<Range<u64>>,
    /// Mirrors that should have it, with the URL of the blob there, best first.
    pub sources: Vec<(HostId, String)>,
    /// Where it is read in the end.
    pub tree: Tree,
    /// What is told of a mirror that fails.
    pub remembered: Arc<Remembered>,
}

impl Relay {
    /// What a configuration says of it.
    pub fn new(config: &Config) -> Self {
        let room = usize::try_from(config.stream.memory.0 / 1024).unwrap_or(usize::MAX);
        Self {
            settings: config.stream.clone(),
            counts: Counts::default(),
            mirrors: Mirrors::new(Policy::from(&config.crawler), Limits::default()),
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Whether the client that sends these fields is among those named.
    pub fn is_for(&self, headers: &HeaderMap) -> bool {
        if self.settings.clients.is_empty() {
            return false;
        }
        let agent = headers.get(USER_AGENT).and_then(|it| it.to_str().ok());
        let rules = &self.settings.clients;
        agent.is_some_and(|agent| rules.iter().any(|rule| rule.names(agent)))
    }

    /// The response with a blob, as the tree would give it; `None` if there is no room for it, or nothing to
    /// check it by.
    pub fn respond(self: &Arc<Self>, order: Order) -> Option<Response<Body>> {
        let (size, asked) = (order.size, order.part.clone());
        let part = asked.clone().unwrap_or(0..size);
        let plan = verified::Plan::of(&order)?;
        // One piece is on its way out while the next one comes in.
        let kib = (2 * length_for(size).unwrap_or(size)).div_ceil(1024);
        let kib = u32::try_from(kib).ok()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib).ok()?;
        let mut response = Response::new(verified::body(Arc::clone(self), order, plan, room));
        let fields = response.headers_mut();
        fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let octets = HeaderValue::from_static("application/octet-stream");
        fields.insert(CONTENT_TYPE, octets);
        fields.insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
        if let Some(part) = asked {
            let mut text = String::with_capacity(64);
            write!(text, "bytes {}-{}/{size}", part.start, part.end - 1).ok()?;
            fields.insert(CONTENT_RANGE, HeaderValue::try_from(text).ok()?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Some(response)
    }

    fn count(&self, from_mirror: bool, bytes: u64) {
        let count = if from_mirror {
            &self.counts.from_mirrors
        } else {
            &self.counts.from_tree
        };
        count.fetch_add(bytes, Relaxed);
    }
}
