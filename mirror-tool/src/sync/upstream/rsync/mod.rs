//! A tree over rsync: the state by one run of the program, the list by another, and all files by a third.
//!
//! rsync speaks with a stranger, so it never writes into the tree. It gets the names of what is asked for and a
//! directory of ours; links, devices and directories are not among what it takes, and what it leaves there is
//! read and compared before it is used. Hard links need not be asked for: the list says which there are.

mod fetch;
mod lifeline;
mod output;
mod pace;
mod run;

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use oci_mirror::tree::state::{self, ListRef};
use oci_mirror::tree::{TreePath, writer};
use rustix::fs::OFlags;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(super) use self::lifeline::end_what_is_left;
use self::output::Line;
use self::pace::Pace;
use self::run::{Ended, Limits, Run, Until};
use super::patience::Patience;
use super::{Error, Fetched, blocking, max_list};
use crate::sync::progress::Progress;
use crate::sync::staging::{Staging, discard, failed};
use crate::sync::{Options, Wanted};

/// A tree over rsync.
#[derive(Debug)]
pub(super) struct Rsync {
    upstream: Box<str>,
    /// Ends with a slash.
    url: String,
    /// Whether it says who we are; only then does it get our password.
    has_user: bool,
    /// KiB per second.
    bandwidth: Option<u64>,
    /// What is asked of it while many files come.
    pace: Pace,
    retries: u8,
    max_entries: u64,
}

impl Rsync {
    pub(super) fn new(url: &Url, name: &str, options: &Options) -> Self {
        let bandwidth = options.bandwidth.map(|bytes| bytes.div_ceil(1 << 10));
        Self {
            upstream: name.into(),
            url: format!("{}/", url.as_str().trim_end_matches('/')),
            has_user: !url.username().is_empty(),
            bandwidth,
            pace: Pace::of(bandwidth),
            retries: options.retries,
            max_entries: options.max_entries,
        }
    }

    /// The bytes of its `state.json`.
    pub(super) async fn state(&self, staging: &Staging) -> Result<Bytes, Error> {
        let path = TreePath::State;
        let place = asked(staging)?;
        // A state of the same length in the same second would be taken for the old one.
        let options = ["--ignore-times", "--whole-file"];
        let patience = Patience::new(self.retries);
        self.one(&path, &options, &place, state::MAX_BYTES, staging, patience)
            .await?;
        let target = path.under(&place);
        let bytes = read(&target, state::MAX_BYTES)
            .map_err(|source| self.unread(&path, &target, source))?;
        Ok(bytes.into())
    }

    /// Brings a list into staging, and compares it.
    pub(super) async fn list(
        &self,
        list: &ListRef,
        basis: Option<&Path>,
        staging: &Staging,
    ) -> Result<(), Error> {
        let path = TreePath::List(list.module.clone());
        let limit = max_list(self.max_entries);
        let mut basis = basis.filter(|basis| basis.exists());
        loop {
            let place = asked(staging)?;
            let target = path.under(&place);
            let way = match basis {
                // A copy: what rsync compares with is replaced by what it makes of it.
                Some(basis) => {
                    fs::copy(basis, &target).map_err(|source| failed(&target, source))?;
                    "--no-whole-file"
                }
                None => "--whole-file",
            };
            // Half of a list is hexadecimal digits, and each digest is in there once for each link. But there are
            // daemons that refuse it, and say so by hanging up.
            let options = ["--ignore-times", way, "--compress"];
            let once = Patience::new(0);
            match self
                .one(&path, &options, &place, limit, staging, once)
                .await
            {
                Err(error @ Error::Unreachable { .. }) => {
                    tracing::debug!(upstream = %self.upstream, %error, "asking without compression");
                    let (options, patience) = (&options[..2], Patience::new(self.retries));
                    self.one(&path, options, &place, limit, staging, patience)
                        .await?;
                }
                result => result?,
            }
            let (from, digest) = (target.clone(), list.digest);
            let is = blocking(move || digest.algorithm().digest_of(open(&from)?))
                .await
                .map_err(|source| self.unread(&path, &target, source))?;
            if is == list.digest {
                let to = staging.list();
                return Ok(fs::rename(&target, &to).map_err(|source| failed(&to, source))?);
            }
            if basis.take().is_none() {
                return Err(Error::Digest {
                    upstream: self.upstream.clone(),
                    should: list.digest,
                    is,
                });
            }
            tracing::debug!(upstream = %self.upstream, "the list is wrong; all of it is fetched");
        }
    }

    /// Brings files into staging.
    pub(super) async fn fetch(
        &self,
        wanted: Vec<Wanted>,
        staging: &Staging,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Fetched, Error> {
        fetch::run(self, wanted, staging, progress, stop).await
    }

    /// One file into a directory. That it is there afterwards is not said.
    async fn one(
        &self,
        path: &TreePath,
        options: &[&str],
        place: &Path,
        limit: u64,
        staging: &Staging,
        mut patience: Patience,
    ) -> Result<(), Error> {
        loop {
            let target = path.under(place);
            let mut run = self.run(Limits::one(limit), Until::There(target));
            run.options(options)
                .option("--info=skip1".to_owned())
                .option(format!("--max-size={limit}"))
                .between(&format!("{}{path}", self.url), place);
            let mut is_too_long = false;
            let each = |line: Line<'_>| is_too_long |= line == Line::TooLong;
            let ended = run.go(staging, &CancellationToken::new(), each).await?;
            if is_too_long {
                return Err(Error::TooLarge {
                    upstream: self.upstream.clone(),
                    path: path.clone(),
                    limit,
                });
            }
            match ended {
                Ended::Well | Ended::InPart => return Ok(()),
                Ended::Later(_) | Ended::Slow(_) if patience.wait(None).await => {}
                Ended::Later(why) | Ended::Slow(why) | Ended::Badly(why) => {
                    return Err(self.unreachable(why));
                }
                Ended::Disk(why) => return Err(disk(staging, why)),
            }
        }
    }

    fn run(&self, limits: Limits, until: Until) -> Run {
        let mut run = Run::new(limits, until);
        if self.has_user {
            run.with_password();
        }
        run
    }

    fn unreachable(&self, why: Box<str>) -> Error {
        Error::Unreachable {
            upstream: self.upstream.clone(),
            why,
        }
    }

    /// Why what was asked for cannot be read.
    fn unread(&self, path: &TreePath, target: &Path, source: io::Error) -> Error {
        if source.kind() == io::ErrorKind::NotFound {
            return Error::NotFound {
                upstream: self.upstream.clone(),
                path: path.clone(),
            };
        }
        failed(target, source).into()
    }
}

/// What rsync says about our own disk.
fn disk(staging: &Staging, why: Box<str>) -> Error {
    // It does not say what the system said, so the disk is asked.
    let full = staging.make_sure_of_room(1 << 20);
    let other = || failed(staging.root(), io::Error::other(String::from(why)));
    Error::Disk(full.err().unwrap_or_else(other))
}

/// An empty directory for what is asked for by name.
fn asked(staging: &Staging) -> Result<PathBuf, writer::Error> {
    let place = staging.directory().join("asked");
    discard(&place).map_err(|source| failed(&place, source))?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&place)
        .map_err(|source| failed(&place, source))?;
    Ok(place)
}

/// Opens a regular file that rsync has left.
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
