//! Bytes that go through here: for clients that cannot go on with a broken transfer.
//!
//! podman before 4.5 and skopeo before 1.12 fail a whole pull when one mirror fails them. An operator may
//! [name](rule) such clients; they are sent nowhere, but get the bytes of the tree, or, if the operator would
//! rather spend the traffic than the disk, those of mirrors: read here piece by piece, each checked
//! before it is handed on, and from the next mirror or at last the tree if it is wrong or does not come.
//! A private mirror is asked wherever it is, as the crawler does; for all others, addresses are guarded.
//! Invariant: no byte goes out that was not compared with a digest.
//!
//! A body is a stream that the connection polls: it has no task, and nothing of it outlives the client. The
//! pieces that are held at any moment have their room taken from a common stock; where none is left, the tree
//! is read instead.

mod room;
pub mod rule;
mod source;
mod verified;

#[cfg(test)]
mod faults;

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use http::{Response, StatusCode};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::tree::Tree;
use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::pieces::length_for;

pub use rule::ClientRule;

use crate::config::{Config, Stream};
use crate::crawler::guard::Policy;
use crate::metalink::pieces::Known;
use crate::network::HostId;
use crate::remembered::Remembered;
use room::Room;
use source::{Limits, Mirrors};

/// How long a mirror that has failed us is asked after the others, whatever is made of clients that come back.
pub const ASIDE: Duration = Duration::from_secs(120);

/// What hands bytes on.
#[derive(Debug)]
pub struct Relay {
    /// Who gets them, and from where.
    pub settings: Stream,
    /// Where mirrors may be that are not private.
    pub policy: Policy,
    lasting: Arc<Lasting>,
}

/// What goes on when the settings change.
#[derive(Debug)]
struct Lasting {
    counts: Counts,
    mirrors: Mirrors,
    room: Arc<Room>,
}

/// Bytes handed on, by where they came from.
#[derive(Debug, Default)]
pub struct Counts {
    /// From mirrors.
    pub from_mirrors: AtomicU64,
    /// From the tree, where mirrors failed.
    pub from_tree: AtomicU64,
}

/// A mirror that should have a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which it is.
    pub host: HostId,
    /// Where the blob is there.
    pub url: String,
    /// Where it may be, and lead.
    pub policy: Policy,
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
    /// Mirrors that should have it, best first.
    pub sources: Vec<Source>,
    /// Where it is read in the end.
    pub tree: Tree,
    /// What is told of a mirror that fails.
    pub remembered: Arc<Remembered>,
}

impl Relay {
    /// What a configuration says of it.
    pub fn new(config: &Config) -> Self {
        Self::within(Limits::default(), config)
    }

    fn within(limits: Limits, config: &Config) -> Self {
        Self {
            settings: config.stream.clone(),
            policy: Policy::from(&config.crawler),
            lasting: Arc::new(Lasting {
                counts: Counts::default(),
                mirrors: Mirrors::new(limits, &config.crawler.authorities),
                room: Arc::default(),
            }),
        }
    }

    /// These settings, with all that `before` has counted and holds.
    #[must_use]
    pub fn going_on_from(&self, before: &Self) -> Self {
        Self {
            settings: self.settings.clone(),
            policy: self.policy,
            lasting: Arc::clone(&before.lasting),
        }
    }

    /// How many bytes were handed on.
    pub fn counts(&self) -> &Counts {
        &self.lasting.counts
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
        let bytes = 2 * length_for(size).unwrap_or(size);
        let room = Room::take(&self.lasting.room, bytes, self.settings.memory.0)?;
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
            &self.lasting.counts.from_mirrors
        } else {
            &self.lasting.counts.from_tree
        };
        count.fetch_add(bytes, Relaxed);
    }
}
