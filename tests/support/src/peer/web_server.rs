//! A running web server, whichever it is.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::Process;

/// A running nginx, Apache or Caddy.
#[derive(Debug)]
pub struct WebServer {
    pub(super) address: SocketAddr,
    pub(super) access_log: PathBuf,
    pub(super) process: Process,
}

impl WebServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the files lie under, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests it has answered, oldest first, in the format its site says.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(&self.access_log)
            .with_context(|| format!("cannot read {}", self.access_log.display()))?;
        Ok(log.lines().map(str::to_owned).collect())
    }

    /// Stops it; dropping does the same.
    pub fn stop(&mut self) {
        self.process.stop();
    }
}
