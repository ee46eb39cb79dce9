//! List: what a tree holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use oci_mirror::digest::Digest;
use oci_mirror::manifest::Child;
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::Tag;
use oci_mirror::size::ByteSize;
use oci_mirror::tree::catalog::MAX_DEPTH;
use oci_mirror::tree::{Tree, reader};
use serde::{Deserialize, Serialize};

/// What a tree holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The repositories, by name.
    pub repositories: Vec<Repository>,
    /// Bytes of all distinct blobs any of them reaches.
    pub bytes: u64,
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// Bytes of all distinct blobs it reaches.
    pub bytes: u64,
    /// Bytes that no other repository reaches: what removing it would free.
    pub unique_bytes: u64,
    /// Its entries: tags first, then what is kept by digest only.
    pub entries: Vec<Entry>,
}

/// One tag, or one manifest kept by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The tag, if it has one.
    pub tag: Option<Tag>,
    /// What it points at.
    pub digest: Digest,
    /// The type of the manifest.
    pub media_type: MediaType,
    /// Bytes of all it reaches in this tree.
    pub bytes: u64,
}

/// Reads the tree at `root`.
pub fn run(root: &Path) -> anyhow::Result<Listing> {
    let tree = Tree::open(root)?;
    tree.state()?;
    let mut sizes = HashMap::new();
    let mut reached: BTreeMap<String, HashSet<Digest>> = BTreeMap::new();
    let mut entries: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for repo in tree.repositories()? {
        let name = repo.name().to_string();
        for entry in tree.index(&repo)?.entries() {
            let mut below = HashSet::new();
            reach(
                &entry.digest,
                &entry.media_type,
                0,
                &tree,
                &mut sizes,
                &mut below,
            )?;
            entries.entry(name.clone()).or_default().push(Entry {
                tag: entry.ref_name().and_then(|tag| tag.parse().ok()),
                digest: entry.digest,
                media_type: entry.media_type.clone(),
                bytes: below.iter().map(|digest| sizes[digest]).sum(),
            });
            reached.entry(name.clone()).or_default().extend(below);
        }
    }
    let mut users: HashMap<Digest, u32> = HashMap::new();
    for digest in reached.values().flatten() {
        *users.entry(*digest).or_default() += 1;
    }
    let repositories = entries
        .into_iter()
        .map(|(name, entries)| {
            let all = reached.remove(&name).unwrap_or_default();
            let unique = all.iter().filter(|digest| users[*digest] == 1);
            Repository {
                bytes: all.iter().map(|digest| sizes[digest]).sum(),
                unique_bytes: unique.map(|digest| sizes[digest]).sum(),
                name,
                entries,
            }
        })
        .collect();
    Ok(Listing {
        repositories,
        bytes: users.keys().map(|digest| sizes[digest]).sum(),
    })
}

/// Collects what a manifest reaches, as far as the tree holds it.
fn reach(
    digest: &Digest,
    media_type: &MediaType,
    depth: usize,
    tree: &Tree,
    sizes: &mut HashMap<Digest, u64>,
    reached: &mut HashSet<Digest>,
) -> Result<(), reader::Error> {
    if depth > MAX_DEPTH || reached.contains(digest) {
        return Ok(());
    }
    let manifest = match tree.manifest(digest, media_type) {
        Ok(manifest) => manifest,
        // A platform that was left out on purpose.
        Err(error) if error.is_not_found() && depth > 0 => return Ok(()),
        Err(error) => return Err(error),
    };
    sizes.insert(*digest, manifest.size());
    reached.insert(*digest);
    for child in manifest.children() {
        match child {
            Child::Manifest(child) => {
                reach(
                    &child.digest,
                    &child.media_type,
                    depth + 1,
                    tree,
                    sizes,
                    reached,
                )?;
            }
            Child::Blob(blob) if blob.media_type.is_distributable() => {
                sizes.insert(blob.digest, blob.size);
                reached.insert(blob.digest);
            }
            Child::Blob(_) => {}
        }
    }
    Ok(())
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for repository in &self.repositories {
            writeln!(
                f,
                "{}  {} ({} of its own)",
                repository.name,
                ByteSize(repository.bytes),
                ByteSize(repository.unique_bytes)
            )?;
            let tag = |entry: &Entry| {
                entry
                    .tag
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), ToString::to_string)
            };
            let width = repository.entries.iter().map(|entry| tag(entry).len());
            let width = width.max().unwrap_or_default();
            for entry in &repository.entries {
                let bytes = ByteSize(entry.bytes).to_string();
                writeln!(f, "  {:width$}  {}  {bytes:>10}", tag(entry), entry.digest)?;
            }
        }
        writeln!(
            f,
            "{} repositories, {} tags, {}",
            self.repositories.len(),
            self.repositories
                .iter()
                .flat_map(|repository| &repository.entries)
                .filter(|entry| entry.tag.is_some())
                .count(),
            ByteSize(self.bytes)
        )
    }
}
