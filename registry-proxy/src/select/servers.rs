//! Which hosts are one server: two entries may share one, for networks of their own.
//!
//! To a client they are one place to load from, and a list that names it twice would be one mirror short.
//! Nearly no network has such entries, so that there are none is known beforehand, and costs nothing.

use std::collections::HashMap;

use super::source::Source;
use crate::network::Inactive;
use crate::presence::HostPosition;

/// For each host, the first one in use with the same URL; nothing if no two have the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Servers(Option<Box<[HostPosition]>>);

impl Servers {
    /// Finds out of hosts in use, and of no others, which are one server.
    pub(super) fn of(sources: &[Source], standings: &[Result<(), Inactive>]) -> Self {
        let mut first: HashMap<&str, HostPosition> = HashMap::new();
        let mut shared = false;
        let mut servers: Box<[_]> = (0..).map(HostPosition).take(sources.len()).collect();
        for ((server, source), standing) in servers.iter_mut().zip(sources).zip(standings) {
            if standing.is_ok() {
                let position = *server;
                *server = *first.entry(&source.base).or_insert(position);
                shared |= *server != position;
            }
        }
        Self(Some(servers).filter(|_| shared))
    }

    /// Whether no two hosts in use share a server.
    pub(super) const fn are_distinct(&self) -> bool {
        self.0.is_none()
    }

    /// Whether two hosts are one server.
    pub(super) fn same(&self, one: HostPosition, other: HostPosition) -> bool {
        match &self.0 {
            None => one == other,
            Some(servers) => servers[one.index()] == servers[other.index()],
        }
    }
}
