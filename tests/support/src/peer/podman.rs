//! Podman, with storage of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use rustix::process::{Resource, getrlimit};

use super::{create_directory, inspected_digests, write};
use crate::mount::unmount_below;
use crate::process::{Output, program, run};

/// Podman's storage and configuration; there is no daemon.
#[derive(Debug)]
pub struct Podman {
    directory: PathBuf,
}

impl Podman {
    /// Prepares a directory to keep everything in; that Podman is there is checked now.
    pub fn new(directory: &Path) -> Result<Self> {
        program("podman")?;
        create_directory(directory)?;
        let podman = Self {
            directory: directory.to_path_buf(),
        };
        podman.configure_registries("")?;
        write(&podman.settings(), SETTINGS)?;
        write(&podman.logins(), "{}")?;
        Ok(podman)
    }

    /// Replaces `registries.conf`, for instance to name mirrors.
    pub fn configure_registries(&self, text: &str) -> Result<()> {
        write(&self.registries(), text)
    }

    /// The `podman` command, directed at this storage and configuration.
    pub fn client(&self) -> Result<Command> {
        let mut command = program("podman")?;
        command.env("CONTAINERS_CONF", self.settings());
        command.env("CONTAINERS_REGISTRIES_CONF", self.registries());
        command.env("REGISTRY_AUTH_FILE", self.logins());
        if self.storage().exists() {
            command.env("CONTAINERS_STORAGE_CONF", self.storage());
        } else {
            command.arg("--root").arg(self.directory.join("root"));
            command.arg("--runroot").arg(self.directory.join("run"));
        }
        command.arg("--tmpdir").arg(self.directory.join("tmp"));
        Ok(command)
    }

    /// From now on, of layers made for it only the files are fetched that are not there yet.
    ///
    /// Podman takes this from a file only, and forgets it when told on the command line where to keep
    /// images.
    pub fn fetch_parts(&self) -> Result<()> {
        let (root, run) = (self.directory.join("root"), self.directory.join("run"));
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n\
             [storage.options]\npull_options = {{enable_partial_images = \"true\"}}\n",
            root.display(),
            run.display()
        );
        write(&self.storage(), &text)
    }

    /// Where the files of an image can be read, until this is dropped.
    pub fn mount(&self, reference: &str) -> Result<PathBuf> {
        let mounted = run(self.client()?.args(["image", "mount", reference]))?;
        Ok(mounted.stdout.trim().into())
    }

    /// Pulls an image, over plain HTTP if it must.
    pub fn pull(&self, reference: &str) -> Result<Output> {
        run(self
            .client()?
            .args(["pull", "--tls-verify=false", reference]))
    }

    /// Pulls an image over TLS, with the authorities found in a directory as `*.crt`.
    pub fn pull_verified(&self, authorities: &Path, reference: &str) -> Result<Output> {
        let mut command = self.client()?;
        command.args(["pull", "--tls-verify=true", "--cert-dir"]);
        run(command.arg(authorities).arg(reference))
    }

    /// Runs an image's command, or the one given, to its end and returns its standard output.
    pub fn run(&self, reference: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.client()?;
        command.args(["run", "--rm", "--pull=never", "--network=none"]);
        command.arg(limit("nofile", Resource::Nofile, 1_048_576));
        command.arg(limit("nproc", Resource::Nproc, 32_768));
        command.arg(reference).args(arguments);
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
        let mut command = self.client()?;
        command.args([
            "login",
            "--tls-verify=false",
            "--username",
            user,
            "--password",
            password,
        ]);
        run(command.arg(registry))
    }

    fn settings(&self) -> PathBuf {
        self.directory.join("containers.conf")
    }

    fn storage(&self) -> PathBuf {
        self.directory.join("storage.conf")
    }

    fn logins(&self) -> PathBuf {
        self.directory.join("auth.json")
    }

    fn registries(&self) -> PathBuf {
        self.directory.join("registries.conf")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Containers are left over only when a run was cut short.
        if let Ok(mut command) = self.client() {
            let _ = run(command.args(["rm", "--all", "--force", "--time=0"]));
        }
        unmount_below(&self.directory);
    }
}

/// The limit Podman would set, unless this process may not raise its own so far.
///
/// `--ulimit=host` should do this, and does not in Podman 4.3.
fn limit(name: &str, resource: Resource, usual: u64) -> String {
    let limit = getrlimit(resource)
        .maximum
        .map_or(usual, |maximum| maximum.min(usual));
    format!("--ulimit={name}={limit}:{limit}")
}

/// runc, because crun refuses machines whose control groups are in part of the first version.
///
/// No systemd need be there to make cgroups or keep a journal, and no CNI plugins.
const SETTINGS: &str = r#"[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"#;
