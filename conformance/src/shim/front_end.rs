//! `registry-proxy`, as a program that runs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use oci_mirror::tree::Tree;
use support::peer::free_address;
use support::process::Process;

/// `registry-proxy serve`, on a tree.
#[derive(Debug)]
pub struct FrontEnd {
    url: String,
    tree: PathBuf,
    _process: Process,
}

impl FrontEnd {
    /// Starts it without mirrors; `directory` takes its log.
    pub fn start(programs: &Path, tree: &Path, directory: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = ours(programs, "registry-proxy");
        command
            .args(["serve", "--listen", &address.to_string(), "--tree"])
            .arg(tree);
        command.arg("--database").arg(directory.join("none.db"));
        let mut process = Process::start(&mut command, &directory.join("front-end.log"))?;
        process.wait_until(|| TcpStream::connect(address).is_ok())?;
        Ok(Self {
            url: format!("http://{address}"),
            tree: tree.to_path_buf(),
            _process: process,
        })
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    /// What clients call the registry.
    pub fn host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Waits until what is served is what lies in the tree.
    pub(super) fn wait_until_current(&self) -> Result<()> {
        let state = Tree::open(&self.tree)?.state()?;
        let ready = format!("serial {}\n", state.serial);
        let deadline = Instant::now() + CURRENT_WITHIN;
        while Instant::now() < deadline {
            if said_by(self.host(), "/readyz")?.ends_with(&ready) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "registry-proxy does not serve serial {} after {CURRENT_WITHIN:?}",
            state.serial
        )
    }
}

/// The answer to a plain request, head and all.
fn said_by(host: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(host)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// One of our programs, which says nothing of what it does.
pub(super) fn ours(programs: &Path, name: &str) -> Command {
    let mut command = Command::new(programs.join(name));
    for variable in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command
}

/// The front end looks at its tree once a second.
const CURRENT_WITHIN: Duration = Duration::from_secs(60);
