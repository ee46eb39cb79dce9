//! The closure of an image: all its manifests, then all their blobs.
//!
//! Manifests are walked level by level, the children of a level side by side, so that an index of
//! indexes costs as many round trips as it is deep. Both its depth and their number are bounded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::{Child, Content, Manifest};
use oci_mirror::platform::Platform;
use oci_mirror::tree::catalog::MAX_DEPTH;

use super::error::Error;
use super::source::Origin;
use super::transfer::{Outcome, Transfers};

/// Most manifests of one image, its indexes among them.
pub(super) const MAX_MANIFESTS: usize = 20_000;

/// Most bytes of them together: all are in memory until the image is complete.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// How many requests one image has under way at most; the run's own limit is usually lower.
const PARALLEL: usize = 32;

/// What the attestations that buildkit adds to an index call themselves.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// All that an image reaches, now in the tree or staged for it.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Every digest once, leaves first.
    pub(super) reach: Vec<Digest>,
    /// Those of them that are manifests: what signatures and the like may belong to.
    pub(super) manifests: Vec<Digest>,
    pub(super) bytes_fetched: u64,
    pub(super) bytes_shared: u64,
    pub(super) platforms_left_out: u64,
    pub(super) layers_left_out: u64,
}

impl Closure {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Fetched(bytes) => self.bytes_fetched += bytes,
            Outcome::Shared(bytes) => self.bytes_shared += bytes,
        }
    }
}

/// Fetches all that `root`, itself accounted for in `outcome`, reaches.
pub(super) async fn closure(
    root: (Arc<Manifest>, Outcome),
    origin: &Origin,
    platforms: &[Platform],
    transfers: &Transfers,
) -> Result<Closure, Error> {
    let (root, outcome) = root;
    let mut closure = Closure::default();
    closure.count(outcome);
    let manifests = manifests(&root, origin, platforms, transfers, &mut closure).await?;
    closure.reach = leaves_first(&root, &manifests)?;

    let mut blobs: HashMap<Digest, Descriptor> = HashMap::new();
    let mut left_out = HashSet::new();
    for child in manifests.values().flat_map(|manifest| manifest.children()) {
        match child {
            Child::Blob(blob) if blob.media_type.is_distributable() => {
                let first = blobs.entry(blob.digest).or_insert_with(|| blob.clone());
                if first.size != blob.size {
                    return Err(Error::Size {
                        digest: blob.digest,
                        described: blob.size,
                        size: first.size,
                    });
                }
            }
            Child::Blob(blob) => {
                left_out.insert(blob.digest);
            }
            Child::Manifest(_) => {}
        }
    }
    closure.layers_left_out = left_out.len() as u64;
    let mut outcomes = stream::iter(blobs.into_values())
        .map(|blob| async move { transfers.blob(&blob, origin).await })
        .buffer_unordered(PARALLEL);
    while let Some(outcome) = outcomes.try_next().await? {
        closure.count(outcome);
    }
    closure.manifests = manifests.into_keys().collect();
    Ok(closure)
}

/// Every manifest below and including `root`, by digest.
async fn manifests(
    root: &Arc<Manifest>,
    origin: &Origin,
    platforms: &[Platform],
    transfers: &Transfers,
    closure: &mut Closure,
) -> Result<HashMap<Digest, Arc<Manifest>>, Error> {
    let mut found = HashMap::from([(root.digest(), Arc::clone(root))]);
    let mut level = vec![Arc::clone(root)];
    let mut bytes = root.size();
    for depth in 0..=MAX_DEPTH {
        let mut wanted: HashMap<Digest, Descriptor> = HashMap::new();
        for manifest in &level {
            let chosen = match choose(manifest, platforms) {
                // An index below the root may be all of other platforms; the root may not.
                Err(Error::NoPlatform { .. }) if depth > 0 => {
                    closure.platforms_left_out += manifest.children().count() as u64;
                    continue;
                }
                chosen => chosen?,
            };
            closure.platforms_left_out += chosen.left_out;
            for child in chosen.children {
                if !found.contains_key(&child.digest) {
                    wanted.entry(child.digest).or_insert_with(|| child.clone());
                }
            }
        }
        if wanted.is_empty() {
            return Ok(found);
        }
        if found.len() + wanted.len() > MAX_MANIFESTS {
            return Err(Error::TooManyManifests {
                digest: root.digest(),
                limit: MAX_MANIFESTS,
            });
        }
        let sizes = wanted.values().map(|child| child.size);
        bytes = sizes.fold(bytes, u64::saturating_add);
        if bytes > MAX_MANIFEST_BYTES {
            return Err(Error::TooManyBytes {
                digest: root.digest(),
                limit: MAX_MANIFEST_BYTES,
            });
        }
        let fetched: Vec<_> = stream::iter(wanted.into_values())
            .map(|child| async move { transfers.manifest(&child, origin).await })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        level.clear();
        for (manifest, outcome) in fetched {
            closure.count(outcome);
            found.insert(manifest.digest(), Arc::clone(&manifest));
            level.push(manifest);
        }
    }
    Err(Error::TooDeep {
        digest: root.digest(),
    })
}

/// The children of an index that are wanted.
pub(super) struct Chosen<'a> {
    pub(super) children: Vec<&'a Descriptor>,
    left_out: u64,
}

