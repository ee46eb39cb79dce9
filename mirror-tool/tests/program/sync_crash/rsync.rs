//! A real rsync daemon, and what it says it has sent.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An rsync daemon that offers one tree.
pub(super) struct Rsyncd {
    address: SocketAddr,
    log: PathBuf,
    /// How much of the log has been read.
    read: usize,
    daemon: Child,
}

impl Rsyncd {
    pub(super) async fn start(tree: &Path, state: &Path) -> Self {
        fs::create_dir_all(state).unwrap();
        // Free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let log = state.join("log");
        let config = state.join("rsyncd.conf");
        let text = format!(
            "address = {}\nport = {}\nuse chroot = no\nreverse lookup = no\nlog file = {}\n\
             transfer logging = yes\nlog format = %o %f\nuid = root\ngid = root\n\
             [containers]\npath = {}\nread only = yes\n",
            address.ip(),
            address.port(),
            log.display(),
            tree.display()
        );
        fs::write(&config, text).unwrap();
        let mut daemon = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                break;
            }
            assert!(daemon.try_wait().unwrap().is_none(), "{address}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            address,
            log,
            read: 0,
            daemon,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("rsync://{}/containers", self.address)
    }

    /// The blobs sent on connections that were made since this was last called.
    ///
    /// Lines have the process that serves a connection, so that what an older one says late is not taken
    /// for something new.
    pub(super) fn take_sent(&mut self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let new = log[self.read..].to_owned();
        self.read = log.len();
        let process = |line: &str| line.split(['[', ']']).nth(1).map(str::to_owned);
        let connected: Vec<String> = new
            .lines()
            .filter(|line| line.contains("connect from"))
            .filter_map(process)
            .collect();
        new.lines()
            .filter(|line| process(line).is_some_and(|it| connected.contains(&it)))
            .filter_map(|line| line.split_once(" send "))
            .filter_map(|(_, path)| path.find("blobs/sha256/").map(|at| (path, at)))
            .filter(|(path, _)| !path.contains("repos/"))
            .map(|(path, at)| path[at..].to_owned())
            .collect()
    }
}

impl Drop for Rsyncd {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
