//! What a request sees: tree, mirrors, presence and geography, frozen at one moment.
//!
//! A [`Snapshot`] never changes. The [`Watcher`] notices that `state.json` or the database did, builds
//! the next snapshot beside the requests and swaps it in whole; a request in flight keeps the one it
//! began with. A tree that is torn or half-written is refused and the last good snapshot stays.

mod load;
mod mirrors;
mod seen;
mod watcher;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::catalog::{BlobId, Repository};
use oci_mirror::tree::{Catalog, Tree};

use crate::client_address::TrustedProxies;
use crate::config::Config;
use crate::geo::{self, Geo, Place, Sources};
use crate::metalink::Resource;
use crate::metalink::pieces::PieceCache;
use crate::observe::{Redirects, access};
use crate::presence::{HostPosition, Presence};
use crate::relay::Relay;
use crate::remembered::Remembered;
use crate::select::{self, Client, Explanation, Network, Wanted};
use crate::v2::{self, Asker};

pub use load::Error;
pub use watcher::{Reconfigure, Watcher};

/// Most mirrors named to one client.
pub const MAX_MIRRORS: usize = 10;

/// Everything the request path needs.
#[derive(Debug)]
pub struct Snapshot {
    /// The tree on disk.
    pub tree: Tree,
    /// What the tree holds.
    pub catalog: Arc<Catalog>,
    /// The mirrors.
    pub network: Arc<Network>,
    /// Which mirror was verified to hold which blob.
    pub presence: Arc<Presence>,
    /// Where addresses are.
    pub geo: Arc<Geo>,
    /// Piece hashes of what was asked for lately.
    pub pieces: Arc<PieceCache>,
    /// When to redirect.
    pub policy: Policy,
    /// Whose word on the client's address is taken.
    pub trusted: TrustedProxies,
    /// Which requests are logged.
    pub access: access::Log,
    /// How often each mirror was the one a client was sent to.
    pub redirects: Redirects,
    /// What requests have left behind; by the numbers of this catalog.
    pub remembered: Arc<Remembered>,
    /// When it was loaded.
    pub loaded: Timestamp,
}

/// What a snapshot takes from the configuration: replaced together, so that no request sees some of
/// the old and some of the new.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where addresses are.
    pub geo: Arc<Geo>,
    /// When to redirect.
    pub policy: Policy,
    /// Whose word on the client's address is taken.
    pub trusted: TrustedProxies,
    /// Which requests are logged.
    pub access: access::Log,
}

impl Settings {
    /// What a configuration says, with the geographic databases opened.
    pub fn open(config: &Config) -> Result<Self, geo::Error> {
        Ok(Self::of(
            config,
            Arc::new(Geo::open(&Sources::from(config))?),
        ))
    }

    /// What a configuration says, with geographic databases that are open already.
    pub fn of(config: &Config, geo: Arc<Geo>) -> Self {
        Self {
            geo,
            policy: Policy::from(config),
            trusted: TrustedProxies::new(config.trusted_proxies.clone()),
            access: access::Log {
                which: config.log.requests,
                client_addresses: config.log.client_addresses,
            },
        }
    }
}

/// When to redirect, and to how many.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Smaller blobs are sent from the tree.
    pub min_size: u64,
    /// Farther mirrors are added until so many are listed.
    pub min_mirrors: usize,
    /// How long a second request for the same blob is a retry; nothing: it never is.
    pub retry_window: Duration,
    /// Who gets the bytes through here, and how.
    pub relay: Arc<Relay>,
}

impl From<&Config> for Policy {
    fn from(config: &Config) -> Self {
        Self {
            min_size: config.redirect.min_size.0,
            min_mirrors: config.redirect.min_mirrors,
            retry_window: config.redirect.retry_window,
            relay: Arc::new(Relay::new(config)),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::from(&Config::default())
    }
}

impl Snapshot {
    /// A repository of the tree, or the error to answer.
    pub fn repository(&self, name: &RepoName) -> Result<&Repository, v2::Error> {
        self.catalog
            .repository(name)
            .ok_or_else(|| v2::Error::NameUnknown(name.clone()))
    }

    /// The mirrors verified for a blob of `name`, best for `asker` first.
    pub fn mirrors(&self, name: &RepoName, blob: BlobId, asker: Asker) -> Vec<Resource<'_>> {
        let listed = self.listed(name, blob, asker, MAX_MIRRORS);
        let resource = |position: &HostPosition| {
            let source = self.network.source(*position);
            Resource {
                base: &source.base,
                country: source.country,
                private: source.private,
            }
        };
        let mut resources = Vec::with_capacity(listed.len() + 1);
        resources.extend(listed.iter().map(resource));
        resources
    }

    /// The first `limit` of them by position.
    pub fn listed(
        &self,
        name: &RepoName,
        blob: BlobId,
        asker: Asker,
        limit: usize,
    ) -> Vec<HostPosition> {
        let wanted = self.wanted(name, blob);
        if wanted.verified.is_empty() {
            return Vec::new();
        }
        let order = self
            .network
            .order(&self.client(asker), &wanted, self.select_policy(limit));
        order.into_iter().map(|choice| choice.host).collect()
    }

    /// Where each mirror stands in the list for `asker`, or why it does not.
    pub fn explain(&self, name: &RepoName, blob: BlobId, asker: Asker) -> Vec<Explanation> {
        let (client, wanted) = (self.client(asker), self.wanted(name, blob));
        let policy = self.select_policy(MAX_MIRRORS);
        self.network.explain(&client, &wanted, policy)
    }

    /// Whoever asks, with where that is.
    pub fn client(&self, asker: Asker) -> Client {
        let client = asker.client;
        Client {
            address: client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            place: client.map_or_else(Place::default, |client| self.geo.locate(client)),
            wanted: asker.countries,
        }
    }

    fn wanted<'a>(&'a self, name: &'a RepoName, blob: BlobId) -> Wanted<'a> {
        Wanted {
            verified: self.presence.of(blob),
            repository: Some(name),
            size: Some(self.catalog.blob(blob).size),
        }
    }

    fn select_policy(&self, limit: usize) -> select::Policy {
        select::Policy {
            min_mirrors: self.policy.min_mirrors,
            limit,
        }
    }
}
