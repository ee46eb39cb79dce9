//! A real rsync daemon.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(super) struct Daemon {
    port: u16,
    log: PathBuf,
    process: Child,
}

impl Daemon {
    /// Offers a directory as the module `tree`, with further settings.
    pub(super) fn start(root: &Path, state: &Path, settings: &str) -> Self {
        fs::create_dir_all(state).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let (config, log) = (state.join("rsyncd.conf"), state.join("log"));
        let text = format!(
            "address = 127.0.0.1\nport = {port}\nlog file = {}\nuse chroot = no\nreverse lookup = no\n\
             transfer logging = yes\nlog format = sent %f\n[tree]\npath = {}\nread only = yes\n{settings}\n",
            log.display(),
            root.display(),
        );
        fs::write(&config, text).unwrap();
        let process = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The connection that only looked is in there too.
        while fs::read_to_string(&log).is_ok_and(|log| !log.contains("connect from")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { port, log, process }
    }

    pub(super) fn url(&self) -> String {
        format!("rsync://127.0.0.1:{}/tree", self.port)
    }

    /// How often a module was opened.
    pub(super) fn runs(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines()
            .filter(|line| line.contains("rsync on tree"))
            .count()
    }

    /// The paths sent, sorted.
    pub(super) fn sent(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        let mut sent: Vec<String> = log
            .lines()
            .filter_map(|line| Some(line.split_once("] sent ")?.1.to_owned()))
            // The sum at the end of a connection.
            .filter(|line| !line.contains(" bytes "))
            .collect();
        sent.sort();
        sent
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
