//! Runs rsync, and hands on the lines it prints as they come.
//!
//! It speaks with a stranger and is a stranger's program itself: it gets an environment in which nothing sends it
//! elsewhere, a bounded address space and a bounded time, and whatever it started is killed in the end.
//! Only if it says that all went well, and nobody holds its output open, have we heard everything.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use oci_mirror::excerpt::Excerpt;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::{Instant, timeout, timeout_at};

use super::Error;
use super::lines::{Limits, Lines, NotWhole};
use oci_mirror::process_group::ProcessGroup;

/// How long output may stay open once the program has ended, and how long the program may take to be gone once
/// it was killed.
const GRACE: Duration = Duration::from_secs(2);

/// How much of its complaints is kept.
const MAX_SAID: usize = 4 << 10;

/// How much it may complain: of some thousand files that it cannot read.
const MAX_COMPLAINTS: usize = 4 << 20;

/// How much it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How much it may print.
    pub(super) output: Limits,
    /// Its address space in bytes.
    pub(super) memory: u64,
    /// When it has to be done.
    pub(super) deadline: Instant,
}

/// The program with its arguments; `url` has the address to ask.
pub(super) fn command(program: &Path, url: &str) -> Command {
    let mut command = Command::new(program);
    command.args([
        "--recursive",
        "--list-only",
        "--no-motd",
        // Without it, sizes have commas.
        "--no-human-readable",
        "--timeout=60",
        "--contimeout=10",
        "--",
        url,
    ]);
    // RSYNC_PROXY, RSYNC_CONNECT_PROG and their like are not for strangers.
    command.env_clear().env("LC_ALL", "C").env("HOME", "/");
    // A daemon that wants a password gets a wrong one; without it, rsync would ask at the terminal.
    command.env("RSYNC_PASSWORD", "");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a program and hands on its lines; an error means that what was handed on is not to be believed.
pub(super) async fn run(
    mut command: Command,
    bounds: Bounds,
    each: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let mut group = ProcessGroup::start(&mut command).map_err(|source| Error::Start {
        program: command.as_std().get_program().into(),
        source,
    })?;
    group.limit_memory(bounds.memory);
    let mut said = Vec::new();
    let heard = timeout_at(bounds.deadline, hear(&mut group, bounds, &mut said, each)).await;
    // Before anything else is looked at: nobody is left behind.
    let status = timeout(GRACE, group.end()).await;
    let lines = heard.map_err(|_| Error::TimeOver)??;
    let status = status.map_err(|_| Error::TimeOver)?.map_err(Error::Read)?;
    if status.success() {
        return Ok(lines.finish()?);
    }
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().find(|line| !line.trim().is_empty());
    Err(Error::Failed {
        status,
        said: Excerpt(first.unwrap_or_default()).into(),
    })
}

/// Reads all there is to be read, until the program has ended.
async fn hear(
    group: &mut ProcessGroup,
    bounds: Bounds,
    said: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]),
) -> Result<Lines, Error> {
    let (output, complaints) = (group.leader().stdout.take(), group.leader().stderr.take());
    let listen = async {
        let mut lines = Lines::new(bounds.output);
        chunks(output, |chunk| lines.push(chunk, &mut each)).await?;
        Ok(lines)
    };
    let mut complained = 0;
    let note = chunks(complaints, |chunk| {
        complained += chunk.len();
        let room = MAX_SAID.saturating_sub(said.len()).min(chunk.len());
        said.extend_from_slice(&chunk[..room]);
        if complained > MAX_COMPLAINTS {
            return Err(NotWhole::Bytes);
        }
        Ok(())
    });
    let held_open = async {
        group.ended().await;
        tokio::time::sleep(GRACE).await;
    };
    let (lines, ()) = tokio::select! {
        result = async { tokio::try_join!(listen, note) } => result?,
        () = held_open => return Err(Error::HeldOpen),
    };
    group.ended().await;
    Ok(lines)
}

/// Reads to the end, a chunk at a time.
async fn chunks(
    source: Option<impl AsyncRead + Unpin>,
    mut each: impl FnMut(&[u8]) -> Result<(), NotWhole>,
) -> Result<(), Error> {
    let Some(mut source) = source else {
        return Ok(());
    };
    let mut buffer = vec![0; 16 << 10];
    loop {
        match source.read(&mut buffer).await.map_err(Error::Read)? {
            0 => return Ok(()),
            length => each(&buffer[..length])?,
        }
    }
}
