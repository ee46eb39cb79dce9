//! The mirrors of a snapshot: read when the database has changed, and kept while it cannot be read.
//!
//! Building the presence of a million blobs at hundreds of hosts takes a second of a processor, so a
//! change of the tree alone does not do it: the numbers of blobs stay, and what is new in the tree is at
//! no mirror until a crawl has written to the database.

use std::sync::Arc;

use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;

use super::Snapshot;
use crate::db::{self, Database};
use crate::presence::{Builder, HostPosition, Presence};
use crate::select::Network;

/// The database of mirrors as it is found.
#[derive(Debug)]
pub(super) enum Source {
    /// There is no such file and never was: there are no mirrors.
    Absent,
    /// There is one that cannot be opened, or it is gone.
    Broken,
    /// It is open.
    Open(Database),
}

/// Tells one version of the database from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// Which connection it was, counted from the start of the process.
    pub(super) connection: u64,
    /// What the connection says of changes by others.
    pub(super) data: i64,
}

/// The mirrors and what they hold.
#[derive(Debug)]
pub(super) struct Mirrors {
    pub(super) network: Arc<Network>,
    pub(super) presence: Arc<Presence>,
    /// What they were read from; `None` if that could not be.
    pub(super) version: Option<Version>,
    /// Why it could not.
    pub(super) problem: Option<db::Error>,
}

/// What is served now, and the version of the database it was read from.
pub(super) type Known<'a> = (&'a Snapshot, Option<Version>);

impl Mirrors {
    /// The mirrors that belong to `catalog`: as the database has them, else as they are known.
    pub(super) fn of(
        catalog: &Catalog,
        (source, version): (&Source, Option<Version>),
        known: Option<Known<'_>>,
    ) -> Self {
        let found = match source {
            Source::Absent => return Self::none(catalog),
            Source::Broken => Err(None),
            Source::Open(database) => {
                Self::current(database, catalog, version, known).map_err(Some)
            }
        };
        found.unwrap_or_else(|problem| Self {
            version: None,
            problem,
            ..known.map_or_else(
                || Self::none(catalog),
                |(known, _)| Self::kept(catalog, known),
            )
        })
    }

    fn current(
        database: &Database,
        catalog: &Catalog,
        version: Option<Version>,
        known: Option<Known<'_>>,
    ) -> Result<Self, db::Error> {
        if let Some((known, read)) = known
            && read.is_some()
            && read == version
            && catalog.goes_on_from(&known.catalog)
            && !database.has_met(catalog, known.catalog.blobs().len())?
        {
            return Ok(Self {
                version,
                ..Self::kept(catalog, known)
            });
        }
        let hosts = database.hosts()?;
        let presence = database.presence(catalog, &hosts)?;
        Ok(Self {
            network: Arc::new(Network::new(hosts)),
            presence: Arc::new(presence),
            version,
            problem: None,
        })
    }

    fn kept(catalog: &Catalog, known: &Snapshot) -> Self {
        let presence = if catalog.goes_on_from(&known.catalog) {
            Arc::clone(&known.presence)
        } else {
            Arc::new(renumbered(catalog, known))
        };
        Self {
            network: Arc::clone(&known.network),
            presence,
            version: None,
            problem: None,
        }
    }

    fn none(catalog: &Catalog) -> Self {
        Self {
            network: Arc::new(Network::new(Vec::new())),
            presence: Arc::new(Presence::empty(catalog.blobs().len())),
            version: None,
            problem: None,
        }
    }
}

/// What is known of the mirrors, by the numbers of another catalog.
fn renumbered(catalog: &Catalog, known: &Snapshot) -> Presence {
    let hosts = known.network.hosts().len();
    let mut presence = Builder::new(catalog.blobs().len(), hosts);
    let blobs = catalog.blobs().iter();
    let numbers: Vec<Option<BlobId>> = blobs.map(|blob| known.catalog.id(&blob.digest)).collect();
    for host in (0..).map(HostPosition).take(hosts) {
        let numbered = (0..).map(BlobId).zip(&numbers);
        let held = numbered
            .filter(|(_, old)| old.is_some_and(|old| known.presence.of(old).contains(host)));
        presence.add(host, held.map(|(new, _)| new));
    }
    presence.finish()
}
