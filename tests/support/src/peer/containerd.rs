//! containerd with its own storage, and `ctr`, the client that talks to it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use super::{create_directory, write};
use crate::mount::unmount_below;
use crate::process::{Output, Process, program, run};

/// A running containerd without the Kubernetes interface.
#[derive(Debug)]
pub struct Containerd {
    directory: PathBuf,
    snapshotter: &'static str,
    process: Process,
}

impl Containerd {
    /// Starts a containerd that keeps everything under a directory.
    ///
    /// Its path must be short, since a socket's path may have 107 bytes.
    pub fn start(directory: &Path) -> Result<Self> {
        create_directory(directory)?;
        let config = directory.join("config.toml");
        write(&config, &configuration(directory))?;
        let mut command = program("containerd")?;
        command.arg("--config").arg(&config);
        let process = Process::start(&mut command, &directory.join("log"))?;
        let directory = directory.to_path_buf();
        let mut containerd = Self {
            directory,
            snapshotter: "native",
            process,
        };
        let mut ping = containerd.client()?;
        ping.arg("version");
        containerd.process.wait_until(|| run(&mut ping).is_ok())?;
        if containerd.has_overlayfs()? {
            containerd.snapshotter = "overlayfs";
        }
        Ok(containerd)
    }

    /// The `ctr` command, directed at this containerd.
    pub fn client(&self) -> Result<Command> {
        let mut command = program("ctr")?;
        command.arg("--address").arg(socket(&self.directory));
        Ok(command)
    }

    /// Pulls an image over plain HTTP.
    pub fn pull(&self, reference: &str) -> Result<Output> {
        self.pull_with(&["--plain-http"], reference)
    }

    /// Pulls an image with options of `ctr images pull`, such as `--hosts-dir` or `--user`.
    pub fn pull_with(&self, options: &[&str], reference: &str) -> Result<Output> {
        let mut command = self.client()?;
        command
            .args(["images", "pull", "--snapshotter", self.snapshotter])
            .args(options);
        run(command.arg(reference))
    }

    /// Runs an image's command, or the one given, to its end and returns its standard output.
    pub fn run(&self, reference: &str, arguments: &[&str]) -> Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = self.client()?;
        command.args(["run", "--rm", "--snapshotter", self.snapshotter]);
        command.args([reference, &id]).args(arguments);
        Ok(run(&mut command)?.stdout)
    }

    /// The digests an image name stands for, which for containerd is at most one.
    pub fn repo_digests(&self, reference: &str) -> Result<Vec<String>> {
        let stdout = run(self.client()?.args(["images", "list"]))?.stdout;
        // REF TYPE DIGEST SIZE PLATFORMS LABELS
        Ok(stdout
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields.first() == Some(&reference))
            .filter_map(|fields| fields.get(2).map(|digest| (*digest).to_owned()))
            .collect())
    }

    /// Removes an image and what only it needs, so that the next pull fetches it anew.
    pub fn remove(&self, reference: &str) -> Result<Output> {
        run(self
            .client()?
            .args(["images", "remove", "--sync", reference]))
    }

    /// What containerd has logged.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// Whether it can stack layers, or must copy them because the file system below cannot.
    fn has_overlayfs(&self) -> Result<bool> {
        let stdout = run(self.client()?.args(["plugins", "list"]))?.stdout;
        // TYPE ID PLATFORMS STATUS
        Ok(stdout.lines().any(|line| {
            line.split_whitespace().nth(1) == Some("overlayfs") && line.trim_end().ends_with("ok")
        }))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.stop();
        unmount_below(&self.directory);
    }
}

fn configuration(directory: &Path) -> String {
    let (socket, directory) = (socket(directory), directory.display());
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
"#
    )
}

fn socket(directory: &Path) -> String {
    directory.join("socket").display().to_string()
}
