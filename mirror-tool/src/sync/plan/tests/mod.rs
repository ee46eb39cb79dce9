//! Plans for trees that are made up.

mod laws;
mod refused;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::TreePath;
use oci_mirror::tree::index::OCI_LAYOUT;
use oci_mirror::tree::list::{Access, Entry, Kind, ListPath, Sum, Writer};
use oci_mirror::tree::path::{Module, RepoDir};
use oci_mirror::tree::pieces;
use oci_mirror::tree::sizes::Sizes;
use oci_mirror::tree::state::{FORMAT, ListRef, State, Totals};

use super::refusal::Why;
use super::*;

/// What a tree is made up of: blobs by number, and which of them repositories link to.
#[derive(Debug, Clone, Default)]
struct Model {
    repositories: BTreeMap<String, (BTreeSet<u8>, u8)>,
    /// Blobs that need no repository to be there.
    loose: BTreeSet<u8>,
}

/// Files by path: their lengths, and their sums.
type Files = BTreeMap<String, (u64, Option<Sum>)>;

const NOW: i64 = 1_800_000_000;

fn digest(blob: u8) -> Digest {
    match blob % 5 {
        0 => Algorithm::Sha512.digest(&[blob]),
        _ => Algorithm::Sha256.digest(&[blob]),
    }
}

/// Some are large enough to have pieces.
fn size(blob: u8) -> u64 {
    u64::from(blob) * 400_000 + 1
}

fn sum(text: &str) -> Sum {
    match Algorithm::Sha256.digest(text.as_bytes()) {
        Digest::Sha256(sum) => sum,
        Digest::Sha512(_) => unreachable!("asked for SHA-256"),
    }
}

impl Model {
    /// What there is of it for a filter, but for what a list and a state add.
    fn files(&self, filter: &Filter) -> Files {
        let mut files = Files::new();
        let mut blobs = BTreeSet::new();
        if filter.is_all() {
            blobs.extend(&self.loose);
        }
        for (name, (linked, version)) in &self.repositories {
            if filter.carries(&name.parse().unwrap()) {
                let repo: RepoDir = name.parse().unwrap();
                for blob in linked {
                    let link = TreePath::Link(repo.clone(), digest(*blob));
                    files.insert(link.to_string(), (size(*blob), None));
                    blobs.insert(blob);
                }
                let layout = String::from_utf8(OCI_LAYOUT.to_vec()).unwrap();
                let (length, layout) = (layout.len() as u64, sum(&layout));
                files.insert(format!("{repo}/oci-layout"), (length, Some(layout)));
                let index = sum(&format!("index {version}"));
                // Two of a kind have the same length.
                let length = 100 + u64::from(version / 2);
                files.insert(format!("{repo}/index.json"), (length, Some(index)));
            }
        }
        for blob in blobs {
            let digest = digest(*blob);
            files.insert(TreePath::Blob(digest).to_string(), (size(*blob), None));
            let pieces = pieces::count_for(size(*blob)) * 32;
            if pieces > 0 {
                let sum = sum(&format!("pieces of {blob}"));
                files.insert(TreePath::Pieces(digest).to_string(), (pieces, Some(sum)));
            }
        }
        files
    }

    fn listing(&self) -> Listing {
        Listing::of(self.files(&Filter::default()))
    }
}

/// A list that can be made wrong before it is written.
#[derive(Debug, Clone)]
struct Listing {
    entries: Vec<Entry>,
    sums: Vec<(ListPath, Sum)>,
    totals: Totals,
}

fn file(path: &str, size: u64) -> Entry {
    Entry {
        time: 1_700_000_000,
        kind: Kind::File,
        access: Access::Public,
        size,
        path: path.parse().unwrap(),
    }
}

impl Listing {
    fn of(mut files: Files) -> Self {
        let (mut totals, mut sizes) = (Totals::default(), Sizes::default());
        let mut directories = BTreeSet::new();
        for (path, (size, _)) in &files {
            let parsed: TreePath = path.parse().unwrap();
            sizes.add(Some(&parsed), *size);
            match parsed {
                TreePath::Blob(_) => {
                    totals.blobs += 1;
                    totals.bytes += size;
                }
                TreePath::Index(_) => totals.repositories += 1,
                _ => {}
            }
            let mut path = path.as_str();
            while let Some((above, _)) = path.rsplit_once('/') {
                directories.insert(above.to_owned());
                path = above;
            }
        }
        let text = sizes.to_text();
        let own = (text.len() as u64, Some(sum(&text)));
        files.insert("DIRECTORY_SIZES.txt".to_owned(), own);
        files.insert("state.json".to_owned(), (300, None));
        let mut entries: Vec<_> = files.iter().map(|(path, of)| file(path, of.0)).collect();
        entries.extend(directories.iter().map(|path| Entry {
            kind: Kind::Directory,
            ..file(path, 4096)
        }));
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        let sums = files
            .iter()
            .filter_map(|(path, (_, sum))| Some((path.parse().unwrap(), (*sum)?)))
            .collect();
        Self {
            entries,
            sums,
            totals,
        }
    }

    fn text(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for entry in &self.entries {
            writer.entry(entry).unwrap();
        }
        for (path, sum) in &self.sums {
            writer.sum(path, sum).unwrap();
        }
        writer.finish().unwrap().0
    }

    fn state(&self) -> State {
        State {
            format: FORMAT,
            serial: 9,
            created: Timestamp::UNIX_EPOCH,
            list: Some(ListRef {
                module: Module::default(),
                digest: Algorithm::Sha256.digest(&self.text()),
            }),
            totals: self.totals,
        }
    }

    /// As a walk finds it.
    fn found(&self) -> Vec<Held> {
        let sums: BTreeMap<_, _> = self.sums.iter().cloned().collect();
        let held = |entry: &Entry| Held {
            path: entry.path.clone(),
            kind: entry.kind,
            size: entry.size,
            sum: sums.get(&entry.path).copied(),
        };
        self.entries.iter().map(held).collect()
    }

    /// The plan of a tree that is new.
    fn plan(&self) -> Result<Plan, Refusal> {
        plan(
            self,
            Baseline::Nothing,
            &BTreeMap::new(),
            &terms(&Filter::default()),
        )
    }

    #[track_caller]
    fn entry(&mut self, path: &str) -> &mut Entry {
        let found = self.entries.iter_mut().find(|it| it.path.as_str() == path);
        found.unwrap()
    }

    #[track_caller]
    fn refused(&self) -> Refusal {
        self.plan().unwrap_err()
    }

    #[track_caller]
    fn refused_entry(&self) -> Why {
        match self.refused() {
            Refusal::Entry { why, .. } => why,
            other => panic!("{other}"),
        }
    }
}

fn terms(filter: &Filter) -> Terms<'_> {
    Terms {
        filter,
        max_entries: 10_000,
        accept_shrink: false,
        now: NOW,
    }
}

fn plan(
    new: &Listing,
    tree: Baseline<&[u8]>,
    gone: &BTreeMap<TreePath, u64>,
    terms: &Terms<'_>,
) -> Result<Plan, Refusal> {
    make(&new.text()[..], &new.state(), Here { tree, gone }, terms)
}
