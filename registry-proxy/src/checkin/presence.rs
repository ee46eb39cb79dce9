//! What a private mirror holds by its own word.
//!
//! Nobody can look, so the word is taken; but no more than was said. A mirror that is a serial behind has not what is
//! newer, and one that writes serials of its own may come to ours with another tree. So only one that has our very
//! state is believed to have whole repositories; any other has to say what it has blob by blob. And nothing counts
//! that the mirror is not there for.

use oci_mirror::reference::RepoName;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;

use super::json::Report;
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

/// What is known of each blob by the directories of a mirror, which say of no blob that it is there.
///
/// What was `listed` when it was last asked, and is of repositories that it has directories for, has been synced
/// since.
pub fn of_directories(named: &RoaringBitmap, listed: &RoaringBitmap) -> Vec<(BlobId, Verdict)> {
    verdicts(&(named & listed), Verdict::Confirmed, &RoaringBitmap::new())
}

/// The numbers of the blobs of repositories that a mirror has directories for, and is there for.
pub fn named<'a>(
    names: impl IntoIterator<Item = &'a RepoName>,
    host: &Host,
    catalog: &Catalog,
) -> RoaringBitmap {
    members(names, catalog) & carried(host, catalog)
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
