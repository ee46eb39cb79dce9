//! rsync: how a volunteer's mirror follows the tree, and the daemon it follows.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{create_directory, free_address, open_path_to, wait_for_port, write};
use crate::process::{Output, Process, program, run};

/// Makes `destination` equal to `source`, hardlinks included, deleting what is gone last of all.
///
/// The command is `rsync -aH --delete-delay SOURCE/ DESTINATION/`, either side a path or a URL.
pub fn sync(
    source: impl AsRef<OsStr>,
    destination: impl AsRef<OsStr>,
    options: &[&str],
) -> Result<Output> {
    let mut command = program("rsync")?;
    command
        .args(["-aH", "--delete-delay"])
        .args(options)
        .arg("--");
    command
        .arg(with_slash(source.as_ref()))
        .arg(with_slash(destination.as_ref()));
    run(&mut command)
}

fn with_slash(place: &OsStr) -> std::ffi::OsString {
    let mut place = place.to_owned();
    place.push("/");
    place
}

/// A running rsync daemon with one read-only module.
#[derive(Debug)]
pub struct RsyncDaemon {
    address: SocketAddr,
    module: String,
    process: Process,
}

impl RsyncDaemon {
    /// Offers the files under `root` as a module on a free port; `state` takes logs.
    pub fn start(module: &str, root: &Path, state: &Path) -> Result<Self> {
        Self::start_at(free_address()?, module, root, state)
    }

    /// Offers the files under `root` as a module at an address.
    pub fn start_at(address: SocketAddr, module: &str, root: &Path, state: &Path) -> Result<Self> {
        Self::start_with("", address, module, root, state)
    }

    /// Offers the files under `root` as a module with further settings, one a line.
    pub fn start_with(
        settings: &str,
        address: SocketAddr,
        module: &str,
        root: &Path,
        state: &Path,
    ) -> Result<Self> {
        create_directory(state)?;
        open_path_to(root)?;
        let config = state.join("rsyncd.conf");
        let general = configuration(address, module, root, state);
        write(&config, &format!("{general}{settings}\n"))?;
        let mut command = program("rsync")?;
        command
            .arg("--daemon")
            .arg("--no-detach")
            .arg("--config")
            .arg(&config);
        let mut process = Process::start(&mut command, &state.join("log"))?;
        wait_for_port(address, &mut process)?;
        Ok(Self {
            address,
            module: module.to_owned(),
            process,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The module, without a slash at the end.
    pub fn url(&self) -> String {
        format!("rsync://{}/{}", self.address, self.module)
    }

    /// What it has logged, one line per connection and transferred file among others.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// Stops it; dropping does the same.
    pub fn stop(&mut self) {
        self.process.stop();
    }
}

/// Small answers are not held back, as `site-config rsyncd` has it.
fn configuration(address: SocketAddr, module: &str, root: &Path, state: &Path) -> String {
    let (ip, port) = (address.ip(), address.port());
    let (root, state) = (root.display(), state.display());
    format!(
        "address = {ip}\n\
         port = {port}\n\
         pid file = {state}/rsyncd.pid\n\
         log file = {state}/log\n\
         reverse lookup = no\n\
         socket options = TCP_NODELAY\n\
         transfer logging = yes\n\
         [{module}]\n\
         path = {root}\n\
         read only = yes\n"
    )
}
