//! Whether a repository links to all its tags need.
//!
//! The same walk as [`Reach`](oci_mirror::tree::reach::Reach), over a repository that is not in a tree yet:
//! what it links to is what a list says, and the first thing that is wrong ends it.

use std::collections::{BTreeMap, HashSet};
use std::io;

use bytes::Bytes;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::{Child, Manifest};
use oci_mirror::tree::RepoDir;
use oci_mirror::tree::catalog::MAX_DEPTH;
use oci_mirror::tree::index::RepoIndex;

use super::Refusal;
use super::refusal::Incomplete;

/// Checks that `repo` links to all that its `index` needs. `linked` is what the list says it links to,
/// with lengths; `manifest` reads a manifest that has been verified.
///
/// What an index lists and the repository does not link to was left out on purpose.
pub fn closure(
    repo: &RepoDir,
    index: &RepoIndex,
    linked: &BTreeMap<Digest, u64>,
    manifest: &mut dyn FnMut(&Digest) -> io::Result<Bytes>,
) -> Result<(), Refusal> {
    let mut walk = Walk {
        linked,
        manifest,
        visited: HashSet::new(),
    };
    index
        .entries()
        .iter()
        .try_for_each(|entry| walk.manifest(entry, 0))
        .map_err(|source| Refusal::Closure {
            repo: repo.clone(),
            source,
        })
}

struct Walk<'a> {
    linked: &'a BTreeMap<Digest, u64>,
    manifest: &'a mut dyn FnMut(&Digest) -> io::Result<Bytes>,
    visited: HashSet<Digest>,
}

impl Walk<'_> {
    fn manifest(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), Incomplete> {
        let digest = descriptor.digest;
        if self.visited.contains(&digest) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(Incomplete::TooDeep);
        }
        if depth > 0 && !self.linked.contains_key(&digest) {
            return Ok(());
        }
        self.held(descriptor)?;
        let bytes =
            (self.manifest)(&digest).map_err(|source| Incomplete::Unreadable { digest, source })?;
        let manifest = Manifest::with_digest(bytes, digest, Some(&descriptor.media_type))
            .map_err(|source| Incomplete::Manifest { digest, source })?;
        for child in manifest.children() {
            match child {
                Child::Manifest(child) => self.manifest(child, depth + 1)?,
                Child::Blob(blob) if blob.media_type.is_distributable() => self.held(blob)?,
                Child::Blob(_) => {}
            }
        }
        self.visited.insert(digest);
        Ok(())
    }

    fn held(&self, descriptor: &Descriptor) -> Result<(), Incomplete> {
        let digest = descriptor.digest;
        match self.linked.get(&digest) {
            None => Err(Incomplete::NotLinked(digest)),
            Some(listed) if *listed == descriptor.size => Ok(()),
            Some(listed) => Err(Incomplete::Size {
                digest,
                listed: *listed,
                described: descriptor.size,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;
    use oci_mirror::media_type::MediaType;

    use super::*;

    /// The content of a repository.
    #[derive(Default)]
    struct Bench {
        content: BTreeMap<Digest, Bytes>,
        linked: BTreeMap<Digest, u64>,
    }

    impl Bench {
        fn blob(&mut self, content: String, media_type: &MediaType) -> Descriptor {
            let digest = Algorithm::Sha256.digest(content.as_bytes());
            let size = content.len() as u64;
            self.linked.insert(digest, size);
            self.content.insert(digest, content.into());
            Descriptor::new(media_type.clone(), digest, size)
        }

        fn image(&mut self, name: &str) -> (Descriptor, Descriptor) {
            let plain: MediaType = "application/x".parse().unwrap();
            let config = self.blob("{}".to_owned(), &plain);
            let layer = self.blob(name.to_owned(), &plain);
            let content = format!(
                r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
                json(&config),
                json(&layer)
            );
            (self.blob(content, &MediaType::OCI_MANIFEST), layer)
        }

        fn index(&mut self, manifests: &[&Descriptor]) -> Descriptor {
            let manifests: Vec<_> = manifests.iter().map(|it| json(it)).collect();
            let content = format!(
                r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
                manifests.join(",")
            );
            self.blob(content, &MediaType::OCI_INDEX)
        }

        fn check(&self, entry: &Descriptor) -> Result<(), Incomplete> {
            let mut index = RepoIndex::default();
            index.set(Some(&"t".parse().unwrap()), entry.clone());
            let repo = "a/b".parse().unwrap();
            let mut read = |digest: &Digest| {
                let found = self.content.get(digest).cloned();
                found.ok_or_else(|| io::ErrorKind::NotFound.into())
            };
            match closure(&repo, &index, &self.linked, &mut read) {
                Err(Refusal::Closure { source, .. }) => Err(source),
                Err(other) => panic!("{other}"),
                Ok(()) => Ok(()),
            }
        }
    }

    fn json(descriptor: &Descriptor) -> String {
        serde_json::to_string(descriptor).unwrap()
    }

    #[test]
    fn what_is_needed_has_to_be_linked_and_as_long_as_it_says() {
        let mut bench = Bench::default();
        let (image, layer) = bench.image("layer");
        let (other, _) = bench.image("other");
        let index = bench.index(&[&image, &other]);
        bench.check(&index).unwrap();

        // A child that is not linked was left out, but no entry and no layer.
        bench.linked.remove(&other.digest);
        bench.check(&index).unwrap();
        let missing = bench.check(&other).unwrap_err();
        assert!(matches!(missing, Incomplete::NotLinked(it) if it == other.digest));
        bench.linked.remove(&layer.digest);
        let missing = bench.check(&index).unwrap_err();
        assert!(matches!(missing, Incomplete::NotLinked(it) if it == layer.digest));
        bench.linked.insert(layer.digest, 6);
        let wrong = bench.check(&index).unwrap_err();
        assert!(matches!(
            wrong,
            Incomplete::Size {
                listed: 6,
                described: 5,
                ..
            }
        ));
    }

    #[test]
    fn manifests_that_are_none_and_bottomless_ones_are_refused() {
        let mut bench = Bench::default();
        let none = bench.blob("{}".to_owned(), &MediaType::OCI_MANIFEST);
        let wrong = bench.check(&none).unwrap_err();
        assert!(matches!(wrong, Incomplete::Manifest { .. }));
        bench.content.clear();
        let wrong = bench.check(&none).unwrap_err();
        assert!(matches!(wrong, Incomplete::Unreadable { .. }));
        let (mut deep, _) = bench.image("deep");
        for _ in 0..=MAX_DEPTH {
            deep = bench.index(&[&deep]);
        }
        let wrong = bench.check(&deep).unwrap_err();
        assert!(matches!(wrong, Incomplete::TooDeep));
    }
}
