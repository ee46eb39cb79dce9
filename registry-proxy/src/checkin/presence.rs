//! What a private mirror holds by its own word.
//!
//! Nobody can look, so the word is taken; but no more than was said. A mirror that is a serial behind has not what is
//! newer, and one that writes serials of its own may come to ours with another tree. So only one that has our very
//! state is believed to have whole repositories; any other has to say what it has blob by blob. And nothing counts
//! that the mirror is not there for.

use std::collections::BTreeMap;

use oci_mirror::reference::RepoName;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;

use super::json::Report;
use super::report_mirror::Category;
use crate::crawler::visit::carried;
use crate::db::Verdict;
use crate::network::Host;

/// What is known of each blob by the report of a mirror; `None` if the report does not say.
///
/// `ours` are the bytes of our `state.json`, if they are of this catalog.
pub fn of_report(
    report: &Report,
    host: &Host,
    catalog: &Catalog,
    ours: Option<&[u8]>,
) -> Option<Vec<(BlobId, Verdict)>> {
    let carried = carried(host, catalog);
    let said = match &report.repositories {
        Some(names) => members(names, catalog) & &carried,
        None => carried.clone(),
    };
    let state = catalog.state();
    let list = state.list.as_ref().map(|list| list.digest);
    // A part has a list of its own.
    let is_list = report.repositories.is_some() || (list.is_some() && report.list == list);
    let is_state = ours.is_some_and(|ours| report.state.algorithm().digest(ours) == report.state);
    let mut there = if report.serial == state.serial && is_state && is_list {
        said.clone()
    } else {
        let blobs = report.blobs.as_ref()?;
        let known = blobs.iter().filter_map(|digest| catalog.id(&digest));
        known.map(|id| id.0).collect::<RoaringBitmap>() & &carried
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
    Some(verdicts)
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
