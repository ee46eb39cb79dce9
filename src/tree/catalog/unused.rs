//! What becomes of blobs that no repository has any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::blobs::{BlobId, Blobs};
use super::{Catalog, Held};

/// How many numbers may be out of use whatever the size of the catalog.
const FEW: usize = 4096;

impl Catalog {
    /// Takes the numbers of what no repository has out of use, and numbers anew if that leaves more holes
    /// than blobs.
    pub(super) fn retire_unused(&mut self) {
        let mut is_used = vec![false; self.blobs.len()];
        for held in self.repositories.sorted().values() {
            for id in held.repository.members() {
                is_used[id.index()] = true;
            }
        }
        if count(&is_used) < self.blobs.in_use() {
            // A repository may link a manifest and no longer its layers. The manifest still has their
            // numbers, so these have to stay.
            while self.use_what_is_referred_to(&mut is_used) {}
            for id in self.blobs.ids().filter(|id| !is_used[id.index()]) {
                let manifest = self.blobs.retire(id);
                let bytes = manifest.as_ref().and_then(|it| it.bytes.as_ref());
                self.manifest_bytes -= bytes.map_or(0, |bytes| bytes.len() as u64);
            }
        }
        let used = self.blobs.in_use();
        if self.blobs.len() - used > used.max(FEW) {
            self.renumber();
        }
    }

    /// Marks the blobs of manifests that are used; whether one of them is a manifest and was not used.
    fn use_what_is_referred_to(&self, is_used: &mut [bool]) -> bool {
        let mut is_more = false;
        for (id, blob) in self.blobs.ids().zip(self.blobs.iter()) {
            let Some(manifest) = blob.manifest.as_ref().filter(|_| is_used[id.index()]) else {
                continue;
            };
            for child in &manifest.blobs {
                let was_used = std::mem::replace(&mut is_used[child.index()], true);
                is_more |= !was_used && self.blobs[child.index()].manifest.is_some();
            }
        }
        is_more
    }

    pub(super) fn renumber(&mut self) {
        let old = &self.blobs;
        let mut new = Blobs::default();
        let mut numbers = vec![None; old.len()];
        for (id, blob) in old.ids().zip(old.iter()) {
            if old.is_in_use(id) {
                numbers[id.index()] = Some(new.enter(blob.digest, blob.size));
            }
        }
        // What is in use refers to nothing that is not.
        let number = |id: BlobId| numbers[id.index()].unwrap_or(id);
        for (id, blob) in old.ids().zip(old.iter()) {
            if let (Some(id), Some(manifest)) = (numbers[id.index()], &blob.manifest) {
                let manifest = manifest.renumbered(number);
                new.describe(id, blob.size, Arc::new(manifest));
            }
        }
        let held = self.repositories.sorted().iter().map(|(name, held)| {
            let held = Held {
                mark: held.mark.clone(),
                repository: Arc::new(held.repository.renumbered(number)),
            };
            (name.clone(), held)
        });
        self.repositories = held.collect::<BTreeMap<_, _>>().into();
        self.blobs = new;
    }
}

fn count(is_used: &[bool]) -> usize {
    is_used.iter().filter(|is_used| **is_used).count()
}
