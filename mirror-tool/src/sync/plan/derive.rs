//! The list and the state of a mirror that does not carry all.

use std::io::{BufRead, Seek, Write};

use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::state::State;
use oci_mirror::tree::{RepoDir, reader};

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
    list: impl BufRead + Seek,
    state: &State,
    plan: &Plan,
    terms: &Terms<'_>,
    index: &mut dyn FnMut(&RepoDir) -> Result<RepoIndex, reader::Error>,
    to: &mut dyn Write,
) -> Result<Derived, Refusal> {
    let _ = (list, state, plan, terms, index, to);
    Err(Refusal::Derive(std::io::ErrorKind::Unsupported.into()))
}
