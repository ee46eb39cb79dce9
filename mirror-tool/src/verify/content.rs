//! Hashing: is every blob what its name says, on all cores.

use std::io::{self, Read as _};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci_mirror::digest::Digest;
use oci_mirror::tree::blob_hash::BlobHasher;
use oci_mirror::tree::pieces::{HASH_LEN, Pieces, count_for};
use oci_mirror::tree::{Tree, TreePath};

use super::Damage;
use super::inventory::Inventory;

/// How much is read at once.
const BUFFER: usize = 1 << 20;

/// Hashes every blob, and every link that is a copy; returns how many bytes of blobs were read.
pub(super) fn check(inventory: &Inventory, tree: &Tree, damage: &mut Vec<Damage>) -> u64 {
    let blobs = inventory
        .blobs
        .iter()
        .map(|(digest, file)| (TreePath::Blob(*digest), *digest, file.size));
    let copies = inventory.links.iter().flat_map(|(repo, links)| {
        links.iter().filter_map(|(digest, link)| {
            let is_link = inventory
                .blobs
                .get(digest)
                .is_some_and(|blob| blob.is_same(link));
            let path = TreePath::Link(repo.clone(), *digest);
            (!is_link).then_some((path, *digest, link.size))
        })
    });
    let mut files: Vec<_> = blobs.chain(copies).collect();
    // The longest first, so that no core is left alone with a large one at the end.
    files.sort_by_key(|(_, _, size)| std::cmp::Reverse(*size));

    let next = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let worker = || {
        let mut buffer = vec![0; BUFFER];
        while let Some((path, digest, size)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut problems = Vec::new();
            match hash(path, digest, *size, tree, &mut buffer) {
                Err(error) => problems.push(Damage::error(path, &error)),
                Ok(Hashed { found, .. }) if found != *digest => {
                    problems.push(Damage::new(path, format!("its content is {found}")));
                }
                Ok(Hashed { pieces, .. }) => {
                    if let TreePath::Blob(_) = path {
                        bytes.fetch_add(*size, Ordering::Relaxed);
                        problems.extend(check_pieces(digest, *size, pieces.as_ref(), tree));
                    }
                }
            }
            if !problems.is_empty() {
                found
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .append(&mut problems);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(worker);
        }
    });
    damage.append(&mut found.into_inner().unwrap_or_else(PoisonError::into_inner));
    bytes.into_inner()
}

struct Hashed {
    found: Digest,
    pieces: Option<Pieces>,
}

fn hash(
    path: &TreePath,
    digest: &Digest,
    size: u64,
    tree: &Tree,
    buffer: &mut [u8],
) -> io::Result<Hashed> {
    let mut file = tree.open_file(path).map_err(io::Error::other)?;
    let mut hasher = BlobHasher::new(digest.algorithm(), size);
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (found, pieces) = hasher.finish();
    Ok(Hashed { found, pieces })
}

/// A large blob needs a pieces file that agrees with it.
fn check_pieces(
    digest: &Digest,
    size: u64,
    computed: Option<&Pieces>,
    tree: &Tree,
) -> Option<Damage> {
    let computed = computed?;
    let path = TreePath::Pieces(*digest);
    match tree.read(&path, count_for(size) * HASH_LEN as u64) {
        Ok(bytes) if *bytes == *computed.to_bytes() => None,
        Ok(_) => Some(Damage::new(&path, "does not agree with the blob")),
        Err(error) if error.is_not_found() => Some(Damage::new(&path, "missing")),
        Err(error) => Some(Damage::error(&path, &error)),
    }
}
