//! Caddy, as a volunteer runs it: Debian's package and a `Caddyfile`.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::web_server::WebServer;
use super::{create_directory, wait_for_port, write};
use crate::process::{Process, program};

/// Runs a site as it would stand in the `Caddyfile`, which must listen at the address; what it logs of requests
/// is not read.
pub fn start_site(site: &str, address: SocketAddr, state: &Path) -> Result<WebServer> {
    create_directory(state)?;
    let config = state.join("Caddyfile");
    // Nothing but the site: no control socket, which is one for the machine, and no certificates.
    write(
        &config,
        &format!("{{\n\tadmin off\n\tauto_https off\n}}\n{site}"),
    )?;
    let mut command = program("caddy")?;
    command.env("HOME", state);
    command
        .env("XDG_DATA_HOME", state)
        .env("XDG_CONFIG_HOME", state);
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&config);
    let mut process = Process::start(&mut command, &state.join("log"))?;
    wait_for_port(address, &mut process)?;
    Ok(WebServer {
        address,
        access_log: state.join("access.log"),
        process,
    })
}
