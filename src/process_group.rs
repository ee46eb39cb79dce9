//! A program and all it starts, killed together.
//!
//! What is run may leave children behind that hold its output open or go on by themselves. So it gets a
//! process group of its own, which is killed by whoever gives it up, be it by being dropped. The group is
//! signalled only as long as its leader has not been reaped: until then nobody else has its id.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid,
};
use tokio::process::{Child, Command};

/// How often to look whether the leader has ended.
const POLL: Duration = Duration::from_millis(20);

/// A running program, and what it has started.
#[derive(Debug)]
pub struct ProcessGroup {
    leader: Child,
}

impl ProcessGroup {
    /// Starts a program at the head of a group.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let leader = command.process_group(0).kill_on_drop(true).spawn()?;
        Ok(Self { leader })
    }

    /// The program that was started.
    pub fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// Bounds the address space of the leader, and of what it starts from then on. A second line of
    /// defence: where the system forbids it, things go on without.
    pub fn limit_memory(&self, bytes: u64) {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        if let Some(id) = self.id() {
            let _ = prlimit(Some(id), Resource::As, limit);
        }
    }

    /// Bounds the length of every file that is written, likewise.
    pub fn limit_file_size(&self, bytes: u64) {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        if let Some(id) = self.id() {
            let _ = prlimit(Some(id), Resource::Fsize, limit);
        }
    }

    /// Asks all of it to end, in its own time.
    pub fn ask_to_end(&self) {
        if let Some(id) = self.id() {
            let _ = kill_process_group(id, Signal::TERM);
        }
    }

    /// Waits until the leader has ended. It is not reaped, and the group may live on.
    pub async fn ended(&self) {
        let running = |id: Pid| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            matches!(waitid(WaitId::Pid(id), options), Ok(None))
        };
        while self.id().is_some_and(running) {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills all that is left of the group; how the leader has ended.
    pub async fn end(mut self) -> io::Result<ExitStatus> {
        self.kill();
        self.leader.wait().await
    }

    fn kill(&self) {
        if let Some(id) = self.id() {
            // The only failure is that nobody is left.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }

    /// The id of leader and group, unless the leader has been reaped.
    fn id(&self) -> Option<Pid> {
        let id = i32::try_from(self.leader.id()?).ok()?;
        Pid::from_raw(id)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a process is there and has not ended.
pub fn is_alive(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| {
        // `id (name) state …`, where the name may hold parentheses.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        !state.is_some_and(|state| state.starts_with(['Z', 'X']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    /// The id that a child of the script has written.
    async fn child(path: &std::path::Path) -> u32 {
        for _ in 0..500 {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if let Some(id) = text.strip_suffix('\n') {
                return id.parse().unwrap();
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("the script did not start");
    }

    async fn wait_for_end(id: u32) {
        for _ in 0..500 {
            if !is_alive(id) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("process {id} lives on");
    }

    #[tokio::test]
    async fn ending_it_kills_what_was_left_behind_and_tells_how_the_leader_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        let script = format!("sleep 300 & echo $! > {}; exit 7", path.display());
        let group = ProcessGroup::start(&mut shell(&script)).unwrap();
        group.ended().await;
        let left = child(&path).await;
        assert!(is_alive(left));
        assert_eq!(group.end().await.unwrap().code(), Some(7));
        wait_for_end(left).await;
    }

    #[tokio::test]
    async fn dropping_it_kills_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        let script = format!("sleep 300 & echo $! > {}; wait", path.display());
        let mut group = ProcessGroup::start(&mut shell(&script)).unwrap();
        let (leader, left) = (group.leader().id().unwrap(), child(&path).await);
        drop(group);
        wait_for_end(left).await;
        wait_for_end(leader).await;
    }
}
