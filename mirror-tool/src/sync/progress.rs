//! What is shown of a run while it lasts.

/// What is shown of a run while it lasts: bars on a terminal, nothing otherwise.
#[derive(Debug, Clone, Default)]
pub struct Progress {}

impl Progress {
    /// So many files and bytes are going to be fetched.
    pub fn expect(&self, files: u64, bytes: u64) {
        let _ = (self, files, bytes);
    }

    /// Some of them have come, or were there already.
    pub fn came(&self, files: u64, bytes: u64) {
        let _ = (self, files, bytes);
    }
}
