//! The file by which the rsync of a run that was killed is ended.
//!
//! A group of ours is killed whatever happens to us, but for one case: nobody is told of our own SIGKILL. So its
//! standard input is a file that we have locked. As long as any of the group lives it is locked, and who comes next
//! kills the group that is named in it before anything of staging is looked at. Its name is known only once it runs. If
//! we are killed in between, whoever has the file for its standard input is killed, one by one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use oci_mirror::tree::writer;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::time::sleep;

use crate::sync::staging::{Staging, failed};

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
        staging.directory().join("rsync.lock")
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
            // Somebody of the group that is named there lives, so nobody else has its id.
            let named = fs::read_to_string(&path).map_err(unusable)?;
            if let Some(group) = named.trim().parse().ok().and_then(Pid::from_raw) {
                tracing::info!("ending the rsync that an earlier run has left behind");
                let _ = kill_process_group(group, Signal::KILL);
            } else {
                kill_holders(&file).map_err(unusable)?;
            }
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

/// Ends all whose standard input is this file. Where the system does not tell, that is nobody.
fn kill_holders(file: &File) -> io::Result<()> {
    let held = file.metadata()?;
    let Ok(processes) = fs::read_dir("/proc") else {
        return Ok(());
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
        let input = fs::metadata(process.path().join("fd/0"));
        if input.is_ok_and(|input| (input.dev(), input.ino()) == (held.dev(), held.ino())) {
            tracing::info!("ending what an earlier run has left behind");
            let _ = pidfd_send_signal(&holder, Signal::KILL);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use oci_mirror::tree::TreeWriter;

    use super::*;

    #[tokio::test]
    async fn what_was_left_before_it_was_named_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        let lifeline = Lifeline::take(&staging).await.unwrap();
        let mut left = Command::new("sleep")
            .arg("600")
            .stdin(lifeline.for_input().unwrap())
            .spawn()
            .unwrap();
        drop(lifeline);
        let taken = Lifeline::take(&staging).await;
        left.kill().unwrap();
        assert!(taken.is_ok(), "{taken:?}");
        assert_eq!(left.wait().unwrap().signal(), Some(9));
    }
}
