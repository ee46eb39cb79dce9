//! regctl, the client of regclient, over plain HTTP.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::go_tool;
use crate::process::{Output, run};

/// The command, told that the host of a reference speaks plain HTTP.
fn client(reference: &str) -> Result<Command> {
    let host = reference
        .split_once('/')
        .map_or(reference, |(host, _)| host);
    let mut command = go_tool::program("regctl")?;
    command
        .arg("--host")
        .arg(format!("reg={host},tls=disabled"));
    Ok(command)
}

/// Copies an image, with all platforms if it has several, into an OCI layout at a path.
pub fn pull(reference: &str, layout: &Path) -> Result<Output> {
    let mut command = client(reference)?;
    command.args(["image", "copy", reference]);
    run(command.arg(format!("ocidir://{}:pulled", layout.display())))
}

/// The tags of a repository, in the registry's order.
pub fn tags(repository: &str) -> Result<Vec<String>> {
    let stdout = run(client(repository)?.args(["tag", "ls", repository]))?.stdout;
    Ok(stdout.lines().map(str::to_owned).collect())
}

/// The types of the artifacts that are attached to an image, sorted; of one type, if one is given.
pub fn artifacts(reference: &str, artifact_type: Option<&str>) -> Result<Vec<String>> {
    let mut command = client(reference)?;
    command.args(["artifact", "list", "--format={{json .Descriptors}}"]);
    if let Some(artifact_type) = artifact_type {
        command.args(["--filter-artifact-type", artifact_type]);
    }
    let stdout = run(command.arg(reference))?.stdout;
    let listed: Option<Vec<Value>> =
        serde_json::from_str(&stdout).with_context(|| format!("regctl lists {stdout}"))?;
    let mut types: Vec<String> = listed
        .unwrap_or_default()
        .iter()
        .filter_map(|it| it["artifactType"].as_str().map(str::to_owned))
        .collect();
    types.sort();
    Ok(types)
}
