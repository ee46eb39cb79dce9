//! Which repositories a mirror carries.

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::reference::RepoName;
use oci_mirror::repo_glob::RepoGlob;
use serde::Serialize;

/// Which repositories a mirror carries: those of `only`, or all if it is empty, less those of `except`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// One of these must match; none: all do.
    pub only: Vec<RepoGlob>,
    /// None of these may match.
    pub except: Vec<RepoGlob>,
}

impl Filter {
    /// Whether a repository is carried.
    pub fn carries(&self, repo: &RepoName) -> bool {
        let matches = |globs: &[RepoGlob]| globs.iter().any(|glob| glob.matches(repo));
        (self.only.is_empty() || matches(&self.only)) && !matches(&self.except)
    }

    /// Whether every repository is carried, whatever it is called.
    pub fn is_all(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }

    /// Tells one filter from another.
    pub fn fingerprint(&self) -> Digest {
        let mut text = String::new();
        for (sign, globs) in [('+', &self.only), ('-', &self.except)] {
            for glob in globs {
                text.push(sign);
                text.push_str(glob.as_str());
                text.push('\n');
            }
        }
        Algorithm::Sha256.digest(text.as_bytes())
    }
}
