//! nginx, as a volunteer runs it: Debian's defaults and a `root`.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::web_server::WebServer;
use super::{create_directory, free_address, open_path_to, wait_for_port, write};
use crate::process::{Process, program};

/// Serves the files under `root` on a free port; `state` takes logs and temporary files.
pub fn start(root: &Path, state: &Path) -> Result<WebServer> {
    start_at(free_address()?, root, state)
}

/// Serves the files under `root` at an address.
pub fn start_at(address: SocketAddr, root: &Path, state: &Path) -> Result<WebServer> {
    open_path_to(root)?;
    let root = root.display();
    start_site(
        &format!("server {{ listen {address}; root \"{root}\"; }}"),
        address,
        state,
    )
}

/// Runs a site as it would stand in `sites-enabled`, which must listen at the address.
pub fn start_site(site: &str, address: SocketAddr, state: &Path) -> Result<WebServer> {
    create_directory(state)?;
    open_path_to(state)?;
    let config = state.join("nginx.conf");
    write(&config, &configuration(site, state))?;
    let mut command = program("nginx")?;
    command
        .arg("-e")
        .arg(state.join("log"))
        .arg("-c")
        .arg(&config);
    let mut process = Process::start(&mut command, &state.join("log"))?;
    wait_for_port(address, &mut process)?;
    Ok(WebServer {
        address,
        access_log: state.join("access.log"),
        process,
    })
}

/// Debian's `nginx.conf`, less what concerns TLS, with its paths moved to `state`.
fn configuration(site: &str, state: &Path) -> String {
    let state = state.display();
    format!(
        r#"daemon off;
user www-data;
worker_processes 2;
pid "{state}/nginx.pid";
error_log "{state}/log";
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log "{state}/access.log";
    gzip on;
    client_body_temp_path "{state}/body";
    proxy_temp_path "{state}/proxy";
    fastcgi_temp_path "{state}/fastcgi";
    uwsgi_temp_path "{state}/uwsgi";
    scgi_temp_path "{state}/scgi";
    {site}
}}
"#
    )
}
