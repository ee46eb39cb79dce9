//! Listings: what a mirror holds, as its rsync daemon says.
//!
//! One listing says of a million blobs what would take a million requests. It is hearsay: of the daemon,
//! whose module need not be what the web server shows, and of names and sizes only. So it never verifies
//! a blob, and whether its module and the web server show the same is for the caller to ask about some of
//! them. A listing that is not whole tells nothing at all, whatever of it has come.
//!
//! `target` says whom rsync calls, `run` runs it, [`lines`] and [`mod@line`] read what it prints.

pub mod line;
pub mod lines;
mod run;
mod target;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use oci_mirror::tree::Catalog;
use roaring::RoaringBitmap;
use tokio::time::{Instant, timeout_at};

use self::line::Line;
use self::lines::{Limits, NotWhole};
use self::run::Bounds;
use self::target::Target;
use super::guard::Policy;
use crate::network::BaseUrl;

/// What a mirror's daemon lists, of what a catalog has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listing {
    /// The numbers of blobs listed with the right length.
    pub right: RoaringBitmap,
    /// Of those with another, or of which it cannot be told: the mirror itself is to be asked.
    pub other: RoaringBitmap,
}

impl Listing {
    /// Takes a line; whether blobs may be where rsync does not look.
    fn add(&mut self, line: Line, catalog: &Catalog) -> bool {
        let (digest, size) = match line {
            Line::File(digest, size) => (digest, Some(size)),
            Line::NoFile(digest) => (digest, None),
            Line::LinkedDirectory => return true,
            Line::Other => return false,
        };
        if let Some(id) = catalog.id(&digest) {
            if size != Some(catalog.blob(id).size) {
                self.other.insert(id.0);
                self.right.remove(id.0);
            } else if !self.other.contains(id.0) {
                self.right.insert(id.0);
            }
        }
        false
    }
}

/// Asks a mirror's daemon what it holds of a catalog; an error means that nothing is told.
pub async fn list(
    program: &Path,
    url: &BaseUrl,
    policy: Policy,
    catalog: &Catalog,
    deadline: Instant,
) -> Result<Listing, Error> {
    let target = Target::of(url)?;
    let addresses = timeout_at(deadline, target.addresses(policy)).await;
    let mut result = Err(Error::TimeOver);
    for address in addresses.map_err(|_| Error::TimeOver)?? {
        result = list_at(program, &target, address, catalog, deadline).await;
        if !result.as_ref().is_err_and(Error::is_unreachable) {
            break;
        }
    }
    result
}

async fn list_at(
    program: &Path,
    target: &Target,
    address: SocketAddr,
    catalog: &Catalog,
    deadline: Instant,
) -> Result<Listing, Error> {
    let blobs = catalog.blobs().in_use() as u64;
    let lines = 4 * blobs + SPARE_LINES;
    let bounds = Bounds {
        output: Limits {
            lines,
            bytes: lines * BYTES_OF_A_LINE,
        },
        memory: MEMORY + blobs * MEMORY_OF_A_FILE,
        deadline,
    };
    let (mut listing, mut linked) = (Listing::default(), false);
    let command = run::command(program, &target.at(address));
    run::run(command, bounds, |text| {
        linked |= listing.add(line::parse(text), catalog);
    })
    .await?;
    if linked {
        return Err(Error::Linked);
    }
    Ok(listing)
}

/// Lines beyond four for each blob: a mirror may be of a tree that was larger.
const SPARE_LINES: u64 = 100_000;

/// More than the line of any blob has.
const BYTES_OF_A_LINE: u64 = 256;

/// The address space of rsync, less than a daemon with endless directories could make it use.
const MEMORY: u64 = 512 << 20;

/// What rsync may keep in mind for each file.
const MEMORY_OF_A_FILE: u64 = 1 << 10;

/// Why a listing tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no rsync URL, or the daemon would not read the path as it stands.
    #[error("{0} cannot be given to rsync")]
    Url(BaseUrl),
    /// The name has no address.
    #[error("cannot find the address of {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// The crawler does not connect to any of its addresses.
    #[error("{host} has no address on the public internet")]
    NotPublic {
        /// The name.
        host: String,
    },
    /// The program is not there.
    #[error("cannot run {}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program was lost.
    #[error("cannot read what rsync prints")]
    Read(#[source] io::Error),
    /// The program says that it has failed, be it in parts.
    #[error("rsync failed ({status}): {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The first it has said of it.
        said: Box<str>,
    },
    /// There is too much of it, or too little.
    #[error("no listing of a tree: {0}")]
    NotWhole(#[from] NotWhole),
    /// Directories of blobs are links, behind which rsync does not look.
    #[error("directories of blobs are links, which rsync does not list")]
    Linked,
    /// Something else holds the output of rsync open.
    #[error("rsync has ended, and its output has not")]
    HeldOpen,
    /// It took too long.
    #[error("the time was over")]
    TimeOver,
}

impl Error {
    /// Whether another address of the same host may do better.
    fn is_unreachable(&self) -> bool {
        // rsync: error in socket I/O, timeout waiting for a connection.
        matches!(self, Self::Failed { status, .. } if matches!(status.code(), Some(10 | 35)))
    }
}

#[cfg(test)]
mod tests;
