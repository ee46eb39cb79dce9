//! What `mirror-tool site-config` prints, in the real servers it is for.

mod daemon;
mod manual;
mod units;
mod web;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use support::peer::rsyncd::{self, RsyncDaemon};
use support::peer::web_server::WebServer;
use support::peer::{apache, caddy, free_address, nginx};
use support::process::{program as peer, run};
use tempfile::TempDir;

use crate::http;
use crate::network::{Tools, fails, program, tree, verify};

const HOST: &str = "mirror.example.org";

/// A web server there is configuration for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Nginx,
    Apache,
    Caddy,
}

impl Server {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Caddy => "caddy",
        }
    }

    /// Starts the server with a configuration as it was printed, but for the port and for where its log is.
    #[track_caller]
    pub(crate) fn start(self, printed: &str, state: &Path) -> WebServer {
        let address = free_address().unwrap();
        let logs = state.display().to_string();
        match self {
            Self::Nginx => {
                let listen = "    listen 80;\n    listen [::]:80;\n";
                let site = replaced(printed, listen, &format!("    listen {address};\n"));
                let site = replaced(&site, "/var/log/nginx", &logs);
                nginx::start_site(&site, address, state).unwrap()
            }
            Self::Apache => {
                let site = replaced(printed, "*:80>", &format!("{address}>"));
                apache::start_site(&format!("{AS_ON_FEDORA}{site}"), address, state).unwrap()
            }
            Self::Caddy => {
                let names = format!("http://{HOST}, https://{HOST} {{");
                let here = format!("http://{address} {{\n\tbind {}", address.ip());
                let site = replaced(printed, &names, &here);
                let site = replaced(&site, "/var/log/caddy", &logs);
                caddy::start_site(&site, address, state).unwrap()
            }
        }
    }
}

/// Modules that the sites need, and what other systems have on that makes trouble.
const AS_ON_FEDORA: &str = r"<IfModule !headers_module>
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
</IfModule>
<IfModule !rewrite_module>
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
</IfModule>
<IfModule !mime_magic_module>
LoadModule mime_magic_module /usr/lib/apache2/modules/mod_mime_magic.so
</IfModule>
MimeMagicFile /etc/apache2/magic
AddEncoding x-gzip .gz .tgz
AddHandler server-status .php
";

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in:\n{text}");
    text.replace(from, to)
}

/// What is printed for a tree.
#[track_caller]
pub(crate) fn site_config(kind: &str, tree: &Path, more: &[&str]) -> String {
    site_config_of(HOST, kind, tree, more)
}

/// What is printed for the tree of a host.
#[track_caller]
fn site_config_of(host: &str, kind: &str, tree: &Path, more: &[&str]) -> String {
    let mut command = program("mirror-tool");
    command.args(["site-config", kind, "--host", host, "--tree"]);
    command.arg(tree).args(more);
    let output = run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
    output.stdout
}

/// A mirror's copy of the shared tree, at which rsync is still at work.
struct Mirror {
    directory: TempDir,
    /// A blob of the tree.
    blob: String,
    /// Its bytes.
    bytes: Vec<u8>,
}

/// Larger than what the machine buffers for a connection.
const LARGE: &str =
    "blobs/sha256/00/0000000000000000000000000000000000000000000000000000000000000000";

/// Bytes of it.
const LARGE_SIZE: u64 = 64 << 20;

impl Mirror {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("containers");
        rsyncd::sync(tree(), &copy, &[]).unwrap();
        let index = fs::read(copy.join("repos/app/index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let hex = index["manifests"][0]["digest"]
            .as_str()
            .unwrap()
            .replace("sha256:", "");
        let blob = format!("blobs/sha256/{}/{hex}", &hex[..2]);
        for unfinished in [".~tmp~/x", "blobs/sha256/00/.~tmp~/x"] {
            let path = copy.join(unfinished);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "not yet").unwrap();
        }
        let large = fs::File::create(copy.join(LARGE)).unwrap();
        large.write_all_at(b"!", LARGE_SIZE - 1).unwrap();
        Self {
            bytes: fs::read(copy.join(&blob)).unwrap(),
            directory,
            blob,
        }
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("containers")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    #[track_caller]
    fn serve(&self, server: Server) -> WebServer {
        let printed = site_config(server.name(), &self.tree(), &[]);
        server.start(&printed, &self.state())
    }

    /// What the site has logged.
    fn log(&self) -> String {
        fs::read_to_string(self.state().join(format!("{HOST}.log"))).unwrap()
    }
}

#[test]
fn what_cannot_be_written_into_a_configuration_is_refused() {
    for (arguments, said) in [
        (["nginx", "--tree", "/srv/a;b", "--host", "h"], "/srv/a;b"),
        (
            ["apache", "--tree", "/srv/a\nb", "--host", "h"],
            "cannot be named",
        ),
        (["caddy", "--tree", "/srv/a", "--host", "a b"], "a b"),
        (["systemd", "--tree", "/srv/a", "--host", "h"], "--from"),
    ] {
        let (code, failure) = fails(program("mirror-tool").arg("site-config").args(arguments));
        assert_eq!((code, failure.stdout.as_str()), (2, ""), "{failure}");
        assert!(failure.stderr.contains(said), "{failure}");
    }
}
