//! What a private mirror holds by its own word.
//!
//! Nobody can look, so the word is taken; but no more than was said. A mirror that is a serial behind has not what is
//! newer, and one that writes serials of its own may come to ours with another tree. So only one that has our very
//! state is believed to have whole repositories; any other has to say what it has blob by blob. And nothing counts
//! that the mirror is not there for.

use std::collections::BTreeMap;

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::reference::RepoName;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;

use super::json::{Blobs, Report};
use super::report_mirror::Category;
use crate::crawler::visit::carried;
use crate::db::{Same, Verdict};
use crate::network::Host;

/// On what a mirror is credited with what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grounds {
    /// It has our very state.
    Ours,
    /// It has said so blob by blob, and nothing of that may count one day that does not now.
    Listed,
    /// The same, but something of it is not in this catalog. It may count once there is more that a mirror like this may
    /// have: so this is the sum of that.
    ListedFor(u128),
}

impl Grounds {
    /// Those on which a mirror that says no more than before keeps what it was credited with. Whoever has our state by
    /// now has more than he was credited with while we did not know it; and it has to be as much as what is here, for a
    /// tree may get repositories later than its state.
    pub fn still_good(
        report: &Report,
        host: &Host,
        catalog: &Catalog,
        ours: Option<&[u8]>,
    ) -> Vec<Same> {
        let carried = carried(host, catalog);
        let told = report.carried();
        let same = |grounds: Self, blobs| Same {
            carried: grounds.of(&told),
            blobs,
        };
        if is_ours(report, catalog, ours) {
            let said = said(report, &carried, catalog);
            return vec![same(Self::Ours, Some(said.len()))];
        }
        let incomplete = Self::incomplete(&carried, catalog);
        let all = [Self::Ours, Self::Listed, incomplete];
        all.map(|grounds| same(grounds, None)).to_vec()
    }

    /// A sum is the same whatever numbers blobs have, and takes no hash of a million digests, which are hashes already.
    fn incomplete(carried: &RoaringBitmap, catalog: &Catalog) -> Self {
        let digests = carried.iter().map(|id| catalog.blob(BlobId(id)).digest);
        let parts = digests.filter_map(|digest| digest.as_bytes().first_chunk().copied());
        let sum = parts.map(u128::from_be_bytes);
        Self::ListedFor(sum.fold(0, u128::wrapping_add))
    }

    /// By what a report that carries this is known again: a digest of both.
    pub fn of(self, carried: &Digest) -> Digest {
        let text = match self {
            Self::Ours => format!("{carried}\nours\n"),
            Self::Listed => format!("{carried}\nlisted\n"),
            Self::ListedFor(sum) => format!("{carried}\nlisted\n{sum:x}\n"),
        };
        Algorithm::Sha256.digest(text.as_bytes())
    }
}

/// What is known of each blob by the report of a mirror, and on what grounds; `None` if the report does not say.
///
/// `ours` are the bytes of our `state.json`, if they are of this catalog.
pub fn of_report(
    report: &Report,
    host: &Host,
    catalog: &Catalog,
    ours: Option<&[u8]>,
) -> Option<(Vec<(BlobId, Verdict)>, Grounds)> {
    let carried = carried(host, catalog);
    let said = said(report, &carried, catalog);
    let (mut there, grounds) = if is_ours(report, catalog, ours) {
        (said.clone(), Grounds::Ours)
    } else {
        let blobs = report.blobs.as_ref()?;
        listed(blobs, (report, host), &carried, catalog)
    };
    let damaged = report.damaged.iter().flatten();
    let damaged = damaged.filter_map(|digest| catalog.id(digest));
    let damaged = damaged.map(|id| id.0).collect::<RoaringBitmap>() & &carried;
    there -= &damaged;
    let missing = said - &there - &damaged;
    // All bytes were read there, and all but the damaged ones were right.
    let verdict = match &report.damaged {
        Some(_) => Verdict::Read,
        None => Verdict::Confirmed,
    };
    let mut verdicts = verdicts(&there, verdict, &missing);
    // What is only missing comes back with the next word.
    verdicts.extend(damaged.iter().map(|id| (BlobId(id), Verdict::Damaged)));
    Some((verdicts, grounds))
}

/// What there is of the repositories that a mirror says it carries, of what it is there for.
fn said(report: &Report, carried: &RoaringBitmap, catalog: &Catalog) -> RoaringBitmap {
    match &report.repositories {
        Some(names) => members(names, catalog) & carried,
        None => carried.clone(),
    }
}

/// Whether a mirror has our very state.
fn is_ours(report: &Report, catalog: &Catalog, ours: Option<&[u8]>) -> bool {
    let state = catalog.state();
    let list = state.list.as_ref().map(|list| list.digest);
    // A part has a list of its own.
    let is_list = report.repositories.is_some() || (list.is_some() && report.list == list);
    let is_state = ours.is_some_and(|ours| report.state.algorithm().digest(ours) == report.state);
    report.serial == state.serial && is_state && is_list
}

/// What counts of the blobs that a mirror lists, of those it is there for.
fn listed(
    blobs: &Blobs,
    (report, host): (&Report, &Host),
    carried: &RoaringBitmap,
    catalog: &Catalog,
) -> (RoaringBitmap, Grounds) {
    let mut there = RoaringBitmap::new();
    let mut names = report.repositories.iter().flatten();
    let mut is_all = names.all(|name| catalog.repository(name).is_some() || !host.carries(name));
    for digest in blobs.iter() {
        match catalog.id(&digest) {
            Some(id) if carried.contains(id.0) => drop(there.insert(id.0)),
            // It is too large for it, or of others.
            Some(_) => {}
            None => is_all = false,
        }
    }
    let grounds = if is_all {
        Grounds::Listed
    } else {
        Grounds::incomplete(carried, catalog)
    };
    (there, grounds)
}

/// The numbers of the blobs of repositories that a mirror has directories for, and is there for, by category. Of no
/// blob it is said that it is there.
pub fn named(
    categories: &[Category],
    host: &Host,
    catalog: &Catalog,
) -> BTreeMap<String, RoaringBitmap> {
    let carried = carried(host, catalog);
    let mut named = BTreeMap::new();
    for category in categories {
        let blobs: &mut RoaringBitmap = named.entry(category.name.clone()).or_default();
        *blobs |= members(&category.repositories, catalog) & &carried;
    }
    named
}

fn members<'a>(names: impl IntoIterator<Item = &'a RepoName>, catalog: &Catalog) -> RoaringBitmap {
    let mut blobs = RoaringBitmap::new();
    for repository in names
        .into_iter()
        .filter_map(|name| catalog.repository(name))
    {
        blobs.extend(repository.members().map(|id| id.0));
    }
    blobs
}

fn verdicts(
    there: &RoaringBitmap,
    verdict: Verdict,
    missing: &RoaringBitmap,
) -> Vec<(BlobId, Verdict)> {
    let there = there.iter().map(|id| (BlobId(id), verdict));
    let missing = missing.iter().map(|id| (BlobId(id), Verdict::Missing));
    there.chain(missing).collect()
}
