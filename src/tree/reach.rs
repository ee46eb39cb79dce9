//! What a repository needs of its tree: from `index.json` down to the last layer.
//!
//! One walk for all who ask, so that what is checked is exactly what is kept. What belongs to a
//! repository is what is linked there: a child of an index that is not linked was left out on purpose,
//! even if the tree holds it for another repository. What `index.json` itself names must be there.
//!
//! The walk does not stop at what is missing or damaged. It says so and goes on, so that one lost
//! layer hides no other; but below a manifest that cannot be read nobody knows what is needed, and
//! [`Reach::is_complete`] is then false.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::catalog::MAX_DEPTH;
use super::index::RepoIndex;
use super::path::TreePath;
use super::reader::{self, Tree};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::manifest::Child;

/// What the walk asks about files: listed before, or looked up ([`on_disk`](super::on_disk)).
pub trait Holdings {
    /// Whether the repository has a link of this name.
    fn is_linked(&self, digest: &Digest) -> bool;
    /// The length in bytes of the tree's blob of this name, if there is one.
    fn size(&self, digest: &Digest) -> Option<u64>;
}

/// What one repository needs.
#[derive(Debug, Default)]
pub struct Reach {
    /// All it needs, as descriptors say it is, whether the tree has it or not.
    pub members: BTreeMap<Digest, Member>,
    /// Children of indexes that were left out on purpose.
    pub left_out: BTreeSet<Digest>,
    /// What keeps entries from being complete, by entry.
    pub problems: Vec<Incomplete>,
}

/// One thing a repository needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The first descriptor that was met.
    pub descriptor: Descriptor,
    /// What it is needed as.
    pub kind: Kind,
}

/// What a digest is needed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A manifest that leads further.
    Manifest,
    /// A config, a layer, or a document of a type that leads nowhere.
    Blob,
}

/// An entry of `index.json` that is not complete.
#[derive(Debug, Clone)]
pub struct Incomplete {
    /// The position of the entry.
    pub entry: usize,
    /// What is wrong below it.
    pub problem: Arc<Problem>,
}

/// What is wrong below an entry.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The tree does not hold it.
    #[error("{} {digest} is missing", .kind.noun())]
    Missing {
        /// What is missing.
        digest: Digest,
        /// What it is needed as.
        kind: Kind,
    },
    /// The tree holds something of another length.
    #[error("{} {digest} has {found} bytes, but its descriptor says {described}", .kind.noun())]
    Size {
        /// What has the wrong length.
        digest: Digest,
        /// What it is needed as.
        kind: Kind,
        /// The length it has.
        found: u64,
        /// The length it should have.
        described: u64,
    },
    /// A manifest cannot be read or is damaged.
    #[error(transparent)]
    Unreadable(reader::Error),
    /// Indexes within indexes within indexes.
    #[error("indexes are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

impl Problem {
    /// What is missing or wrong, if that is known.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Missing { digest, .. }
            | Self::Size { digest, .. }
            | Self::Unreadable(reader::Error::Manifest { digest, .. }) => Some(*digest),
            Self::Unreadable(
                reader::Error::Read { path, .. } | reader::Error::TooLarge { path, .. },
            ) => match path {
                TreePath::Blob(digest) => Some(*digest),
                _ => None,
            },
            Self::Unreadable(_) | Self::TooDeep => None,
        }
    }
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Blob => "blob",
        }
    }
}

impl Reach {
    /// Follows every entry of a repository's index.
    pub fn of(index: &RepoIndex, holdings: &impl Holdings, tree: &Tree) -> Self {
        let mut walk = Walk {
            holdings,
            tree,
            entry: 0,
            visited: HashMap::new(),
            reach: Self::default(),
        };
        for (position, entry) in index.entries().iter().enumerate() {
            walk.entry = position;
            walk.manifest(entry, 0);
        }
        walk.reach
    }

    /// Whether all the repository needs is known and there. That it is linked too is another matter.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }
}

struct Walk<'a, H> {
    holdings: &'a H,
    tree: &'a Tree,
    /// The entry being followed.
    entry: usize,
    /// Manifests followed before, with the first thing that is wrong below.
    visited: HashMap<Digest, Option<Arc<Problem>>>,
    reach: Reach,
}

