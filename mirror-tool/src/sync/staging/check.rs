//! Whether a file is what it should be.

use std::io;

use oci_mirror::digest::Digest;

/// Why a fetched file is not what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// It is a link, a device, or has further names.
    #[error("it is no file of its own")]
    NotAFile,
    /// It has another length than the list says.
    #[error("it has {is} bytes, and the list says {should}")]
    Size {
        /// The length by the list.
        should: u64,
        /// Its length.
        is: u64,
    },
    /// Its content is another.
    #[error("its content is {is}, not {should}")]
    Digest {
        /// The digest it should have.
        should: Digest,
        /// The digest it has.
        is: Digest,
    },
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}
