//! Docker Engine: `dockerd` with its own storage, and the client that talks to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{create_directory, inspected_digests};
use crate::mount::unmount_below;
use crate::process::{Output, Process, program, run};

/// A running Docker Engine without networks.
#[derive(Debug)]
pub struct Dockerd {
    directory: PathBuf,
    process: Process,
}

impl Dockerd {
    /// Starts an engine that keeps everything under a directory.
    ///
    /// Its path must be short, since a socket's path may have 107 bytes. Registries in 127.0.0.0/8
    /// need no option: Docker tries plain HTTP there.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_with(&[], directory)
    }

    /// Starts an engine with more options of `dockerd`, such as `--registry-mirror=URL`.
    pub fn start_with(options: &[&str], directory: &Path) -> Result<Self> {
        create_directory(&directory.join("client"))?;
        let mut command = program("dockerd")?;
        // Without a bridge and iptables it leaves the machine's network alone.
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.arg("--data-root").arg(directory.join("data"));
        command.arg("--exec-root").arg(directory.join("exec"));
        command.arg("--pidfile").arg(directory.join("pid"));
        command.arg("--host").arg(socket(directory));
        command.args(options);
        let process = Process::start(&mut command, &directory.join("log"))?;
        let mut engine = Self {
            directory: directory.to_path_buf(),
            process,
        };
        let mut ping = engine.client()?;
        ping.args(["version", "--format", "{{.Server.Version}}"]);
        engine.process.wait_until(|| run(&mut ping).is_ok())?;
        Ok(engine)
    }

    /// The `docker` command, directed at this engine and with a configuration of its own.
    pub fn client(&self) -> Result<Command> {
        let mut command = program("docker")?;
        command.env_remove("DOCKER_CONTEXT");
        command.arg("--config").arg(self.directory.join("client"));
        command.arg("--host").arg(socket(&self.directory));
        Ok(command)
    }

    /// Pulls an image.
    pub fn pull(&self, reference: &str) -> Result<Output> {
        run(self.client()?.args(["pull", reference]))
    }

    /// Runs an image's command, or the one given, to its end and returns its standard output.
    pub fn run(&self, reference: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.client()?;
        command
            .args(["run", "--rm", "--network=none", reference])
            .args(arguments);
        Ok(run(&mut command)?.stdout)
    }

    /// The digests under which it knows an image it has pulled, in the repository it is named by.
    ///
    /// There may be several: tags whose images share a configuration are one image to it.
    pub fn repo_digests(&self, reference: &str) -> Result<Vec<String>> {
        inspected_digests(self.client()?, reference)
    }

    /// Removes an image, so that the next pull fetches it anew.
    pub fn remove(&self, reference: &str) -> Result<Output> {
        run(self.client()?.args(["image", "rm", "--force", reference]))
    }

    /// Logs in to a registry for the pulls that follow.
    pub fn login(&self, registry: &str, user: &str, password: &str) -> Result<Output> {
        run(self.client()?.args([
            "login",
            "--username",
            user,
            "--password",
            password,
            registry,
        ]))
    }

    /// What the engine has logged.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.process.stop();
        unmount_below(&self.directory);
    }
}

fn socket(directory: &Path) -> String {
    format!("unix://{}", directory.join("socket").display())
}
