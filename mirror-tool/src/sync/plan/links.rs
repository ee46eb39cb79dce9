//! What some repositories link to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
    // Most of a list is not asked about, and need not be parsed to see that.
    let directories: HashSet<String> = repositories.iter().map(RepoDir::to_string).collect();
    let is_asked_about = |path: &str| {
        // `repos/NAME/blobs/ALGORITHM/HEX`
        let directory = path.rsplitn(4, '/').nth(3);
        directory.is_some_and(|directory| directories.contains(directory))
    };
    let mut list = Reader::new(list);
    while list.advance().map_err(Refusal::List)?
        && let Some(line) = list.line()
        && let Some(path) = line.path_of_entry()
    {
        if is_asked_about(path)
            && let Record::Entry(entry) = line.record().map_err(Refusal::List)?
            && let Part::File(TreePath::Link(repo, digest)) = part(&entry)
            && let Some(links) = found.get_mut(&repo)
        {
            links.insert(digest, entry.size);
        }
    }
    Ok(found)
}
