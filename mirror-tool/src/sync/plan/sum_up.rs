//! The end of a comparison, when it is known what is carried.

use std::collections::BTreeMap;

use oci_mirror::digest::Digest;
use oci_mirror::tree::pieces;
use oci_mirror::tree::state::Totals;
use oci_mirror::tree::{RepoDir, TreePath};

use super::carried::Mark;
use super::{PiecesFile, Plan, Refusal};
use crate::sync::{Proof, Wanted};

/// Enters blobs and pieces, now that it is known which are carried; returns how many blobs are.
pub(super) fn enter(
    plan: &mut Plan,
    gone: &BTreeMap<TreePath, u64>,
    piece_times: &[(Digest, u32)],
) -> u64 {
    let mut count = 0;
    let mut unsummed = Vec::new();
    for (digest, row) in plan.carried.rows() {
        let (blob, pieces) = (TreePath::Blob(digest), TreePath::Pieces(digest));
        if !row.is(Mark::Carried) {
            if row.is(Mark::Old) {
                plan.gone.push(blob);
            }
            if row.is(Mark::PiecesOld) {
                plan.gone.push(pieces);
            }
            continue;
        }
        count += 1;
        let lacks_pieces = row.is(Mark::Pieces) && !row.is(Mark::PiecesSum);
        let lacks_pieces = lacks_pieces && !row.is(Mark::PiecesHeld);
        if lacks_pieces {
            unsummed.push(PiecesFile {
                digest,
                sum: None,
                size: piece_bytes(row.size),
                time: 0,
            });
        }
        if row.is(Mark::Held) {
            plan.held_bytes = plan.held_bytes.saturating_add(row.size);
        }
        // Pieces that nothing proves can only be had by hashing the blob on its way here.
        if !row.is(Mark::Held) || lacks_pieces {
            plan.blobs.push(Wanted {
                path: blob.clone(),
                size: row.size,
                proof: Proof::Name,
                time: row.time.into(),
            });
        }
        for path in [Some(blob), row.is(Mark::Pieces).then_some(pieces)] {
            plan.back
                .extend(path.filter(|path| gone.contains_key(path)));
        }
    }
    plan.pieces.append(&mut unsummed);
    plan.pieces.sort_unstable_by_key(|it| it.digest);
    for it in &mut plan.pieces {
        let position = piece_times.binary_search_by_key(&it.digest, |(digest, _)| *digest);
        if let Some((_, time)) = position.ok().and_then(|at| piece_times.get(at)) {
            it.time = (*time).into();
        }
    }
    count
}

impl Plan {
    /// How many repositories are carried.
    pub fn carried_repositories(&self) -> usize {
        self.carried.indexes().count()
    }

    /// Whether the index of a repository is among what is carried.
    pub fn has_index(&self, repo: &RepoDir) -> bool {
        self.carried.indexes().any(|carried| carried == repo)
    }

    /// Whether the tree here has a blob of the list, and nothing is known against it.
    pub fn holds(&self, digest: &Digest) -> bool {
        let row = self.carried.row(digest);
        row.is_some_and(|row| row.is(Mark::Held))
    }
}

/// How many there are of what is counted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) blobs: u64,
    pub(super) repositories: u64,
}

/// A state says what the list that it names adds up to.
pub(super) fn check_totals(state: &Totals, listed: Counts, bytes: u64) -> Result<(), Refusal> {
    for (what, state, list) in [
        ("blobs", state.blobs, listed.blobs),
        ("bytes of blobs", state.bytes, bytes),
        ("repositories", state.repositories, listed.repositories),
    ] {
        if state != list {
            return Err(Refusal::Totals { what, state, list });
        }
    }
    Ok(())
}

/// More than half of something that is worth the name must not go unasked.
pub(super) fn check_shrink(what: &'static str, was: u64, is: u64) -> Result<(), Refusal> {
    let lost_half = was >= WORTH_ASKING && is < was.div_ceil(2);
    if lost_half || (was > 0 && is == 0) {
        return Err(Refusal::Shrunk { what, was, is });
    }
    Ok(())
}

/// So many of something can go by halves every day.
const WORTH_ASKING: u64 = 10;

/// The length of the pieces file of a blob.
pub(super) fn piece_bytes(size: u64) -> u64 {
    pieces::count_for(size).saturating_mul(pieces::HASH_LEN as u64)
}
