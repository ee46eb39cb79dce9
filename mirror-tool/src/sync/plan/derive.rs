//! The list and the state of a mirror that does not carry all.
//!
//! `DIRECTORY_SIZES.txt` stands first in a list and says what all the rest adds up to, so the list it is made
//! of is read twice.

use std::io::{self, BufRead, Seek, Write};

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::list::{Access, Entry, Kind, ListPath, Reader, Record, Sum, Writer};
use oci_mirror::tree::sizes::Sizes;
use oci_mirror::tree::state::{ListRef, State, Totals};
use oci_mirror::tree::{RepoDir, TreePath, reader};

use super::part::{Part, part};
use super::{Plan, Refusal, Terms};

/// What a mirror that does not carry all publishes beside its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// Names the list that was written.
    pub state: State,
    /// The content of `DIRECTORY_SIZES.txt`.
    pub sizes: String,
}

/// Writes the list of what `plan` carries of `list` to `to`.
///
/// The serial and the time of creation stay those of `state`: they say which version of the content it
/// is, and the digest of the list says which part of it. `index` reads the tags of a repository as they
/// are going to be.
pub fn derive(
    mut list: impl BufRead + Seek,
    state: &State,
    plan: &Plan,
    terms: &Terms<'_>,
    index: &mut dyn FnMut(&RepoDir) -> Result<RepoIndex, reader::Error>,
    to: &mut dyn Write,
) -> Result<Derived, Refusal> {
    let mut state = state.clone();
    let (sizes, totals) = add_up(&mut list, plan, index)?;
    state.totals = totals;
    list.rewind().map_err(Refusal::Derive)?;
    let text = sizes.to_text();
    let Some(of) = &mut state.list else {
        return Err(Refusal::Derive(io::ErrorKind::InvalidInput.into()));
    };
    // A digest is as long as any other, so the length of the state is known before its content.
    of.digest = Digest::Sha256([0; 32]);
    let lengths = [
        (TreePath::DirectorySizes, text.len()),
        (TreePath::State, state.to_bytes().len()),
    ];
    let specials = lengths.map(|(path, size)| special(&path, size as u64, terms.now));
    let sum = match Algorithm::Sha256.digest(text.as_bytes()) {
        Digest::Sha256(sum) => Some(sum),
        Digest::Sha512(_) => None,
    };
    let digest = write(
        list,
        plan,
        specials.into_iter().flatten().collect(),
        sum,
        to,
    )?;
    if let Some(ListRef { digest: named, .. }) = &mut state.list {
        *named = digest;
    }
    Ok(Derived { state, sizes: text })
}

/// What the carried part of a list adds up to.
fn add_up(
    list: impl BufRead,
    plan: &Plan,
    index: &mut dyn FnMut(&RepoDir) -> Result<RepoIndex, reader::Error>,
) -> Result<(Sizes, Totals), Refusal> {
    let mut sizes = Sizes::default();
    let mut totals = Totals::default();
    for record in Reader::new(list) {
        let Record::Entry(entry) = record.map_err(Refusal::List)? else {
            break;
        };
        let Part::File(path) = part(&entry) else {
            continue;
        };
        if plan.carried.has_file(&path) {
            sizes.add(Some(&path), entry.size);
            if let TreePath::Blob(_) = path {
                totals.blobs += 1;
                totals.bytes = totals.bytes.saturating_add(entry.size);
            }
        }
    }
    for repo in plan.carried.indexes() {
        let index = index(repo).map_err(|source| Refusal::Index {
            repo: repo.clone(),
            source,
        })?;
        totals.repositories += 1;
        totals.tags += index.tags().count() as u64;
    }
    Ok((sizes, totals))
}

/// Copies the carried part of a list, and puts the `specials` where they belong.
fn write(
    list: impl BufRead,
    plan: &Plan,
    specials: Vec<Entry>,
    sum_of_sizes: Option<Sum>,
    to: &mut dyn Write,
) -> Result<Digest, Refusal> {
    let failed = Refusal::Derive;
    let mut writer = Writer::new(to).map_err(failed)?;
    let mut specials = specials.into_iter().peekable();
    let mut sum_of_sizes = sum_of_sizes.zip(list_path(&TreePath::DirectorySizes));
    let is_before = |path: &ListPath, of: Option<&ListPath>| of.is_none_or(|of| path < of);
    for record in Reader::new(list).map(Some).chain([None]) {
        let record = record.transpose().map_err(Refusal::List)?;
        let path = match &record {
            Some(Record::Entry(entry)) => Some(&entry.path),
            Some(Record::Sum(..)) | None => None,
        };
        while let Some(special) = specials.next_if(|special| is_before(&special.path, path)) {
            writer.entry(&special).map_err(failed)?;
        }
        match record {
            Some(Record::Entry(entry)) => {
                let is_carried = match part(&entry) {
                    Part::File(path) => plan.carried.has_file(&path),
                    Part::Directory => plan.carried.has_directory(&entry.path),
                    Part::Hidden(_) | Part::Foreign => false,
                };
                if is_carried {
                    writer.entry(&entry).map_err(failed)?;
                }
            }
            Some(Record::Sum(path, sum)) => {
                if let Some((sum, own)) = sum_of_sizes.take_if(|(_, own)| *own < path) {
                    writer.sum(&own, &sum).map_err(failed)?;
                }
                let parsed = path.as_str().parse();
                if parsed.is_ok_and(|parsed| plan.carried.has_file(&parsed)) {
                    writer.sum(&path, &sum).map_err(failed)?;
                }
            }
            None => {}
        }
    }
    if let Some((sum, own)) = sum_of_sizes {
        writer.sum(&own, &sum).map_err(failed)?;
    }
    let (_, digest) = writer.finish().map_err(failed)?;
    Ok(digest)
}

fn special(path: &TreePath, size: u64, time: i64) -> Option<Entry> {
    Some(Entry {
        time,
        kind: Kind::File,
        access: Access::Public,
        size,
        path: list_path(path)?,
    })
}

fn list_path(path: &TreePath) -> Option<ListPath> {
    path.to_string().parse().ok()
}
