//! What a repository links, whether its index leads there or not.
//!
//! A tag moves while somebody is in the middle of what it pointed at, and people pin digests. The links
//! stay until a prune finds that their grace period is over; they say what the repository can still
//! answer for.

use std::io::{self, Read as _};

use super::path::{RepoDir, TreePath};
use super::reader::{Error, Tree};
use crate::digest::{Algorithm, Digest};
use crate::manifest::{self, Manifest};

/// The digests that a repository links, in no order; none if it has no links at all.
pub fn digests(repo: &RepoDir, tree: &Tree) -> Result<Vec<Digest>, Error> {
    let mut found = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let below = format!("{repo}/blobs/{algorithm}");
        let path = tree.root().join(below);
        let failed = |source| Error::Directory {
            path: path.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // Whatever else lies there is no link of the tree.
            let digest = name.to_str().map(|hex| Digest::from_parts(algorithm, hex));
            found.extend(digest.and_then(Result::ok));
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
