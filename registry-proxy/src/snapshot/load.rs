//! Making the next snapshot of what is found. Blocks.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use oci_mirror::tree::{Catalog, Tree, reader};
use tracing::error;

use super::mirrors::{Known, Mirrors, Reading, Source, Version};
use super::{Settings, Snapshot};
use crate::db;
use crate::geo;
use crate::observe::Redirects;

/// What there is so far, and what it was made of.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// The version of the database that the mirrors were read from.
    pub(super) version: Option<Version>,
    /// What more is known of what they were read from.
    pub(super) reading: Option<Reading>,
}

/// The next snapshot, and what it was made of.
pub(super) struct Loaded {
    pub(super) snapshot: Snapshot,
    pub(super) read: Option<Version>,
    pub(super) reading: Option<Reading>,
    /// Why part of it is what was known before.
    pub(super) problem: Option<Error>,
}

/// Makes the next snapshot; of tree and database, what cannot be read stays as it was known.
pub(super) fn load(
    root: &Path,
    settings: Settings,
    (source, found): (&Source, Option<Version>),
    before: Before,
) -> Result<Loaded, Error> {
    let Before {
        snapshot: previous,
        version,
        reading,
    } = before;
    let known = previous.as_deref();
    let catalog = load_catalog(root, known).map_err(Error::Tree);
    let (tree, catalog, torn) = match (catalog, known) {
        (Ok((tree, catalog)), _) => (tree, catalog, None),
        // A torn tree is no reason to send clients to a mirror that has turned out bad.
        (Err(error), Some(known)) => (known.tree.clone(), Arc::clone(&known.catalog), Some(error)),
        (Err(error), None) => return Err(error),
    };
    let before = known.map(|snapshot| Known {
        snapshot,
        version,
        reading,
    });
    let mirrors = Mirrors::of(&catalog, (source, found), before);
    let counted = known.map(|known| (&*known.network, &known.redirects));
    // A crawl changes nothing of the tree. What a repair has changed is in the state.
    let is_same = |known: &&Snapshot| {
        *catalog.state() == *known.catalog.state() && catalog.holds_the_same_as(&known.catalog)
    };
    let pieces = known.filter(is_same).map(|known| Arc::clone(&known.pieces));
    let remembered = known
        .filter(|known| catalog.goes_on_from(&known.catalog))
        .map(|known| Arc::clone(&known.remembered));
    // What could not be taken up makes nothing younger.
    let kept = known.filter(|_| torn.is_some()).map(|known| known.loaded);
    Ok(Loaded {
        problem: torn.or(mirrors.problem.map(Error::Database)),
        read: mirrors.version,
        reading: mirrors.reading,
        snapshot: Snapshot {
            redirects: Redirects::following(&mirrors.network, counted),
            loaded: kept.unwrap_or_else(Timestamp::now),
            pieces: pieces.unwrap_or_default(),
            remembered: remembered.unwrap_or_default(),
            tree,
            catalog,
            network: mirrors.network,
            presence: mirrors.presence,
            geo: settings.geo,
            policy: settings.policy,
            trusted: settings.trusted,
            access: settings.access,
        },
    })
}

/// The tree and its catalog, which shares with the one known what has not changed.
fn load_catalog(
    root: &Path,
    known: Option<&Snapshot>,
) -> Result<(Tree, Arc<Catalog>), reader::Error> {
    // Opened anew each time: the directory may have been replaced as a whole.
    let tree = Tree::open(root)?;
    let catalog = match known {
        Some(known) => Catalog::load(&tree, Some(&known.catalog))?,
        None => first_catalog(&tree)?,
    };
    Ok((tree.following(), Arc::new(catalog)))
}

/// The catalog to start with: without an earlier one to keep, what is damaged is left out.
fn first_catalog(tree: &Tree) -> Result<Catalog, reader::Error> {
    let (catalog, damage) = Catalog::salvage(tree)?;
    for (name, error) in damage {
        error!(error = &error as &dyn std::error::Error, repository = %name, "leaving out what is damaged");
    }
    Ok(catalog)
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tree.
    #[error("cannot use the tree")]
    Tree(#[source] reader::Error),
    /// The database of mirrors.
    #[error("cannot read the mirrors")]
    Database(#[source] db::Error),
    /// A geographic database.
    #[error("cannot use the geographic databases")]
    Geo(#[source] geo::Error),
    /// The process is ending.
    #[error("loading was cut off")]
    Stopped,
}
