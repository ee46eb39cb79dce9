//! Hashing: is every blob what its name says, on all cores.
//!
//! Each core hashes two files at a time, which costs little more than one (see
//! [`lane`](oci_mirror::tree::lane)). The hashes of pieces are as expensive as the blob itself, so they
//! are computed only where nobody vouches for the file that has them: the file list, whose digest
//! `state.json` names, has the sum of every pieces file as it was written. A file of another sum is not
//! wrong for that alone; then the blob says what is right.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::blob_hash::BlobHasher;
use oci_mirror::tree::lane::Lane;
use oci_mirror::tree::list::Sum;
use oci_mirror::tree::pieces::{HASH_LEN, Pieces, count_for};
use oci_mirror::tree::{Tree, TreePath};

use super::Damage;
use super::inventory::Inventory;

/// How much is read at once: with that of the other file, it has to stay in the cache of a core.
const BUFFER: usize = 128 << 10;

/// The sums of pieces files that the tree's list vouches for.
pub(super) type Vouched = HashMap<Digest, Sum>;

/// Hashes every blob, and every link that is a copy; returns how many bytes of blobs were read.
pub(super) fn check(
    inventory: &Inventory,
    vouched: &Vouched,
    tree: &Tree,
    damage: &mut Vec<Damage>,
) -> u64 {
    let (simple, others) = jobs(inventory)
        .into_iter()
        .partition::<Vec<Job>, _>(|job| job.is_simple(vouched, tree));
    let check = Check {
        simple,
        others,
        next_simple: AtomicUsize::new(0),
        next_other: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        found: Mutex::new(Vec::new()),
        tree,
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| check.work());
        }
    });
    damage.append(
        &mut check
            .found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
    );
    check.bytes.into_inner()
}

/// A file to be hashed.
struct Job {
    path: TreePath,
    digest: Digest,
    size: u64,
}

/// All of them, the longest first, so that no core is left alone with a large one at the end.
fn jobs(inventory: &Inventory) -> Vec<Job> {
    let blobs = inventory.blobs.iter().map(|(digest, file)| Job {
        path: TreePath::Blob(*digest),
        digest: *digest,
        size: file.size,
    });
    let copies = inventory.links.iter().flat_map(|(repo, links)| {
        links.iter().filter_map(|(digest, link)| {
            let is_link = inventory
                .blobs
                .get(digest)
                .is_some_and(|blob| blob.is_same(link));
            (!is_link).then(|| Job {
                path: TreePath::Link(repo.clone(), *digest),
                digest: *digest,
                size: link.size,
            })
        })
    });
    let mut jobs: Vec<Job> = blobs.chain(copies).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.size));
    jobs
}

impl Job {
    /// Whether the digest is all there is to be found out.
    fn is_simple(&self, vouched: &Vouched, tree: &Tree) -> bool {
        if self.digest.algorithm() != Algorithm::Sha256 {
            return false;
        }
        let (TreePath::Blob(_), length @ 1..) = (&self.path, pieces_len(self.size)) else {
            return true;
        };
        let Some(sum) = vouched.get(&self.digest) else {
            return false;
        };
        let pieces = tree.read(&TreePath::Pieces(self.digest), length);
        pieces.is_ok_and(|bytes| Algorithm::Sha256.digest(&bytes).as_bytes() == sum)
    }
}

/// The length of the pieces file of a blob in bytes; 0 if it is too small to have one.
fn pieces_len(size: u64) -> u64 {
    count_for(size) * HASH_LEN as u64
}

/// The work of all cores.
struct Check<'a> {
    simple: Vec<Job>,
    others: Vec<Job>,
    next_simple: AtomicUsize,
    next_other: AtomicUsize,
    bytes: AtomicU64,
    found: Mutex<Vec<Damage>>,
    tree: &'a Tree,
}

/// A file that is being hashed.
struct Open<'a> {
    job: &'a Job,
    file: File,
    lane: Lane,
}

