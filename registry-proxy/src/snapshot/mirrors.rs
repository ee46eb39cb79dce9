//! The mirrors of a snapshot: read when the database has changed, and kept while it cannot be read.
//!
//! Building the presence of a million blobs at hundreds of hosts takes seconds of a processor, and in a
//! round of crawls the database changes all the time. A change of the tree alone therefore does not do it:
//! the numbers of blobs stay, and what is new in the tree is at no mirror until a crawl has written to the
//! database. After a crawl, only what the hosts hold that were crawled is read; a [`Reading`] says which
//! these are. Whatever is not as it was left makes everything be read anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;

use super::Snapshot;
use crate::db::{self, Database, Numbers, Revision};
use crate::network::{Host, HostId};
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

/// What the presence of a snapshot was read from, to read only what changes.
#[derive(Debug)]
pub(super) struct Reading {
    connection: u64,
    numbers: Numbers,
    revisions: HashMap<HostId, Revision>,
}

/// The mirrors and what they hold.
#[derive(Debug)]
pub(super) struct Mirrors {
    pub(super) network: Arc<Network>,
    pub(super) presence: Arc<Presence>,
    /// What they were read from; `None` if that could not be.
    pub(super) version: Option<Version>,
    /// What more is known of that.
    pub(super) reading: Option<Reading>,
    /// Why it could not.
    pub(super) problem: Option<db::Error>,
}

/// What is served now, and what it was read from.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) version: Option<Version>,
    pub(super) reading: Option<Reading>,
}

impl Mirrors {
    /// The mirrors that belong to `catalog`: as the database has them, else as they are known.
    pub(super) fn of(
        catalog: &Catalog,
        (source, version): (&Source, Option<Version>),
        known: Option<Known<'_>>,
    ) -> Self {
        let snapshot = known.as_ref().map(|known| known.snapshot);
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
            ..snapshot.map_or_else(
                || Self::none(catalog),
                |snapshot| Self::kept(catalog, snapshot),
            )
        })
    }

    fn current(
        database: &Database,
        catalog: &Catalog,
        version: Option<Version>,
        known: Option<Known<'_>>,
    ) -> Result<Self, db::Error> {
        // What is known by other numbers is of no use.
        let known = known.filter(|known| catalog.goes_on_from(&known.snapshot.catalog));
        let known = match known {
            Some(known)
                if known.version.is_some()
                    && known.version == version
                    && !database.has_met(catalog, known.snapshot.catalog.blobs().len())? =>
            {
                return Ok(Self {
                    version,
                    reading: known.reading,
                    ..Self::kept(catalog, known.snapshot)
                });
            }
            known => known,
        };
        let hosts = database.hosts()?;
        // Before what they are of: what is written in between is read once more the next time.
        let revisions = database.revisions()?;
        let current = known.and_then(|known| {
            let reading = known.reading?;
            (Some(reading.connection) == version.map(|it| it.connection))
                .then_some((known.snapshot, reading))
        });
        let (presence, numbers) = match current {
            Some((known, reading)) => {
                updated(database, catalog, &hosts, &revisions, known, reading)?
            }
            None => {
                let numbers = database.numbers(catalog)?;
                let presence = database.presence_by(&numbers, catalog, &hosts)?;
                (Arc::new(presence), numbers)
            }
        };
        Ok(Self {
            network: Arc::new(Network::new(hosts)),
            presence,
            version,
            reading: version.map(|version| Reading {
                connection: version.connection,
                numbers,
                revisions,
            }),
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
            reading: None,
            problem: None,
        }
    }

    fn none(catalog: &Catalog) -> Self {
        Self {
            network: Arc::new(Network::new(Vec::new())),
            presence: Arc::new(Presence::empty(catalog.blobs().len())),
            version: None,
            reading: None,
            problem: None,
        }
    }
}

/// What is known, with what has changed since it was read.
fn updated(
    database: &Database,
    catalog: &Catalog,
    hosts: &[Host],
    revisions: &HashMap<HostId, Revision>,
    known: &Snapshot,
    reading: Reading,
) -> Result<(Arc<Presence>, Numbers), db::Error> {
    let (numbers, has_met) = database.renewed(reading.numbers, catalog)?;
    if has_met {
        let presence = database.presence_by(&numbers, catalog, hosts)?;
        return Ok((Arc::new(presence), numbers));
    }
    // A host whose row made no sense until now has a presence that nobody has read.
    let known_hosts = known.network.hosts().iter();
    let was_there: HashSet<HostId> = known_hosts.map(|host| host.id).collect();
    let is_still = |host: HostId| match (reading.revisions.get(&host), revisions.get(&host)) {
        (Some(then), Some(now)) => was_there.contains(&host) && then.is_still(*now),
        (then, now) => then.is_none() && now.is_none(),
    };
    let mut changes = Vec::new();
    for (position, host) in (0..).map(HostPosition).zip(hosts) {
        if !is_still(host.id) {
            changes.push((position, database.held_by(host.id, &numbers)?));
        }
    }
    let mut presence = Arc::clone(&known.presence);
    let ids = known.network.hosts().iter().map(|host| host.id);
    if !hosts.iter().map(|host| host.id).eq(ids.clone()) {
        let old: HashMap<HostId, HostPosition> = ids.zip((0..).map(HostPosition)).collect();
        let old: Vec<_> = hosts.iter().map(|it| old.get(&it.id).copied()).collect();
        presence = Arc::new(presence.rearranged(&old));
    }
    let blobs = catalog.blobs().len();
    if !changes.is_empty() || blobs != known.catalog.blobs().len() {
        presence = Arc::new(presence.updated(blobs, &changes));
    }
    Ok((presence, numbers))
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
