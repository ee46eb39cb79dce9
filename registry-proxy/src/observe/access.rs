//! A line in the log for a request, when the operator wants it.
//!
//! Nothing of it says who asked unless that is asked for as well: mirror networks are used by people at
//! home, and a log nobody needs is a log nobody can lose.

use serde::Deserialize;
use tracing::info;

use super::{Event, Outcome};
use crate::snapshot::Snapshot;

/// Longest path in a line, in characters: a name of 255 bytes and a digest fit.
const MAX_PATH: usize = 512;

/// Which requests get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// None.
    None,
    /// Those we could not answer.
    #[default]
    Failed,
    /// All.
    All,
}

/// What is written about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// Which requests get a line.
    pub which: Which,
    /// Whether the line says who asked.
    pub client_addresses: bool,
}

impl Log {
    /// Writes the line of a request, if it gets one.
    pub fn request(&self, event: &Event<'_>, snapshot: Option<&Snapshot>) {
        match self.which {
            Which::None => return,
            Which::Failed if event.outcome != Outcome::Failed => return,
            Which::Failed | Which::All => {}
        }
        let mirror = event
            .mirror
            .and_then(|mirror| Some(snapshot?.network.host(mirror).name.as_str()));
        let named = self.client_addresses.then(|| event.client.address());
        let client = named.flatten().map(tracing::field::display);
        info!(
            target: "registry_proxy::access",
            method = %event.method,
            // A query may hold what a client should not have sent; the path says what was wanted.
            path = %shortened(event.uri.path()),
            status = event.status.as_u16(),
            kind = event.kind.name(),
            outcome = event.outcome.name(),
            mirror,
            bytes = event.sent_bytes,
            duration_us = u64::try_from(event.duration.as_micros()).unwrap_or(u64::MAX),
            client,
            "request"
        );
    }
}

/// The beginning of a path. Beyond ASCII it may have anything that moves what a terminal shows.
fn shortened(path: &str) -> impl std::fmt::Display + '_ {
    let end = path
        .char_indices()
        .nth(MAX_PATH)
        .map_or(path.len(), |(end, _)| end);
    path[..end].escape_debug()
}
