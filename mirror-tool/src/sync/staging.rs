//! Where what is fetched lies until all of it is there and right: `.~tmp~/sync/files/`.

use std::path::{Path, PathBuf};

use oci_mirror::tree::{TreePath, TreeWriter, writer};

/// Where fetched files lie, under their paths in the tree.
#[derive(Debug, Clone)]
pub struct Staging {
    directory: PathBuf,
}

impl Staging {
    /// The staging directory of a tree; made if it is not there.
    pub fn open(writer: &TreeWriter) -> Result<Self, writer::Error> {
        Ok(Self {
            directory: writer.sync_directory()?,
        })
    }

    /// The directory below which fetched files lie.
    pub fn root(&self) -> PathBuf {
        self.directory.join("files")
    }

    /// Where a file of the tree lies until it gets its name.
    pub fn path(&self, path: &TreePath) -> PathBuf {
        path.under(&self.root())
    }

    /// Where the list lies that is being followed.
    pub fn list(&self) -> PathBuf {
        self.directory.join("list.new")
    }

    /// The directory itself, for what is remembered from run to run.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
