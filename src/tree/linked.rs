//! What a repository links, whether its index leads there or not.
//!
//! A tag moves while somebody is in the middle of what it pointed at, and people pin digests. The links
//! stay until a prune finds that their grace period is over; they say what the repository can still
//! answer for.

use std::io::Read as _;

use super::path::{RepoDir, TreePath};
use super::reader::{Error, Tree};
use crate::digest::{Algorithm, Digest};
use crate::manifest::{self, Manifest};

/// The digests that a repository links, in no order; none if it has no links at all.
pub fn digests(repo: &RepoDir, tree: &Tree) -> Result<Vec<Digest>, Error> {
    let mut found = Vec::new();
    for algorithm in Algorithm::ALL {
        let entries = tree.entries(&format!("{repo}/blobs/{algorithm}"))?;
        for (name, _) in entries.into_iter().flatten() {
            // Whatever else lies there is no link of the tree.
            found.extend(Digest::from_parts(algorithm, &name));
        }
    }
    Ok(found)
}

/// The manifest that a blob is, if it is one: when nothing names it any more, nothing says its type
/// either, and its bytes have to. Almost all blobs are layers, which one byte tells.
pub fn manifest(digest: &Digest, tree: &Tree) -> Option<Manifest> {
    let mut file = tree.open_file(&TreePath::Blob(*digest)).ok()?;
    let mut bytes = vec![0];
    file.read_exact(&mut bytes).ok()?;
    if !matches!(bytes[0], b'{' | b' ' | b'\t' | b'\r' | b'\n') {
        return None;
    }
    file.take(manifest::MAX_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Manifest::with_digest(bytes.into(), *digest, None).ok()
}
