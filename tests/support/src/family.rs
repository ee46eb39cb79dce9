//! A process and all its descendants, however they detached themselves.
//!
//! Container engines start daemons of daemons, in sessions of their own, so neither a child handle
//! nor a process group reaches them all. A mark in the environment does: descendants inherit it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A child and all that descends from it.
#[derive(Debug)]
pub(crate) struct Family {
    leader: Child,
    mark: String,
}

impl Family {
    /// Starts the leader; `name` is for the error.
    pub(crate) fn start(command: &mut Command, name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}.{number}", std::process::id());
        // A group of its own, since Apache signals its whole group when it stops.
        let leader = command
            .env(MARK, &mark)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { leader, mark })
    }

    /// The id of the process that was started.
    pub(crate) fn id(&self) -> u32 {
        self.leader.id()
    }

    /// How the leader ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.leader.try_wait().context("cannot wait for a child")
    }

    /// Waits for the leader to end, but not beyond a limit.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }

    /// Asks the leader to end, waits for a grace period, and kills whoever is left.
    pub(crate) fn stop(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            signal(self.leader.id(), Signal::TERM);
            // An error here means there is no child left to wait for.
            let _ = self.wait(GRACE);
        }
        self.kill();
    }

    /// Kills until nobody is left, since a process may fork while it is being looked for.
    pub(crate) fn kill(&mut self) {
        for _ in 0..100 {
            end_child(&mut self.leader);
            let members = members(&self.mark);
            if members.is_empty() {
                return;
            }
            for id in members {
                signal(id, Signal::KILL);
            }
            thread::sleep(POLL);
        }
    }
}

/// The living processes that carry the mark, and their descendants.
///
/// The processes inside a container are known by descent only: their environment is their own.
fn members(mark: &str) -> Vec<u32> {
    let mark = format!("{MARK}={mark}");
    let processes = living();
    let mut members: Vec<u32> = processes
        .iter()
        .filter(|process| carries(process.id, &mark))
        .map(|process| process.id)
        .collect();
    let mut next = 0;
    while let Some(&parent) = members.get(next) {
        for child in processes.iter().filter(|process| process.parent == parent) {
            if !members.contains(&child.id) {
                members.push(child.id);
            }
        }
        next += 1;
    }
    members
}

/// A process that has not ended.
#[derive(Debug)]
pub(crate) struct Living {
    /// The id.
    pub(crate) id: u32,
    parent: u32,
}

/// Every process of the machine but those that have ended.
pub(crate) fn living() -> Vec<Living> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            // `id (name) state parent …`, where the name may hold spaces and parentheses.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            (!matches!(state, "Z" | "X")).then_some(Living { id, parent })
        })
        .collect()
}

fn carries(id: u32, mark: &str) -> bool {
    fs::read(format!("/proc/{id}/environ")).is_ok_and(|environ| {
        environ
            .split(|&byte| byte == 0)
            .any(|entry| entry == mark.as_bytes())
    })
}

/// Kills and reaps a child; one that is already reaped is left alone.
pub(crate) fn end_child(child: &mut Child) {
    // The only failures are that it has ended, which is what was wanted.
    let _ = child.kill();
    // `wait` would close the watchdog's pipe first, but by then it is dead.
    let _ = child.wait();
}

fn signal(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // It may have ended since it was seen.
        let _ = kill_process(pid, signal);
    }
}

/// How long a server may take to end when asked.
const GRACE: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(10);

/// The environment variable that marks the descendants of a process.
const MARK: &str = "OCI_MIRROR_TEST_PROCESS";
