//! One run of the program.
//!
//! It is started without a shell, with an environment in which nothing sends it elsewhere, at the head of a group
//! that is killed whatever happens to us; should we be killed ourselves, the next run does it ([`lifeline`]).
//!
//! [`lifeline`]: super::lifeline

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use oci_mirror::excerpt::Excerpt;
use oci_mirror::process_group::ProcessGroup;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::lifeline::Lifeline;
use super::output::{Line, Lines};
use super::pace::Pace;
use crate::sync::staging::Staging;
use crate::sync::upstream::Error;

/// How much of its complaints is kept.
const MAX_SAID: usize = 4 << 10;

/// How much address space it may take: some hundred bytes for each file that was asked for.
const MEMORY: u64 = 4 << 30;

/// How long one file may take, but for its length.
const START: Duration = Duration::from_secs(60);

/// With how many bytes per second the longest file that is allowed has to come.
const LEAST_PACE: u64 = 16 << 10;

/// How long the program may take to be gone once its output has ended, or once it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// What is allowed to a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long a file may become.
    pub(super) file: u64,
    /// How long it may take.
    pub(super) time: Option<Duration>,
    /// How much has to come.
    pub(super) pace: Option<Pace>,
}

impl Limits {
    /// For one file of so many bytes at most. Any byte is a sign of life for rsync, so its own timeout does not
    /// end a trickle.
    pub(super) fn one(file: u64) -> Self {
        let time = START.saturating_add(Duration::from_secs(file / LEAST_PACE));
        Self {
            file,
            time: Some(time),
            pace: None,
        }
    }
}

/// How a run has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All that was asked for is there.
    Well,
    /// Some of it is not there to be had.
    InPart,
    /// It broke off, and may go better later.
    Later(Box<str>),
    /// Next to nothing came. It may go better later too, but somebody may mean it.
    Slow(Box<str>),
    /// Our disk.
    Disk(Box<str>),
    /// It will not go better.
    Badly(Box<str>),
}

/// When a run is over.
#[derive(Debug)]
pub(super) enum Until {
    /// When rsync has ended.
    End,
    /// When this file has come and the receiver has ended. Then all that goes over the wire has gone, and rsync
    /// would sleep for 20 ms before it looks.
    There(PathBuf),
}

/// A run to be.
#[derive(Debug)]
pub(super) struct Run {
    command: Command,
    limits: Limits,
    until: Until,
}

impl Run {
    pub(super) fn new(limits: Limits, until: Until) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args([
            "--no-motd",
            "--no-human-readable",
            "--times",
            "--omit-dir-times",
            "--no-links",
            "--no-devices",
            "--no-specials",
            // Whatever they have there: we have to read it, and to get rid of it.
            "--chmod=D700,F600",
            "--timeout=60",
            "--contimeout=10",
            // rsync says much in few bytes, each of which would wait for the other side to acknowledge the last.
            "--sockopts=TCP_NODELAY",
        ]);
        // RSYNC_PROXY, RSYNC_CONNECT_PROG and their like are not for strangers.
        command.env_clear().env("LC_ALL", "C").env("HOME", "/");
        // Without one, rsync would ask at the terminal.
        command.env("RSYNC_PASSWORD", "");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self {
            command,
            limits,
            until,
        }
    }

    /// Hands on the password from our own environment.
    pub(super) fn with_password(&mut self) -> &mut Self {
        if let Some(password) = std::env::var_os("RSYNC_PASSWORD") {
            self.command.env("RSYNC_PASSWORD", password);
        }
        self
    }

    pub(super) fn options(&mut self, options: &[&str]) -> &mut Self {
        self.command.args(options);
        self
    }

    pub(super) fn option(&mut self, option: String) -> &mut Self {
        self.command.arg(option);
        self
    }

    /// From where to where; the last of the arguments.
    pub(super) fn between(&mut self, url: &str, place: &Path) -> &mut Self {
        self.command.arg("--").arg(url).arg(place.join(""));
        self
    }

    /// Runs it, and hands on what it says it has done.
    pub(super) async fn go(
        mut self,
        staging: &Staging,
        stop: &CancellationToken,
        each: impl FnMut(Line<'_>),
    ) -> Result<Ended, Error> {
        let lifeline = Lifeline::take(staging).await?;
        let coming = match self.until {
            Until::There(path) => Some(Coming::new(path)),
            Until::End => None,
        };
        self.command.stdin(lifeline.for_input()?);
        let mut group =
            ProcessGroup::start(&mut self.command).map_err(|source| Error::Program {
                program: PROGRAM.into(),
                source,
            })?;
        // It holds the file too.
        drop(self.command);
        group.limit_file_size(self.limits.file.saturating_add(1 << 20));
        group.limit_memory(MEMORY);
        let leader = group.leader().id();
        lifeline.name(leader)?;
        let mut said = Vec::new();
        let over = tokio::select! {
            heard = hear(&mut group, &mut said, each) => Over::Itself(heard),
            () = has_come(coming, leader) => {
                // What is left of it would do nothing more.
                let ended = timeout(GRACE, group.end()).await;
                return Ok(match ended {
                    Ok(Ok(_)) => Ended::Well,
                    Ok(Err(_)) | Err(_) => Ended::Later("rsync does not end".into()),
                });
            }
            () = passed(self.limits.time) => {
                // However it ends, it is over.
                let _ = timeout(GRACE, group.end()).await;
                return Ok(Ended::Later("rsync takes too long".into()));
            }
            why = is_lost(self.limits.pace, leader) => Over::Lost(why),
            () = stop.cancelled() => Over::Stopped,
        };
        match &over {
            Over::Itself(_) => {}
            // What it has of a file, it then keeps.
            Over::Lost(_) | Over::Stopped => group.ask_to_end(),
        }
        let gone = timeout(GRACE, group.leader().wait()).await;
        let status = timeout(GRACE, group.end()).await;
        match over {
            Over::Stopped => return Err(Error::Stopped),
            Over::Lost(why) => return Ok(Ended::Slow(why.into())),
            Over::Itself(Err(source)) => return Ok(Ended::Later(source.to_string().into())),
            Over::Itself(Ok(())) => {}
        }
        let (Ok(_), Ok(Ok(status))) = (gone, status) else {
            return Ok(Ended::Later("rsync does not end".into()));
        };
        let why = || {
            let said = String::from_utf8_lossy(&said);
            let first = said.lines().find(|line| !line.trim().is_empty());
            match first {
                Some(first) => format!("{} ({status})", Excerpt(first)).into(),
                None => status.to_string().into(),
            }
        };
        Ok(match status.code() {
            Some(0) => Ended::Well,
            // Partial transfer; vanished source files.
            Some(23 | 24) => Ended::InPart,
            // File I/O. It is also what a file too long ends with.
            Some(11) => Ended::Disk(why()),
            // Start of the protocol, socket, data stream, receiver, timeouts.
            Some(5 | 10 | 12 | 22 | 30 | 35) | None => Ended::Later(why()),
            Some(_) => Ended::Badly(why()),
        })
    }
}

