//! The tree: a directory of plain files that any static server can mirror.
//!
//! ```text
//! TREE/
//!   blobs/<alg>/<hh>/<hex>           every manifest, config and layer exactly once
//!   repos/<name>/oci-layout          each repository is a valid OCI image layout,
//!   repos/<name>/index.json          with one descriptor per tag
//!   repos/<name>/blobs/<alg>/<hex>   and hardlinks to all it reaches
//!   pieces/<alg>/<hh>/<hex>          sha-256 of each piece of a large blob
//!   fullfiletimelist-<module>        every file with its time and size, for mirrors
//!   DIRECTORY_SIZES.txt              what each repository costs a mirror
//!   state.json                       format and serial, replaced last
//!   .~tmp~/                          what is not yet part of the tree
//! ```
//!
//! A name in the tree implies verified content: [`writer`] hashes while it writes, compares, syncs
//! and only then renames, leaves before roots. [`reader`] opens files without ever leaving the
//! tree. [`catalog`] is what a server keeps in memory of a tree.

pub mod blob_hash;
pub mod catalog;
pub mod index;
pub mod lane;
pub mod linked;
pub mod list;
pub mod on_disk;
pub mod path;
pub mod pieces;
pub mod reach;
pub mod reader;
pub mod sizes;
pub mod state;
pub mod walk;
pub mod writer;

pub use catalog::Catalog;
pub use path::{RepoDir, TreePath};
pub use reader::Tree;
pub use writer::TreeWriter;