impl<H: Holdings> Walk<'_, H> {
    /// Follows one manifest; returns the first thing that is wrong at it or below.
    fn manifest(&mut self, descriptor: &Descriptor, depth: usize) -> Option<Arc<Problem>> {
        let digest = descriptor.digest;
        if let Some(known) = self.visited.get(&digest).cloned() {
            // Said in full before, for another entry perhaps: once is enough for this one.
            if let Some(problem) = &known
                && (depth == 0 || !self.is_noted(problem))
            {
                self.note(Arc::clone(problem));
            }
            return known;
        }
        if depth > MAX_DEPTH {
            return Some(self.report(Problem::TooDeep));
        }
        if depth > 0 && !self.holdings.is_linked(&digest) {
            self.reach.left_out.insert(digest);
            return None;
        }
        self.enter(descriptor, Kind::Manifest);
        let mut first = self.held(descriptor, Kind::Manifest);
        if !matches!(first.as_deref(), Some(Problem::Missing { .. })) {
            match self.tree.manifest(&digest, &descriptor.media_type) {
                Err(error) => {
                    let problem = self.report(Problem::Unreadable(error));
                    first.get_or_insert(problem);
                }
                Ok(manifest) => {
                    for child in manifest.children() {
                        let problem = match child {
                            Child::Manifest(child) => self.manifest(child, depth + 1),
                            Child::Blob(blob) if blob.media_type.is_distributable() => {
                                self.enter(blob, Kind::Blob);
                                self.held(blob, Kind::Blob)
                            }
                            Child::Blob(_) => None,
                        };
                        first = first.or(problem);
                    }
                }
            }
        }
        self.visited.insert(digest, first.clone());
        first
    }

    fn enter(&mut self, descriptor: &Descriptor, kind: Kind) {
        let member = || Member {
            descriptor: Descriptor::new(
                descriptor.media_type.clone(),
                descriptor.digest,
                descriptor.size,
            ),
            kind,
        };
        let entry = self.reach.members.entry(descriptor.digest);
        let known = entry.or_insert_with(member);
        if kind == Kind::Manifest && known.kind == Kind::Blob {
            *known = member();
        }
    }

    /// Whether the tree holds something of the right length.
    fn held(&mut self, descriptor: &Descriptor, kind: Kind) -> Option<Arc<Problem>> {
        let digest = descriptor.digest;
        match self.holdings.size(&digest) {
            None => Some(self.report(Problem::Missing { digest, kind })),
            Some(found) if found == descriptor.size => None,
            Some(found) => Some(self.report(Problem::Size {
                digest,
                kind,
                found,
                described: descriptor.size,
            })),
        }
    }

    fn report(&mut self, problem: Problem) -> Arc<Problem> {
        let problem = Arc::new(problem);
        self.note(Arc::clone(&problem));
        problem
    }

    /// Whether the problem has been said for the entry being followed.
    fn is_noted(&self, problem: &Arc<Problem>) -> bool {
        let all = self.reach.problems.iter().rev();
        all.take_while(|it| it.entry == self.entry)
            .any(|it| Arc::ptr_eq(&it.problem, problem))
    }

    fn note(&mut self, problem: Arc<Problem>) {
        self.reach.problems.push(Incomplete {
            entry: self.entry,
            problem,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::digest::Algorithm;
    use crate::media_type::MediaType;

    /// A tree without a writer: blobs are put there and linked by hand.
    #[derive(Debug)]
    struct Bench {
        dir: tempfile::TempDir,
        linked: HashSet<Digest>,
    }

    impl Holdings for Bench {
        fn is_linked(&self, digest: &Digest) -> bool {
            self.linked.contains(digest)
        }
        fn size(&self, digest: &Digest) -> Option<u64> {
            self.tree().blob_size(digest).unwrap()
        }
    }

    impl Bench {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                linked: HashSet::new(),
            }
        }

        fn tree(&self) -> Tree {
            Tree::open(self.dir.path()).unwrap()
        }

        fn blob(&mut self, content: &str, media_type: &MediaType) -> Descriptor {
            let digest = Algorithm::Sha256.digest(content.as_bytes());
            let path = TreePath::Blob(digest).under(self.dir.path());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
            self.linked.insert(digest);
            Descriptor::new(media_type.clone(), digest, content.len() as u64)
        }

        fn image(&mut self, layer: &str) -> (Descriptor, Descriptor) {
            let config = self.blob("{}", &"application/x".parse().unwrap());
            let layer = self.blob(layer, &"application/x".parse().unwrap());
            let text = |it: &Descriptor| serde_json::to_string(it).unwrap();
            let content = format!(
                r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
                text(&config),
                text(&layer)
            );
            (self.blob(&content, &MediaType::OCI_MANIFEST), layer)
        }

        fn reach(&self, entries: &[&Descriptor]) -> Reach {
            let mut index = RepoIndex::default();
            for (number, entry) in entries.iter().enumerate() {
                let tag = format!("t{number}").parse().unwrap();
                index.set(Some(&tag), (*entry).clone());
            }
            Reach::of(&index, self, &self.tree())
        }

        fn remove(&self, digest: &Digest) {
            std::fs::remove_file(TreePath::Blob(*digest).under(self.dir.path())).unwrap();
        }
    }

    #[test]
    fn every_problem_is_found_and_what_is_missing_is_needed_all_the_same() {
        let mut bench = Bench::new();
        let (one, lost_layer) = bench.image("one");
        let (two, _) = bench.image("two");
        bench.remove(&lost_layer.digest);
        bench.remove(&two.digest);
        let reach = bench.reach(&[&one, &two, &one]);
        let problems: Vec<_> = reach
            .problems
            .iter()
            .map(|it| (it.entry, it.problem.to_string()))
            .collect();
        let layer = format!("blob {} is missing", lost_layer.digest);
        let expected = [
            (0, layer.clone()),
            (1, format!("manifest {} is missing", two.digest)),
            (2, layer),
        ];
        assert_eq!(problems, expected);
        assert!(!reach.is_complete());
        for digest in [lost_layer.digest, two.digest] {
            assert!(reach.members.contains_key(&digest), "{digest}");
        }
    }

    #[test]
    fn a_problem_is_one_of_every_entry_that_needs_it() {
        let mut bench = Bench::new();
        let (image, layer) = bench.image("one");
        let text = serde_json::to_string(&image).unwrap();
        let content = format!(r#"{{"schemaVersion":2,"manifests":[{text},{text}]}}"#);
        let index = bench.blob(&content, &MediaType::OCI_INDEX);
        bench.remove(&layer.digest);
        for entries in [[&image, &index], [&index, &image]] {
            let reach = bench.reach(&entries);
            let found: Vec<_> = reach.problems.iter().map(|it| it.entry).collect();
            assert_eq!(found, [0, 1]);
        }
    }

    #[test]
    fn what_is_not_linked_below_an_index_was_left_out() {
        let mut bench = Bench::new();
        let (kept, _) = bench.image("kept");
        let (other, layer) = bench.image("left out");
        let text = |it: &Descriptor| serde_json::to_string(it).unwrap();
        let content = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
            text(&kept),
            text(&other)
        );
        let index = bench.blob(&content, &MediaType::OCI_INDEX);
        bench.linked.remove(&other.digest);
        let reach = bench.reach(&[&index]);
        assert!(reach.is_complete(), "{:?}", reach.problems);
        assert!(reach.left_out.contains(&other.digest));
        assert!(!reach.members.contains_key(&layer.digest));
        // As an entry of its own it must be there, linked or not.
        assert!(bench.reach(&[&other]).members.contains_key(&other.digest));
    }

    #[test]
    fn damage_and_wrong_lengths_are_problems() {
        let mut bench = Bench::new();
        let (one, layer) = bench.image("one");
        let (two, _) = bench.image("two");
        let path = TreePath::Blob(layer.digest).under(bench.dir.path());
        std::fs::write(path, "longer").unwrap();
        let path = TreePath::Blob(two.digest).under(bench.dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(path, bytes).unwrap();
        let reach = bench.reach(&[&one, &two]);
        assert!(matches!(
            *reach.problems[0].problem,
            Problem::Size {
                found: 6,
                described: 3,
                ..
            }
        ));
        assert!(matches!(*reach.problems[1].problem, Problem::Unreadable(_)));
    }
}
