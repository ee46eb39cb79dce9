//! The names in the tree: no two images of a run have the same.

use std::collections::{HashMap, hash_map};

use oci_mirror::digest::Digest;
use oci_mirror::reference::Tag;
use oci_mirror::tree::RepoDir;

use super::wanted::Wanted;
use crate::export::error::Error;

/// Which tags of the tree are taken, and by what.
#[derive(Default)]
pub(super) struct Names(HashMap<(RepoDir, Tag), (String, Option<Digest>)>);

impl Names {
    /// Takes the name of an image; `false` if the same image has it already.
    pub(super) fn claim(&mut self, image: &Wanted) -> Result<bool, Error> {
        // What is kept by digest is the same whoever it comes from.
        let Some(tag) = image.tag.clone() else {
            return Ok(true);
        };
        let origin = image.origin.to_string();
        match self.0.entry((image.repo.clone(), tag)) {
            hash_map::Entry::Vacant(free) => {
                free.insert((origin, image.wish.digest()));
                Ok(true)
            }
            hash_map::Entry::Occupied(taken) => {
                let (other, digest) = taken.get();
                // Names of a layout that end in the same tag may be those of two images.
                if *other == origin && *digest == image.wish.digest() {
                    return Ok(false);
                }
                let (repo, tag) = taken.key();
                Err(Error::Collision {
                    name: format!("{}:{tag}", repo.name()),
                    other: other.clone(),
                })
            }
        }
    }
}
