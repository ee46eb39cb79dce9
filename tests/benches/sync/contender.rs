//! Those who follow a tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use support::process::program;

use super::relay::Relay;

/// How a tree is followed.
pub(crate) enum Way<'a> {
    Rsync(&'a Relay),
    OurRsync(&'a Relay, PathBuf),
    OurHttp(&'a Relay, PathBuf),
}

/// What following a tree took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    /// Bytes over the wire, to the upstream and from it.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Cost {
    /// The better of two, figure by figure.
    pub(crate) fn or_better(self, other: Self) -> Self {
        Self {
            time: self.time.min(other.time),
            sent: self.sent.min(other.sent),
            received: self.received.min(other.received),
        }
    }
}

impl Way<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rsync(_) => "rsync",
            Self::OurRsync(..) => "sync over rsync",
            Self::OurHttp(..) => "sync over http",
        }
    }

    /// Makes `tree` the same as the source.
    pub(crate) fn follow(&self, tree: &Path) -> Result<Cost> {
        match self {
            Self::Rsync(relay) => {
                let mut command = program("rsync")?;
                command.args(["-aH", "--delete-delay", "--exclude=.~tmp~", "--"]);
                command.arg(url(relay)).arg(tree.join(""));
                measure(relay, &mut command)
            }
            Self::OurRsync(relay, program) => measure(relay, ours(program, tree).arg(url(relay))),
            Self::OurHttp(relay, program) => {
                let url = format!("http://{}", relay.address);
                measure(relay, ours(program, tree).arg(url))
            }
        }
    }
}

/// What rsync takes for somebody who knows all that is new.
pub(crate) fn by_name(relay: &Relay, names: &[String], list: &Path, tree: &Path) -> Result<Cost> {
    fs::write(list, names.join("\n"))?;
    let mut command = program("rsync")?;
    command.arg("-aH").arg("--files-from").arg(list).arg("--");
    command.arg(url(relay)).arg(tree.join(""));
    measure(relay, &mut command)
}

fn url(relay: &Relay) -> String {
    format!("rsync://{}/tree/", relay.address)
}

fn ours(program: &Path, tree: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("sync").arg("--tree").arg(tree).arg("--from");
    command
}

fn measure(relay: &Relay, command: &mut Command) -> Result<Cost> {
    relay.take();
    command.stdin(Stdio::null());
    let began = Instant::now();
    // Waits for the end itself; what runs programs for tests looks for it every ten milliseconds.
    let output = command.output()?;
    let time = began.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    let (sent, received) = relay.take();
    Ok(Cost {
        time,
        sent,
        received,
    })
}
