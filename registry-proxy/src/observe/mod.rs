//! What an operator gets to know about requests: counters, a line in the log, statistics.
//!
//! One [`Event`] for each request, made when the head of its answer is ready. The counters ([`counters`],
//! [`redirects`]) cost a few atomic additions and are always on; the log ([`access`]) and the statistics
//! ([`statistics`]) are off until they are asked for. Addresses of clients go nowhere but into the log, and
//! there only if the operator says so.

pub mod access;
pub mod counters;
pub mod metrics;
pub mod redirects;
pub mod statistics;

use std::time::{Duration, Instant};

use http::{Method, StatusCode, Uri};
use oci_mirror::reference::RepoName;

use crate::client_address::Caller;
use crate::presence::HostPosition;
use crate::snapshot::Snapshot;

pub use counters::Counters;
pub use redirects::Redirects;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Is this a registry?
    Base,
    /// The list of repositories.
    Catalog,
    /// The tags of a repository.
    Tags,
    /// A manifest by its tag: where a pull begins.
    Tag,
    /// A manifest by its digest.
    Manifest,
    /// A blob.
    Blob,
    /// The referrers of a manifest.
    Referrers,
    /// To which mirrors a client would be sent.
    MirrorList,
    /// Something under `/v2/` that is no endpoint.
    Other,
    /// A file of the tree, as a mirror has it.
    Tree,
    /// Any other page.
    Page,
}

impl Kind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 11] = [
        Self::Base,
        Self::Catalog,
        Self::Tags,
        Self::Tag,
        Self::Manifest,
        Self::Blob,
        Self::Referrers,
        Self::MirrorList,
        Self::Other,
        Self::Tree,
        Self::Page,
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags => "tags",
            Self::Tag => "tag",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Referrers => "referrers",
            Self::MirrorList => "mirrorlist",
            Self::Other => "other",
            Self::Tree => "tree",
            Self::Page => "page",
        }
    }
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With what was asked for.
    Content,
    /// With the way to a mirror.
    Redirect,
    /// With a metalink.
    Metalink,
    /// With the news that the client has it already.
    NotModified,
    /// There is no such thing.
    NotFound,
    /// The request is wrong.
    Refused,
    /// We are.
    Failed,
}

impl Outcome {
    /// All outcomes, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Content,
        Self::Redirect,
        Self::Metalink,
        Self::NotModified,
        Self::NotFound,
        Self::Refused,
        Self::Failed,
    ];

    /// The outcome that a status stands for; a metalink has the status of content.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            304 => Self::NotModified,
            300..=399 => Self::Redirect,
            404 | 410 => Self::NotFound,
            400..=499 => Self::Refused,
            500..=599 => Self::Failed,
            _ => Self::Content,
        }
    }

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Redirect => "redirect",
            Self::Metalink => "metalink",
            Self::NotModified => "not-modified",
            Self::NotFound => "not-found",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// One request and how it was answered.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What was asked for.
    pub kind: Kind,
    /// How it was answered.
    pub outcome: Outcome,
    /// The status of the answer.
    pub status: StatusCode,
    /// The method of the request.
    pub method: &'a Method,
    /// The target of the request.
    pub uri: &'a Uri,
    /// Who asked.
    pub client: &'a Caller<'a>,
    /// The repository, if the tree has it.
    pub repository: Option<&'a RepoName>,
    /// The mirror the client was sent to.
    pub mirror: Option<HostPosition>,
    /// The bytes the client will load there.
    pub redirected_bytes: u64,
    /// The bytes of content promised from here.
    pub sent_bytes: u64,
    /// The time until the head of the answer was ready.
    pub duration: Duration,
}

/// Everything that looks at requests.
#[derive(Debug)]
pub struct Observer {
    /// The counters behind `/metrics`.
    pub counters: Counters,
    statistics: statistics::Sender,
}

impl Observer {
    /// Counts every request, and leaves records of them for the statistics.
    pub fn new(statistics: statistics::Sender) -> Self {
        Self {
            counters: Counters::default(),
            statistics,
        }
    }

    /// The moment a request came in.
    pub fn begin(&self) -> Instant {
        Instant::now()
    }

    /// Takes note of a request; `snapshot` is what it was answered from.
    pub fn request(&self, event: &Event<'_>, snapshot: Option<&Snapshot>) {
        self.counters.add(event);
        if let (Some(mirror), Some(snapshot)) = (event.mirror, snapshot) {
            snapshot.redirects.add(mirror);
        }
        let log = snapshot.map_or_else(access::Log::default, |snapshot| snapshot.access);
        log.request(event, snapshot);
        self.statistics.request(event, snapshot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_outcomes_are_listed_in_their_order() {
        assert!(
            Kind::ALL
                .iter()
                .enumerate()
                .all(|(at, kind)| *kind as usize == at)
        );
        assert!(
            Outcome::ALL
                .iter()
                .enumerate()
                .all(|(at, outcome)| *outcome as usize == at)
        );
    }

    #[test]
    fn a_status_stands_for_an_outcome() {
        for (status, expected) in [
            (200, Outcome::Content),
            (206, Outcome::Content),
            (302, Outcome::Redirect),
            (304, Outcome::NotModified),
            (404, Outcome::NotFound),
            (405, Outcome::Refused),
            (416, Outcome::Refused),
            (500, Outcome::Failed),
        ] {
            assert_eq!(Outcome::of(StatusCode::from_u16(status).unwrap()), expected);
        }
    }
}
