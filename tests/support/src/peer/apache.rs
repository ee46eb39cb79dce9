//! Apache httpd, as a volunteer runs it: Debian's defaults and a `DocumentRoot`.

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
    start_site(&static_site(address, root), address, state)
}

/// Runs a site as it would stand in `sites-enabled`, for a virtual host at the address.
pub fn start_site(site: &str, address: SocketAddr, state: &Path) -> Result<WebServer> {
    create_directory(state)?;
    open_path_to(state)?;
    let config = state.join("apache2.conf");
    write(&config, &configuration(site, address, state))?;
    let mut command = program("apache2")?;
    // `mods-enabled` refers to these, which `apache2ctl` would read from `envvars`.
    command
        .env("APACHE_RUN_DIR", state)
        .env("APACHE_LOG_DIR", state);
    command.arg("-D").arg("FOREGROUND").arg("-f").arg(&config);
    let mut process = Process::start(&mut command, &state.join("log"))?;
    wait_for_port(address, &mut process)?;
    Ok(WebServer {
        address,
        access_log: state.join("access.log"),
        process,
    })
}

/// Debian's default site, with what its `apache2.conf` says about `/var/www` said about the root.
fn static_site(address: SocketAddr, root: &Path) -> String {
    let root = root.display();
    format!(
        r#"<Directory "{root}">
    Options Indexes FollowSymLinks
    AllowOverride None
    Require all granted
</Directory>
<VirtualHost {address}>
    DocumentRoot "{root}"
</VirtualHost>
"#
    )
}

/// Debian's `apache2.conf` with its paths moved to `state`.
fn configuration(site: &str, address: SocketAddr, state: &Path) -> String {
    let state = state.display();
    format!(
        r#"ServerRoot /etc/apache2
ServerName 127.0.0.1
DefaultRuntimeDir "{state}"
PidFile "{state}/apache2.pid"
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
User www-data
Group www-data
HostnameLookups Off
ErrorLog "{state}/log"
LogLevel warn
IncludeOptional mods-enabled/*.load
IncludeOptional mods-enabled/*.conf
Listen {address}
<Directory />
    Options FollowSymLinks
    AllowOverride None
    Require all denied
</Directory>
AccessFileName .htaccess
<FilesMatch "^\.ht">
    Require all denied
</FilesMatch>
LogFormat "%h %l %u %t \"%r\" %>s %O \"%{{Referer}}i\" \"%{{User-Agent}}i\"" combined
CustomLog "{state}/access.log" combined
{site}
"#
    )
}
