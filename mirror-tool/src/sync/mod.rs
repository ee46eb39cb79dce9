//! Following another tree: what a mirror does every few minutes.
//!
//! The other tree says in `state.json` how new it is, and in its file list what it consists of. What is
//! lacking is brought into a directory of its own and verified there ([`staging`]), by rsync or over HTTP
//! ([`upstream`]); only when all of it is there and right does any of it get a name in the tree, leaves
//! before roots ([`oci_mirror::tree::writer::replica`]). Nothing is trusted but the digest of the list that
//! the state names: from it follows everything else ([`plan`]).

pub mod gone;
pub mod memory;
pub mod plan;
pub mod progress;
pub mod report;
pub mod run;
pub mod staging;
pub mod upstream;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::registry::authorities::Authorities;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::list::Sum;
use tokio_util::sync::CancellationToken;

pub use plan::Filter;
pub use report::Report;
pub use run::run;
pub use upstream::Source;

/// Whom to follow, and how.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an answer to a question of its own"
)]
pub struct Options {
    /// Where from, tried in this order.
    pub from: Vec<Source>,
    /// The tree that follows.
    pub tree: PathBuf,
    /// Which repositories.
    pub filter: Filter,
    /// For how long what is gone over there is kept here.
    pub grace: Duration,
    /// Most bytes per second; `None` for as fast as it goes.
    pub bandwidth: Option<u64>,
    /// Connections at a time, over HTTP.
    pub jobs: NonZeroUsize,
    /// How often a transfer that failed is tried again.
    pub retries: u8,
    /// Whether a tree that has lost more than half of what it had is followed.
    pub accept_shrink: bool,
    /// Whether a tree older than the one followed last is followed.
    pub accept_older: bool,
    /// Whether every file here is looked at, instead of what the last run left is relied on.
    pub check: bool,
    /// Most entries a list may have.
    pub max_entries: u64,
    /// Where the files for direct pulls are kept up to date; `None` for nowhere.
    pub static_v2: Option<PathBuf>,
    /// Whom to tell afterwards.
    pub report: Option<crate::report::To>,
    /// Certificate authorities trusted beside those of the system.
    pub tls_ca: Option<Authorities>,
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
    /// The time to go by; `None` for the time it is.
    pub now: Option<Timestamp>,
    /// Ends the run when cancelled.
    pub shutdown: CancellationToken,
}

/// One file to be fetched, and how it is known to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is over there, and will be here.
    pub path: TreePath,
    /// Its length by the list; at any other it is wrong.
    pub size: u64,
    /// What it must be.
    pub proof: Proof,
    /// Its time by the list, in seconds since 1970.
    pub time: i64,
}

#[cfg(test)]
impl Wanted {
    /// A blob of this content, for tests.
    fn blob(bytes: &[u8]) -> Self {
        Self {
            path: TreePath::Blob(oci_mirror::digest::Algorithm::Sha256.digest(bytes)),
            size: bytes.len() as u64,
            proof: Proof::Name,
            time: 7,
        }
    }
}

/// By what a fetched file is known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By the digest in its path.
    Name,
    /// By a sum of the list.
    Sum(Sum),
}
