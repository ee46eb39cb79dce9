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
    // It is sorted, or it would not have been planned from: `0` comes next to `/`.
    let end = directories.iter().map(|directory| format!("{directory}0"));
    let end = end.max().unwrap_or_default();
    let mut list = Reader::new(list);
    while list.advance().map_err(Refusal::List)?
        && let Some(line) = list.line()
        && let Some(path) = line.path_of_entry()
        && path < end.as_str()
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

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;

    use super::*;

    #[test]
    fn what_stands_behind_the_last_of_them_is_not_read() {
        let digest = Algorithm::Sha256.digest(b"x");
        let link = |name: &str| {
            let path = TreePath::Link(name.parse().unwrap(), digest);
            format!("1\tf\t1\t{path}\n")
        };
        let names = ["a-b", "a", "a/c", "a0", "b"];
        let mut text = "[Version]\n3\n\n[Files]\n".to_owned();
        text.extend(names.map(link));
        let all = |wanted: &[&str]| {
            let wanted = wanted.iter().map(|name| name.parse().unwrap());
            let wanted: BTreeSet<RepoDir> = wanted.collect();
            links(text.as_bytes(), &wanted).map(|found| {
                let found = found.into_iter().filter(|(_, links)| !links.is_empty());
                found.map(|(repo, _)| repo).collect::<BTreeSet<_>>() == wanted
            })
        };
        assert!(all(&["a-b", "a"]).unwrap());
        assert!(all(&["a/c"]).unwrap());
        assert!(all(&["a0", "a-b"]).unwrap());
        // The list has no end.
        assert!(matches!(all(&["b"]), Err(Refusal::List(_))));
    }
}
