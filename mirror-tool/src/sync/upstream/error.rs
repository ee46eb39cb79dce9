//! Why a tree could not be followed.

use std::io;
use std::path::PathBuf;

use oci_mirror::digest::Digest;
use oci_mirror::tree::{TreePath, writer};

/// Why something could not be had from the tree that is followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer, or breaks off, however often it is asked.
    #[error("{upstream} cannot be followed: {why}")]
    Unreachable {
        /// Which one.
        upstream: Box<str>,
        /// What happened last.
        why: Box<str>,
    },
    /// It has no such file.
    #[error("{upstream} has no {path}")]
    NotFound {
        /// Which one.
        upstream: Box<str>,
        /// What was asked for.
        path: TreePath,
    },
    /// The file is longer than such a file may be.
    #[error("{path} of {upstream} is longer than {limit} bytes")]
    TooLarge {
        /// Which one.
        upstream: Box<str>,
        /// What was asked for.
        path: TreePath,
        /// How long it may be.
        limit: u64,
    },
    /// The list is not the one that the state names.
    #[error("the list of {upstream} is {is}; its state says {should}")]
    Digest {
        /// Which one.
        upstream: Box<str>,
        /// The digest that the state names.
        should: Digest,
        /// The digest of what came.
        is: Digest,
    },
    /// The program for it cannot be started.
    #[error("cannot run {}", .program.display())]
    Program {
        /// Which program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No client could be built.
    #[error("cannot prepare connections to {upstream}")]
    Client {
        /// To whom.
        upstream: Box<str>,
        /// What is in the way.
        source: reqwest::Error,
    },
    /// What comes cannot be written.
    #[error(transparent)]
    Disk(#[from] writer::Error),
    /// The run was ended from outside.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// Whether what it says is false, so that the tree here must not be touched.
    pub fn is_lie(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Digest { .. })
    }

    /// Whether the disk here is full, so that no other upstream would help.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_out_of_space())
    }
}
