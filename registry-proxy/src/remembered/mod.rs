//! What a front end remembers of requests, in fixed memory, from one snapshot to the next.
//!
//! Blobs are remembered by the numbers of a catalog: a snapshot hands this on only to one whose catalog goes on
//! from its own.

pub mod popular;
pub mod suspects;

pub use popular::Popular;
pub use suspects::Suspects;

/// What is remembered.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Blobs that may be wrong at a mirror.
    pub suspects: Suspects,
    /// Blobs that are often asked for.
    pub popular: Popular,
}