impl Check<'_> {
    fn work(&self) {
        let mut buffers = [vec![0; BUFFER], vec![0; BUFFER]];
        while let Some(job) = next(&self.others, &self.next_other) {
            self.full(job, &mut buffers[0]);
        }
        let [buffer, other_buffer] = &mut buffers;
        let (mut one, mut other) = (self.open(), self.open());
        loop {
            let read = self.read(&mut one, buffer);
            let other_read = self.read(&mut other, other_buffer);
            match (&mut one, &mut other) {
                (None, None) => return,
                (Some(open), None) => open.lane.update(read),
                (None, Some(open)) => open.lane.update(other_read),
                (Some(open), Some(companion)) => {
                    Lane::update_both(&mut open.lane, read, &mut companion.lane, other_read);
                }
            }
        }
    }

    /// The next file, open; one that cannot be opened is damage.
    fn open(&self) -> Option<Open<'_>> {
        loop {
            let job = next(&self.simple, &self.next_simple)?;
            match self.tree.open_file(&job.path) {
                Ok(file) => {
                    let lane = Lane::default();
                    return Some(Open { job, file, lane });
                }
                Err(error) => self.note(Damage::error(&job.path, &error)),
            }
        }
    }

    /// The next bytes of a file, or the first of the next file if that has come to its end.
    fn read<'a, 'b>(&'b self, open: &mut Option<Open<'b>>, buffer: &'a mut [u8]) -> &'a [u8] {
        while let Some(current) = open {
            match current.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(length @ 1..) => return &buffer[..length],
                Err(error) => self.note(Damage::error(&current.job.path, &error)),
                Ok(0) => {
                    if let Some(Open { job, lane, .. }) = open.take() {
                        self.compare(job, lane.finish());
                    }
                }
            }
            *open = self.open();
        }
        &[]
    }

    /// Says whether the content of a file is what its name says.
    fn compare(&self, job: &Job, found: Digest) -> bool {
        let is_right = found == job.digest;
        if !is_right {
            self.note(Damage::new(&job.path, format!("its content is {found}")));
        } else if let TreePath::Blob(_) = job.path {
            self.bytes.fetch_add(job.size, Ordering::Relaxed);
        }
        is_right
    }

    /// Hashes a file and its pieces.
    fn full(&self, job: &Job, buffer: &mut [u8]) {
        let hashed = self
            .tree
            .open_file(&job.path)
            .map_err(io::Error::other)
            .and_then(|file| hash(file, job, buffer));
        match hashed {
            Err(error) => self.note(Damage::error(&job.path, &error)),
            Ok((found, pieces)) => {
                if self.compare(job, found)
                    && let (TreePath::Blob(_), Some(pieces)) = (&job.path, pieces)
                    && let Some(damage) = check_pieces(job, &pieces, self.tree)
                {
                    self.note(damage);
                }
            }
        }
    }

    fn note(&self, damage: Damage) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.push(damage);
    }
}

fn next<'a>(jobs: &'a [Job], position: &AtomicUsize) -> Option<&'a Job> {
    jobs.get(position.fetch_add(1, Ordering::Relaxed))
}

fn hash(mut file: File, job: &Job, buffer: &mut [u8]) -> io::Result<(Digest, Option<Pieces>)> {
    let mut hasher = BlobHasher::new(job.digest.algorithm(), job.size);
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A large blob needs a pieces file that agrees with it.
fn check_pieces(job: &Job, computed: &Pieces, tree: &Tree) -> Option<Damage> {
    let path = TreePath::Pieces(job.digest);
    match tree.read(&path, pieces_len(job.size)) {
        Ok(bytes) if *bytes == *computed.to_bytes() => None,
        Ok(_) => Some(Damage::new(&path, "does not agree with the blob")),
        Err(error) if error.is_not_found() => Some(Damage::new(&path, "missing")),
        Err(error) => Some(Damage::error(&path, &error)),
    }
}
