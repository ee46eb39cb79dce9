//! The programs oci-mirror works with, run for a test: one module per program.
//!
//! Servers, which pick a free port or take an address: [`docker_registry`], the source registry;
//! [`authority`] and [`tinyproxy`], what may stand before it; [`nginx`], [`apache`], [`caddy`] and
//! [`rsyncd`], the mirrors of volunteers. Clients: [`dockerd`], [`podman`],
//! [`containerd`] and [`skopeo`], which pull images, and [`aria2`], [`wget2`] and [`librepo`], which read
//! metalinks. [`crane`], [`oras`] and [`regctl`] copy images too; they are built by `tests/peers/go-tools`.
//!
//! A server given an address can be stopped and started again in the same place. Any address in
//! 127.0.0.0/8 will do, so one machine can play a network.

pub mod apache;
pub mod aria2;
pub mod authority;
pub mod caddy;
pub mod containerd;
pub mod crane;
pub mod docker_registry;
pub mod dockerd;
mod go_tool;
pub mod librepo;
pub mod nginx;
pub mod oras;
pub mod podman;
pub mod regctl;
pub mod rsyncd;
pub mod skopeo;
pub mod tinyproxy;
pub mod web_server;
pub mod wget2;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Process, run};

/// An address on 127.0.0.1 that nobody listens on at this moment.
pub fn free_address() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .context("cannot find a free port")
}

/// Waits until something accepts connections at the address.
fn wait_for_port(address: SocketAddr, process: &mut Process) -> Result<()> {
    process.wait_until(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The digests under which an engine knows an image, in the repository it is named by; asked as docker
/// and podman both understand it.
fn inspected_digests(mut client: Command, reference: &str) -> Result<Vec<String>> {
    let format = "--format={{range .RepoDigests}}{{println .}}{{end}}";
    client.args(["image", "inspect", format, reference]);
    Ok(digests_of(reference, &run(&mut client)?.stdout))
}

/// The digests of `repository@digest` lines that belong to the repository of a reference.
fn digests_of(reference: &str, lines: &str) -> Vec<String> {
    let name = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    // A colon before the last slash belongs to the port.
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    lines
        .lines()
        .filter_map(|line| line.split_once('@'))
        .filter(|(name, _)| *name == repository)
        .map(|(_, digest)| digest.to_owned())
        .collect()
}

/// Lets every user pass through a directory and those above it, as far as they are temporary.
///
/// Web servers give up root, and temporary directories start out closed. What lies inside keeps its
/// modes: a tree that others cannot read is a defect for a mirror, and tests should see it.
fn open_path_to(directory: &Path) -> Result<()> {
    let temporary =
        fs::canonicalize(std::env::temp_dir()).context("cannot find the temporary directory")?;
    let directory = fs::canonicalize(directory)
        .with_context(|| format!("cannot find {}", directory.display()))?;
    for ancestor in directory.ancestors() {
        let mut permissions = permissions(ancestor)?;
        if permissions.mode() & 0o001 == 0 {
            if ancestor == temporary || !ancestor.starts_with(&temporary) {
                bail!(
                    "{} is closed to the users web servers run as",
                    ancestor.display()
                );
            }
            permissions.set_mode(permissions.mode() | 0o111);
            fs::set_permissions(ancestor, permissions)
                .with_context(|| format!("cannot open {} to all users", ancestor.display()))?;
        }
    }
    Ok(())
}

fn permissions(path: &Path) -> Result<fs::Permissions> {
    let metadata = fs::metadata(path);
    Ok(metadata
        .with_context(|| format!("cannot inspect {}", path.display()))?
        .permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_digests_of_one_repository() {
        let lines = "localhost:1/a@sha256:1\nlocalhost:1/b@sha256:2\n\nlocalhost:1/a@sha256:3\n";
        for reference in [
            "localhost:1/a",
            "localhost:1/a:tag",
            "localhost:1/a:tag@sha256:1",
        ] {
            assert_eq!(
                digests_of(reference, lines),
                ["sha256:1", "sha256:3"],
                "{reference}"
            );
        }
        assert!(digests_of("a:tag", lines).is_empty());
    }
}