const PROGRAM: &str = "rsync";

/// Why a run is not waited for any more.
enum Over {
    /// It says nothing more.
    Itself(io::Result<()>),
    /// Too little came, or it took too long.
    Lost(&'static str),
    /// We are to end.
    Stopped,
}

/// Waits until a run is to be ended for its pace, and says why; without a pace, that is never.
async fn is_lost(pace: Option<Pace>, leader: Option<u32>) -> &'static str {
    match pace {
        Some(pace) => pace.is_lost(leader).await,
        None => std::future::pending().await,
    }
}

/// Waits until a time has passed; without one, that is never.
async fn passed(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until a file has come and rsync has no children, of which the receiver is the only one: before it has ended
/// there is no such file, or another one. Where the system does not tell, that is never.
///
/// It does not tell how the receiver has ended, as rsync takes note of that at once. But it gives a file its name
/// only once all of it is there.
async fn has_come(file: Option<Coming>, leader: Option<u32>) {
    let (Some(file), Some(leader)) = (file, leader) else {
        return std::future::pending().await;
    };
    let children = format!("/proc/{leader}/task/{leader}/children");
    while let Ok(children) = fs::read_to_string(&children) {
        if children.is_empty() && file.is_there() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    std::future::pending::<()>().await;
}

/// A file that a run is to bring.
#[derive(Debug)]
struct Coming {
    path: PathBuf,
    /// The inode of what had its name before.
    before: Option<u64>,
}

impl Coming {
    fn new(path: PathBuf) -> Self {
        let before = inode(&path);
        Self { path, before }
    }

    fn is_there(&self) -> bool {
        let now = inode(&self.path);
        now.is_some() && now != self.before
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.ino())
}

/// Reads all there is to be read.
async fn hear(
    group: &mut ProcessGroup,
    said: &mut Vec<u8>,
    mut each: impl FnMut(Line<'_>),
) -> io::Result<()> {
    let (output, complaints) = (group.leader().stdout.take(), group.leader().stderr.take());
    let mut lines = Lines::default();
    let listen = chunks(output, |chunk| lines.push(chunk, &mut each));
    let note = chunks(complaints, |chunk| {
        let room = MAX_SAID.saturating_sub(said.len()).min(chunk.len());
        said.extend_from_slice(&chunk[..room]);
    });
    tokio::try_join!(listen, note)?;
    Ok(())
}

/// Reads to the end, a chunk at a time.
async fn chunks(
    source: Option<impl AsyncRead + Unpin>,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let Some(mut source) = source else {
        return Ok(());
    };
    let mut buffer = vec![0; 16 << 10];
    loop {
        match source.read(&mut buffer).await? {
            0 => return Ok(()),
            length => each(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lay_there_before_has_not_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let nothing = Coming::new(path.clone());
        assert!(!nothing.is_there());
        fs::write(&path, "old").unwrap();
        assert!(nothing.is_there());
        let basis = Coming::new(path.clone());
        assert!(!basis.is_there());
        let next = dir.path().join("next");
        fs::write(&next, "new").unwrap();
        fs::rename(&next, &path).unwrap();
        assert!(basis.is_there());
    }
}
