//! The file by which the rsync of a run that was killed is ended.
//!
//! A group of ours is killed whatever happens to us, but for one case: nobody is told of our own SIGKILL. So its
//! standard input is a file that we have locked. As long as any of the group lives it is locked, and who comes next
//! kills whoever has it for its standard input, and the group that is named in it if they are of it, before anything of
//! staging is looked at. The name is known only once the group runs, and a script in the place of rsync may leave it.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use oci_mirror::tree::writer;
use rustix::fs::FlockOperation;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpgid, kill_process_group, pidfd_open, pidfd_send_signal,
};
use tokio::time::sleep;

use crate::sync::staging::{Staging, failed};

/// What the file is called.
const NAME: &str = "rsync.lock";

/// The file that tells whether a run is over, ours or that of somebody who was killed.
#[derive(Debug)]
pub(super) struct Lifeline {
    path: PathBuf,
    file: File,
}

/// Ends the rsync of an earlier run, if there is one.
pub(in crate::sync::upstream) async fn end_what_is_left(
    staging: &Staging,
) -> Result<(), writer::Error> {
    if Lifeline::path(staging).exists() {
        Lifeline::take(staging).await?;
    }
    Ok(())
}

impl Lifeline {
    fn path(staging: &Staging) -> PathBuf {
        staging.directory().join(NAME)
    }

    /// Takes it, from whoever has it.
    pub(super) async fn take(staging: &Staging) -> Result<Self, writer::Error> {
        let path = Self::path(staging);
        let unusable = |source| failed(&path, source);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        for _ in 0..500 {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    file.set_len(0).map_err(unusable)?;
                    return Ok(Self { path, file });
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(unusable(errno.into())),
            }
            let named = fs::read_to_string(&path).map_err(unusable)?;
            let named = named.trim().parse().ok().and_then(Pid::from_raw);
            end_holders(&file, named).map_err(unusable)?;
            sleep(Duration::from_millis(10)).await;
        }
        let busy = io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the rsync of an earlier run does not end",
        );
        Err(unusable(busy))
    }

    /// The same file, for who is to hold it.
    pub(super) fn for_input(&self) -> Result<File, writer::Error> {
        let input = self.file.try_clone();
        input.map_err(|source| failed(&self.path, source))
    }

    /// Writes down whose it is.
    pub(super) fn name(&self, leader: Option<u32>) -> Result<(), writer::Error> {
        let name = leader.map_or_else(String::new, |id| format!("{id}\n"));
        self.file
            .write_all_at(name.as_bytes(), 0)
            .map_err(|source| failed(&self.path, source))
    }
}

/// Ends all whose standard input is this file, and the group that is named in it.
///
/// Whoever holds the file is mostly of that group. Where somebody else does, the group may be gone and its id that of
/// others by now. Where nobody is found, as the system does not tell, the group is all there is to go by.
fn end_holders(file: &File, named: Option<Pid>) -> io::Result<()> {
    let holders = holders(file)?;
    let is_of_group = |(id, _): &(Pid, OwnedFd)| getpgid(Some(*id)).ok() == named;
    if let Some(group) = named
        && (holders.is_empty() || holders.iter().any(is_of_group))
    {
        tracing::info!("ending the rsync that an earlier run has left behind");
        let _ = kill_process_group(group, Signal::KILL);
    }
    for (id, holder) in &holders {
        tracing::info!(%id, "ending what an earlier run has left behind");
        let _ = pidfd_send_signal(holder, Signal::KILL);
    }
    Ok(())
}

/// All whose standard input is this file, as far as the system tells.
fn holders(file: &File) -> io::Result<Vec<(Pid, OwnedFd)>> {
    let held = file.metadata()?;
    let mut holders = Vec::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Ok(holders);
    };
    for process in processes.flatten() {
        let name = process.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        let Some(id) = id.and_then(Pid::from_raw) else {
            continue;
        };
        // Held before it is looked at, so that it is not somebody else by then who has got its id.
        let Ok(holder) = pidfd_open(id, PidfdFlags::empty()) else {
            continue;
        };
        let input = process.path().join("fd/0");
        // Files of others may be on a network that does not answer, so only what has the name is asked for.
        if !fs::read_link(&input).is_ok_and(|target| target.ends_with(NAME)) {
            continue;
        }
        let input = fs::metadata(input);
        if input.is_ok_and(|input| (input.dev(), input.ino()) == (held.dev(), held.ino())) {
            holders.push((id, holder));
        }
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command};

    use oci_mirror::tree::TreeWriter;
    use tempfile::TempDir;

    use super::*;

    fn sleeper() -> Command {
        let mut sleeper = Command::new("sleep");
        sleeper.arg("600").process_group(0);
        sleeper
    }

    /// Whoever is left of a run.
    fn holder(lifeline: &Lifeline) -> Child {
        let input = lifeline.for_input().unwrap();
        sleeper().stdin(input).spawn().unwrap()
    }

    fn place() -> (TempDir, Staging) {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        (dir, staging)
    }

    #[tokio::test]
    async fn what_was_left_before_it_was_named_is_ended() {
        let (_dir, staging) = place();
        let lifeline = Lifeline::take(&staging).await.unwrap();
        let mut left = holder(&lifeline);
        drop(lifeline);
        let taken = Lifeline::take(&staging).await;
        left.kill().unwrap();
        assert!(taken.is_ok(), "{taken:?}");
        assert_eq!(left.wait().unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn what_has_left_its_group_is_ended_and_nobody_who_has_got_its_id() {
        let (_dir, staging) = place();
        let lifeline = Lifeline::take(&staging).await.unwrap();
        let mut left = holder(&lifeline);
        let mut other = sleeper().spawn().unwrap();
        lifeline.name(Some(other.id())).unwrap();
        drop(lifeline);
        let taken = Lifeline::take(&staging).await;
        left.kill().unwrap();
        let is_there = other.try_wait().unwrap().is_none();
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(taken.is_ok(), "{taken:?}");
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(is_there, "it had nothing to do with it");
    }
}
