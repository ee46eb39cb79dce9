//! Real images to export, serve and pull: Debian for two platforms, in every form in use.
//!
//! `tests/peers/images` builds them once and keeps them in the target directory; equal Debian
//! packages give equal digests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::peer::docker_registry::{Credentials, DockerRegistry};
use crate::peer::skopeo;
use crate::process::run_within;

/// Where the images are; all are hardlinks into one another where they share bytes.
#[derive(Debug, Clone)]
pub struct Images {
    /// An OCI layout: tag `12` is an index of amd64 and arm64, `zstd` has a layer compressed so.
    pub debian: PathBuf,
    /// An OCI layout: tag `1.0` is eight layers above Debian's, from 177 bytes to 5 MiB.
    pub app: PathBuf,
    /// A skopeo `dir:` with a Docker schema 2 manifest, pushed as `debian:docker`.
    pub docker: PathBuf,
    /// A skopeo `dir:` with a Docker manifest list, pushed as `debian:docker-list`.
    pub docker_list: PathBuf,
}

impl Images {
    /// Each image as skopeo reads it, and the name it is pushed under.
    pub fn sources(&self) -> [(String, &'static str); 5] {
        let (debian, app) = (self.debian.display(), self.app.display());
        let (docker, docker_list) = (self.docker.display(), self.docker_list.display());
        [
            (format!("oci:{debian}:12"), "debian:12"),
            (format!("oci:{debian}:zstd"), "debian:zstd"),
            (format!("dir:{docker}"), "debian:docker"),
            (format!("dir:{docker_list}"), "debian:docker-list"),
            (format!("oci:{app}:1.0"), "app:1.0"),
        ]
    }
}

/// The sample images, built now if they are not there; a concurrent call waits for the first.
pub fn images() -> Result<Images> {
    let directory = target_directory()?.join("peers/images");
    let mut command = Command::new(workspace().join("tests/peers/images"));
    run_within(BUILD_WITHIN, command.arg(&directory)).context("cannot build the sample images")?;
    Ok(Images {
        debian: directory.join("debian"),
        app: directory.join("app"),
        docker: directory.join("docker"),
        docker_list: directory.join("docker-list"),
    })
}

/// Pushes every sample image to a registry, byte for byte and with all platforms.
pub fn fill(registry: &DockerRegistry) -> Result<()> {
    let mut options = vec!["--all".to_owned(), "--preserve-digests".to_owned()];
    options.extend(
        registry
            .credentials()
            .map(Credentials::to_option)
            .map(|it| format!("--dest-creds={it}")),
    );
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    for (source, name) in images()?.sources() {
        let destination = format!("docker://{}", registry.reference(name));
        skopeo::copy(&options, &source, &destination)
            .with_context(|| format!("cannot push the sample {name}"))?;
    }
    Ok(())
}

/// Cargo's target directory: the one the running test lies in, which cargo marks as a cache.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let test = std::env::current_exe().context("cannot find the running test")?;
    let target = test
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file());
    Ok(target.map_or_else(|| workspace().join("target"), Path::to_path_buf))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Long enough for a slow Debian mirror, and for waiting until somebody else has built them.
const BUILD_WITHIN: Duration = Duration::from_secs(900);