/// Chooses by platform. Kept besides the wanted ones: children without a platform, which may be
/// anything, and what buildkit attests about the kept ones.
pub(super) fn choose<'a>(
    manifest: &'a Manifest,
    platforms: &[Platform],
) -> Result<Chosen<'a>, Error> {
    let Content::Index { manifests } = manifest.content() else {
        return Ok(Chosen {
            children: Vec::new(),
            left_out: 0,
        });
    };
    let wanted = |child: &Descriptor| match &child.platform {
        Some(offered) => platforms.is_empty() || platforms.iter().any(|wish| wish.accepts(offered)),
        None => true,
    };
    let manifests: Vec<&Descriptor> = manifests
        .iter()
        .filter(|child| child.media_type.manifest_kind().is_some())
        .collect();
    let kept: HashSet<String> = manifests
        .iter()
        .filter(|child| wanted(child))
        .map(|child| child.digest.to_string())
        .collect();
    let attests = |child: &Descriptor| {
        child
            .annotations
            .get(ATTESTED)
            .is_some_and(|about| kept.contains(about))
    };
    let children: Vec<_> = manifests
        .iter()
        .filter(|child| wanted(child) || attests(child))
        .copied()
        .collect();
    if children.is_empty() && !manifests.is_empty() {
        return Err(Error::NoPlatform {
            digest: manifest.digest(),
        });
    }
    let left_out = (manifests.len() - children.len()) as u64;
    Ok(Chosen { children, left_out })
}

/// Every digest that `root` reaches, each behind all it refers to.
///
/// How deep an image is nested is its longest way down, as for all who walk the tree later: what is
/// listed at the top as well may still stand at the end of a long chain.
fn leaves_first(
    root: &Manifest,
    manifests: &HashMap<Digest, Arc<Manifest>>,
) -> Result<Vec<Digest>, Error> {
    let mut descent = Descent {
        manifests,
        heights: HashMap::new(),
        reach: Vec::new(),
    };
    match descent.enter(root, 0) {
        Some(_) => Ok(descent.reach),
        None => Err(Error::TooDeep {
            digest: root.digest(),
        }),
    }
}

struct Descent<'a> {
    manifests: &'a HashMap<Digest, Arc<Manifest>>,
    /// What was entered, with the number of levels below it.
    heights: HashMap<Digest, usize>,
    reach: Vec<Digest>,
}

impl Descent<'_> {
    /// Enters a manifest behind all it refers to; `None` if that is too deep.
    ///
    /// No cycle is possible, since a document cannot contain its own digest.
    fn enter(&mut self, manifest: &Manifest, depth: usize) -> Option<usize> {
        let digest = manifest.digest();
        if let Some(height) = self.heights.get(&digest) {
            return (depth + height <= MAX_DEPTH).then_some(*height);
        }
        if depth > MAX_DEPTH {
            return None;
        }
        let mut height = 0;
        for child in manifest.children() {
            let descriptor = child.descriptor();
            // What one manifest has for a layer may be a manifest to another.
            if let Some(child) = self.manifests.get(&descriptor.digest) {
                height = height.max(1 + self.enter(child, depth + 1)?);
            } else if let Child::Blob(blob) = child
                && blob.media_type.is_distributable()
                && self.heights.insert(blob.digest, 0).is_none()
            {
                self.reach.push(blob.digest);
            }
        }
        self.heights.insert(digest, height);
        self.reach.push(digest);
        Some(height)
    }
}

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;
    use oci_mirror::media_type::MediaType;

    use super::*;

    fn digest(content: &str) -> Digest {
        Algorithm::Sha256.digest(content.as_bytes())
    }

    fn index(children: &str) -> Manifest {
        let bytes = format!(r#"{{"schemaVersion":2,"manifests":[{children}]}}"#);
        Manifest::parse(bytes.into(), Some(&MediaType::OCI_INDEX)).unwrap()
    }

    fn child(name: &str, extra: &str) -> String {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":1{extra}}}"#,
            MediaType::OCI_MANIFEST,
            digest(name)
        )
    }

    #[test]
    fn platforms_choose_and_attestations_follow() {
        let about = |name: &str| {
            format!(
                r#","platform":{{"os":"unknown","architecture":"unknown"}},"annotations":{{"{ATTESTED}":"{}"}}"#,
                digest(name)
            )
        };
        let manifest = index(
            &[
                child(
                    "amd",
                    r#","platform":{"os":"linux","architecture":"amd64"}"#,
                ),
                child(
                    "arm",
                    r#","platform":{"os":"linux","architecture":"arm64"}"#,
                ),
                child("amd-sbom", &about("amd")),
                child("arm-sbom", &about("arm")),
                child("anything", ""),
            ]
            .join(","),
        );
        let chosen = choose(&manifest, &["linux/amd64".parse().unwrap()]).unwrap();
        let kept: Vec<_> = chosen.children.iter().map(|child| child.digest).collect();
        assert_eq!(
            kept,
            [digest("amd"), digest("amd-sbom"), digest("anything")]
        );
        assert_eq!(chosen.left_out, 2);
        assert_eq!(choose(&manifest, &[]).unwrap().left_out, 0);
    }

    #[test]
    fn an_index_without_the_platform_is_an_error() {
        let manifest = index(&child(
            "amd",
            r#","platform":{"os":"linux","architecture":"amd64"}"#,
        ));
        let result = choose(&manifest, &["linux/s390x".parse().unwrap()]);
        assert!(matches!(result, Err(Error::NoPlatform { .. })));
        assert!(choose(&index(""), &["linux/s390x".parse().unwrap()]).is_ok());
    }
}
