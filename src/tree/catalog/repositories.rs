//! The repositories of a catalog, in two orders that cannot come to differ.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Held, Repository};
use crate::reference::RepoName;

/// Repositories by name. Each request asks for one, for which the sorted ones would take a dozen looks at memory.
#[derive(Debug)]
pub(super) struct Repositories {
    sorted: BTreeMap<RepoName, Held>,
    by_name: HashMap<RepoName, Arc<Repository>>,
}

impl Repositories {
    /// All of them with how to tell that they have not changed, sorted by name.
    pub(super) fn sorted(&self) -> &BTreeMap<RepoName, Held> {
        &self.sorted
    }

    /// One of them.
    pub(super) fn get(&self, name: &RepoName) -> Option<&Repository> {
        self.by_name.get(name).map(|held| &**held)
    }
}

impl From<BTreeMap<RepoName, Held>> for Repositories {
    fn from(sorted: BTreeMap<RepoName, Held>) -> Self {
        let held = sorted.iter();
        let by_name = held.map(|(name, held)| (name.clone(), Arc::clone(&held.repository)));
        Self {
            by_name: by_name.collect(),
            sorted,
        }
    }
}
