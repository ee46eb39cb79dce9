//! tinyproxy, a forward proxy of the kind that stands between a build machine and the world.

use std::path::Path;

use anyhow::Result;

use super::{create_directory, free_address, wait_for_port, write};
use crate::process::{Process, program};

/// A running forward proxy that lets everything through.
#[derive(Debug)]
pub struct ForwardProxy {
    url: String,
    process: Process,
}

impl ForwardProxy {
    /// Starts one on a free port; `state` takes its log.
    pub fn start(state: &Path) -> Result<Self> {
        create_directory(state)?;
        let address = free_address()?;
        let (ip, port) = (address.ip(), address.port());
        let config = state.join("tinyproxy.conf");
        write(
            &config,
            &format!("Listen {ip}\nPort {port}\nTimeout 60\nMaxClients 100\nLogLevel Connect\n"),
        )?;
        let mut command = program("tinyproxy")?;
        // In the foreground, with its log on standard output.
        command.arg("-d").arg("-c").arg(&config);
        let mut process = Process::start(&mut command, &state.join("log"))?;
        wait_for_port(address, &mut process)?;
        Ok(Self {
            url: format!("http://{address}"),
            process,
        })
    }

    /// What clients have in `HTTP_PROXY` and the like.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first lines of the requests it was sent, oldest first.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = self.process.log()?;
        let requests = log.lines().filter_map(|line| line.split_once("Request "));
        let requests = requests.filter_map(|(_, rest)| rest.split_once(": "));
        Ok(requests.map(|(_, request)| request.to_owned()).collect())
    }
}
