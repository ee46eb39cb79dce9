//! Files beside a tree by which a plain web server answers pulls without a front end.

use std::path::Path;

use oci_mirror::tree::Tree;

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Updated {
    /// Repositories whose files were made anew.
    pub repositories: u64,
    /// Manifests left out, because no web server of ours can be told their type.
    pub left_out: u64,
}

/// Brings the files in `directory` up to date with the tree.
pub fn update(tree: &Tree, directory: &Path) -> anyhow::Result<Updated> {
    let _ = (tree, directory);
    anyhow::bail!("no files for direct pulls yet")
}
