//! crane, the registry client of go-containerregistry, on which many Go programs are built.
//!
//! On loopback it tries TLS first and then plain HTTP.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::go_tool;
use crate::process::{Output, run};

/// The `crane` command, ready for arguments.
pub fn client() -> Result<Command> {
    go_tool::program("crane")
}

/// Copies an image, with all platforms if it has several, into an OCI layout at a path.
pub fn pull(reference: &str, layout: &Path) -> Result<Output> {
    run(client()?
        .args(["pull", "--format=oci", reference])
        .arg(layout))
}

/// The digest a reference stands for.
pub fn digest(reference: &str) -> Result<String> {
    Ok(run(client()?.args(["digest", reference]))?
        .stdout
        .trim()
        .to_owned())
}

/// The tags of a repository, in the registry's order.
pub fn tags(repository: &str) -> Result<Vec<String>> {
    let stdout = run(client()?.args(["ls", repository]))?.stdout;
    Ok(stdout.lines().map(str::to_owned).collect())
}
