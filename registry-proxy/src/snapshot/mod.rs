//! What a request sees: tree, mirrors, presence and geography, frozen at one moment.
//!
//! A [`Snapshot`] never changes. The [`Watcher`] notices that `state.json` or the database did, builds
//! the next snapshot beside the requests and swaps it in whole; a request in flight keeps the one it
//! began with. A tree that is torn or half-written is refused and the last good snapshot stays.

mod mirrors;
mod watcher;

use std::net::IpAddr;
use std::sync::Arc;

use oci_mirror::reference::RepoName;
use oci_mirror::tree::catalog::{BlobId, Repository};
use oci_mirror::tree::{Catalog, Tree, TreePath};

use crate::geo::{Geo, Place};
use crate::metalink::Resource;
use crate::presence::Presence;
use crate::select::{Client, Network};
use crate::v2;

pub use watcher::{Error, Watcher};

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
    /// When to redirect.
    pub policy: Policy,
}

/// When to redirect, and to how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Smaller blobs are sent from the tree.
    pub min_size: u64,
    /// Farther mirrors are added until so many are listed.
    pub min_mirrors: usize,
}

impl Snapshot {
    /// A repository of the tree, or the error to answer.
    pub fn repository(&self, name: &RepoName) -> Result<&Repository, v2::Error> {
        self.catalog
            .repository(name)
            .ok_or_else(|| v2::Error::NameUnknown(name.clone()))
    }

    /// The mirrors verified for a blob of `name`, best for `client` first.
    pub fn mirrors(&self, name: &RepoName, blob: BlobId, client: Option<IpAddr>) -> Vec<Resource> {
        let verified = self.presence.of(blob);
        if verified.is_empty() {
            return Vec::new();
        }
        let address = client.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let place = client.map_or_else(Place::default, |client| self.geo.locate(client));
        let client = Client { address, place };
        let policy = crate::select::Policy {
            min_mirrors: self.policy.min_mirrors,
            limit: MAX_MIRRORS,
        };
        let path = TreePath::Blob(self.catalog.blob(blob).digest);
        let chosen = self.network.order(&client, verified, name, policy);
        let mut resources: Vec<Resource> = Vec::with_capacity(chosen.len());
        for choice in chosen {
            let host = self.network.host(choice.host);
            let Some(url) = host.download_url().map(|url| url.join(&path)) else {
                continue;
            };
            // Two entries may share a server, for networks of their own; it is one place to load from.
            if resources.iter().all(|known| known.url != url) {
                resources.push(Resource {
                    url,
                    country: host.country,
                    private: host.is_private(),
                });
            }
        }
        resources
    }
}
