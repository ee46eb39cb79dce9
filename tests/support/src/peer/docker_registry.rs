//! distribution, Debian's `docker-registry`: the registry that images come from.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{create_directory, free_address, wait_for_port, write};
use crate::process::{Process, program, run};

/// A running registry over plain HTTP, with its storage in a directory.
#[derive(Debug)]
pub struct DockerRegistry {
    address: SocketAddr,
    credentials: Option<Credentials>,
    process: Process,
}

/// Who may read and write a private registry.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, which also appears on command lines: nothing but a test's.
    pub password: String,
}

impl Credentials {
    /// In the form that `--creds` and `--user` options take.
    pub fn to_option(&self) -> String {
        format!("{}:{}", self.user, self.password)
    }
}

impl DockerRegistry {
    /// Starts an open registry on a free port.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_at(free_address()?, directory)
    }

    /// Starts an open registry; one started earlier on the same directory finds its images again.
    pub fn start_at(address: SocketAddr, directory: &Path) -> Result<Self> {
        Self::launch(address, None, directory)
    }

    /// Starts a registry that asks for a user and a password (HTTP Basic, bcrypt htpasswd file).
    pub fn start_private(credentials: Credentials, directory: &Path) -> Result<Self> {
        Self::launch(free_address()?, Some(credentials), directory)
    }

    fn launch(
        address: SocketAddr,
        credentials: Option<Credentials>,
        directory: &Path,
    ) -> Result<Self> {
        create_directory(directory)?;
        let password_file = directory.join("htpasswd");
        if let Some(credentials) = &credentials {
            write(&password_file, &htpasswd(credentials)?)?;
        }
        let config = directory.join("config.json");
        let password_file = credentials.is_some().then_some(password_file.as_path());
        write(&config, &configuration(address, password_file, directory))?;
        let mut command = program("docker-registry")?;
        command.arg("serve").arg(&config);
        let mut process = Process::start(&mut command, &directory.join("log"))?;
        wait_for_port(address, &mut process)?;
        Ok(Self {
            address,
            credentials,
            process,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its API lies under, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How clients call an image of this registry: `127.0.0.1:40000/debian:12` for `debian:12`.
    pub fn reference(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// What it asks clients for, if anything.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The requests it has answered, oldest first, in the combined log format.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = self.process.log()?;
        Ok(log
            .lines()
            .filter(|line| is_access(line))
            .map(str::to_owned)
            .collect())
    }

    /// Stops it; dropping does the same.
    pub fn stop(&mut self) {
        self.process.stop();
    }
}

/// Its configuration; distribution reads YAML, of which JSON is a part.
fn configuration(address: SocketAddr, password_file: Option<&Path>, directory: &Path) -> String {
    let storage: PathBuf = directory.join("storage");
    let mut config = serde_json::json!({
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": storage},
            "delete": {"enabled": true},
        },
        "http": {"addr": address.to_string()},
    });
    if let Some(path) = password_file {
        config["auth"] = serde_json::json!({"htpasswd": {"realm": "test", "path": path}});
    }
    config.to_string()
}

fn htpasswd(credentials: &Credentials) -> Result<String> {
    let mut command = program("htpasswd")?;
    // `-C 4` is the cheapest bcrypt: the registry checks the password on every request.
    command.args([
        "-n",
        "-b",
        "-B",
        "-C",
        "4",
        &credentials.user,
        &credentials.password,
    ]);
    Ok(run(&mut command)
        .context("cannot make a password file")?
        .stdout)
}

/// Access lines start with the client's address, others with `time=`.
fn is_access(line: &str) -> bool {
    line.split_once(" - ")
        .is_some_and(|(client, _)| client.parse::<std::net::IpAddr>().is_ok())
}
