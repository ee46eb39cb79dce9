//! What there is to be told of a tree.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::reference::RepoName;
use oci_mirror::tree::state::{self, State};
use oci_mirror::tree::walk::Walk;
use oci_mirror::tree::{Tree, TreePath};

use super::wire::{Blobs, Body, VERSION, Verified};
use crate::sync::gone::{self, Gone};
use crate::verify;

/// Most repositories that are named; more are said by naming none.
const MAX_REPOSITORIES: usize = 100_000;

/// Most damaged blobs that are told: with more, something else is wrong.
const MAX_DAMAGED: usize = 10_000;

/// How often the tree may change while it is looked at.
const TRIES: usize = 3;

/// What there is to be told of a tree.
#[derive(Debug)]
pub(super) struct What {
    state: State,
    digest: Digest,
    repositories: Option<Vec<RepoName>>,
    blobs: Option<Vec<Digest>>,
    pub(super) verified: Option<Verified>,
}

/// Looks at a tree until it is the same before and after. Blocks.
pub(super) fn read(root: &Path, verify: bool, with_blobs: bool) -> anyhow::Result<What> {
    let tree = Tree::open(root)?;
    for _ in 0..TRIES {
        let bytes = tree.read(&TreePath::State, state::MAX_BYTES)?;
        let gone = gone::read(&tree).context("cannot read what is kept in its grace")?;
        let what = What {
            state: State::from_bytes(&bytes)?,
            digest: Algorithm::Sha256.digest(&bytes),
            repositories: repositories(&tree, &gone)?,
            blobs: with_blobs.then(|| blobs(&tree, &gone)).transpose()?,
            verified: verify.then(|| verified(root)).transpose()?,
        };
        if tree.read(&TreePath::State, state::MAX_BYTES)? == bytes {
            return Ok(what);
        }
    }
    anyhow::bail!("it was changed each time while it was looked at")
}

impl What {
    /// As JSON.
    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Body {
            version: VERSION,
            tool: concat!("mirror-tool ", env!("CARGO_PKG_VERSION")),
            serial: self.state.serial,
            state: self.digest,
            list: self.state.list.as_ref().map(|list| list.digest),
            repositories: self.repositories.as_deref(),
            blobs: self.blobs.as_deref().map(packed),
            verified: self.verified.as_ref(),
        })
    }
}

/// The repositories that are not about to go.
fn repositories(tree: &Tree, gone: &Gone) -> anyhow::Result<Option<Vec<RepoName>>> {
    let mut names = Vec::new();
    for repo in tree.repositories()? {
        let name = repo.name().clone();
        if !gone.contains_key(&TreePath::Index(repo)) {
            names.push(name);
        }
    }
    Ok((names.len() <= MAX_REPOSITORIES).then_some(names))
}

/// What has the name of a blob and is not about to go. A name implies content that was verified.
///
/// When what is gone is removed, the state stays what it is, so nobody would be told of it.
fn blobs(tree: &Tree, gone: &Gone) -> anyhow::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for found in Walk::new(tree)? {
        let path = found?.entry.path;
        // Pieces come after blobs, and nothing that is asked about after them.
        if path.as_str() >= "pieces" {
            break;
        }
        if let Ok(path) = path.as_str().parse::<TreePath>()
            && !gone.contains_key(&path)
            && let TreePath::Blob(digest) = path
        {
            digests.push(digest);
        }
    }
    Ok(digests)
}

fn verified(root: &Path) -> anyhow::Result<Verified> {
    let at = Timestamp::now();
    let report = verify::run(root)?;
    let damaged = report.damage.iter();
    let damaged: BTreeSet<_> = damaged.filter_map(verify::Damage::content).collect();
    anyhow::ensure!(
        damaged.len() <= MAX_DAMAGED,
        "{} blobs are damaged: look at the disk first",
        damaged.len()
    );
    let damaged = damaged.into_iter().collect();
    Ok(Verified { at, damaged })
}

fn packed(digests: &[Digest]) -> Blobs {
    let all = |of: Algorithm| {
        let digests = digests.iter().filter(|digest| digest.algorithm() == of);
        let bytes: Vec<u8> = digests
            .flat_map(|it| it.as_bytes().iter().copied())
            .collect();
        STANDARD.encode(bytes)
    };
    Blobs {
        sha256: all(Algorithm::Sha256),
        sha512: all(Algorithm::Sha512),
    }
}
