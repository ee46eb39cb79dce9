//! Carried files that a sum has to prove, between the entries of a list and its sums.

use oci_mirror::tree::TreePath;
use oci_mirror::tree::list::{ListPath, Sum};

use super::Refusal;
use super::refusal::Why;
use crate::sync::{Proof, Wanted};

/// Carried files that a sum has to prove, in the order of the list.
#[derive(Debug, Default)]
pub(super) struct Unproven {
    files: Vec<File>,
    /// How many of them had their turn.
    proven: usize,
}

/// A carried file that a sum has to prove.
#[derive(Debug)]
pub(super) struct File {
    /// Where it stands in the list.
    pub(super) at: ListPath,
    pub(super) path: TreePath,
    pub(super) size: u64,
    pub(super) time: u32,
    /// Whether there is one of that length here.
    pub(super) is_held: bool,
}

impl Unproven {
    pub(super) fn push(&mut self, file: File) {
        self.files.push(file);
    }

    /// The file that `sum` proves, if it is carried and not the one that is here, which has the sum
    /// `before`. Sums come in the order of the list.
    pub(super) fn prove(
        &mut self,
        at: &ListPath,
        sum: Sum,
        before: Option<Sum>,
    ) -> Result<Option<Wanted>, Refusal> {
        let Some(file) = self.files.get(self.proven) else {
            return Ok(None);
        };
        if file.at < *at {
            return Err(no_sum(file));
        }
        if file.at > *at {
            return Ok(None);
        }
        self.proven += 1;
        let is_here = file.is_held && before == Some(sum);
        Ok((!is_here).then(|| Wanted {
            path: file.path.clone(),
            size: file.size,
            proof: Proof::Sum(sum),
            time: file.time.into(),
        }))
    }

    /// After the last sum.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match self.files.get(self.proven) {
            None => Ok(()),
            Some(file) => Err(no_sum(file)),
        }
    }
}

fn no_sum(of: &File) -> Refusal {
    Refusal::Entry {
        path: of.at.clone(),
        why: Why::NoSum,
    }
}
