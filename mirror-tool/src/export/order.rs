//! What is wanted: sources, each with its own choices.

use oci_mirror::platform::Platform;
use oci_mirror::reference::RepoName;

use super::select::Selection;
use super::source::Source;

/// One source, and what is wanted of it.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where the images come from.
    pub source: Source,
    /// Which of its tags, when it names none itself.
    pub selection: Selection,
    /// Which images of an index; empty means all.
    pub platforms: Vec<Platform>,
    /// The repository of the tree, instead of the source's own name.
    pub dest_name: Option<RepoName>,
    /// Whether signatures, SBOMs and the like come along.
    pub referrers: bool,
    /// Whether what the source has no more, or what is no longer wanted of it, leaves the tree.
    pub prune: bool,
}

impl From<Source> for Order {
    /// All tags and platforms, under the source's own name, with all that belongs to them.
    fn from(source: Source) -> Self {
        Self {
            source,
            selection: Selection::default(),
            platforms: Vec::new(),
            dest_name: None,
            referrers: true,
            prune: false,
        }
    }
}
