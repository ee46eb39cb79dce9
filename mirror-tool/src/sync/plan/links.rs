//! What some repositories link to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use oci_mirror::digest::Digest;
use oci_mirror::tree::list::{Reader, Record};
use oci_mirror::tree::{RepoDir, TreePath};

use super::Refusal;
use super::part::{Part, part};

/// What `repositories` link to by a list that was planned from, with lengths.
pub fn links(
    list: impl BufRead,
    repositories: &BTreeSet<RepoDir>,
) -> Result<BTreeMap<RepoDir, BTreeMap<Digest, u64>>, Refusal> {
    let mut found: BTreeMap<_, _> = repositories
        .iter()
        .map(|repo| (repo.clone(), BTreeMap::new()))
        .collect();
    if found.is_empty() {
        return Ok(found);
    }
    for record in Reader::new(list) {
        let Record::Entry(entry) = record.map_err(Refusal::List)? else {
            break;
        };
        // Most of a list is not asked about, and need not be parsed for it.
        if entry.path.as_str().starts_with("repos/")
            && let Part::File(TreePath::Link(repo, digest)) = part(&entry)
            && let Some(links) = found.get_mut(&repo)
        {
            links.insert(digest, entry.size);
        }
    }
    Ok(found)
}
