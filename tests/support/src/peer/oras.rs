//! oras, which moves artifacts of any kind and attaches them to images; over plain HTTP.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::go_tool;
use crate::process::{Output, run};

fn client(arguments: &[&str]) -> Result<Command> {
    let mut command = go_tool::program("oras")?;
    command.args(arguments);
    Ok(command)
}

/// Copies an image, with all platforms if it has several, into an OCI layout at a path.
pub fn pull(reference: &str, layout: &Path) -> Result<Output> {
    let mut command = client(&[
        "copy",
        "--no-tty",
        "--from-plain-http",
        "--to-oci-layout",
        reference,
    ])?;
    run(command.arg(format!("{}:pulled", layout.display())))
}

/// Attaches a file to an image as an artifact of a type.
pub fn attach(artifact_type: &str, reference: &str, file: &Path) -> Result<Output> {
    let mut command = client(&[
        "attach",
        "--no-tty",
        "--plain-http",
        "--disable-path-validation",
    ])?;
    command.args(["--artifact-type", artifact_type, reference]);
    run(command.arg(format!("{}:text/plain", file.display())))
}

/// The tags of a repository, in the registry's order.
pub fn tags(repository: &str) -> Result<Vec<String>> {
    let stdout = run(&mut client(&["repo", "tags", "--plain-http", repository])?)?.stdout;
    Ok(stdout.lines().map(str::to_owned).collect())
}

/// The types of the artifacts that are attached to an image, sorted; of one type, if one is given.
pub fn discover(reference: &str, artifact_type: Option<&str>) -> Result<Vec<String>> {
    let mut command = client(&["discover", "--no-tty", "--plain-http", "--format=json"])?;
    // Should the registry not have the API, oras must not find another way.
    command.arg("--distribution-spec=v1.1-referrers-api");
    if let Some(artifact_type) = artifact_type {
        command.args(["--artifact-type", artifact_type]);
    }
    let stdout = run(command.arg(reference))?.stdout;
    let answer: Value =
        serde_json::from_str(&stdout).with_context(|| format!("oras discovers {stdout}"))?;
    let listed = ["referrers", "manifests"]
        .iter()
        .find_map(|name| answer[name].as_array());
    let types = listed.into_iter().flatten();
    let mut types: Vec<String> = types
        .filter_map(|it| it["artifactType"].as_str().map(str::to_owned))
        .collect();
    types.sort();
    Ok(types)
}
