//! skopeo, which copies images between registries and directories.
//!
//! Registries are reached over plain HTTP if they must.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{Output, program, run};

/// Copies an image; both sides are named with their transport, as in `docker://` and `oci:`.
///
/// Options of use: `--all` for every platform, `--preserve-digests`, `--src-creds=USER:PASSWORD`.
pub fn copy(options: &[&str], source: &str, destination: &str) -> Result<Output> {
    let mut command = program("skopeo")?;
    command.args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    run(command.args(options).args([source, destination]))
}

/// What skopeo says of an image: its digest, tags, layers, platform and labels.
pub fn inspect(options: &[&str], image: &str) -> Result<Value> {
    let mut command = program("skopeo")?;
    command
        .args(["inspect", "--tls-verify=false"])
        .args(options)
        .arg(image);
    serde_json::from_str(&run(&mut command)?.stdout)
        .with_context(|| format!("skopeo says what is not JSON of {image}"))
}

/// The manifest or index of an image as it is stored, every byte of it.
pub fn manifest(options: &[&str], image: &str) -> Result<String> {
    let mut command = program("skopeo")?;
    command
        .args(["inspect", "--tls-verify=false", "--raw"])
        .args(options)
        .arg(image);
    Ok(run(&mut command)?.stdout)
}

/// The tags of a repository, in the registry's order.
pub fn list_tags(options: &[&str], repository: &str) -> Result<Vec<String>> {
    let mut command = program("skopeo")?;
    command
        .args(["list-tags", "--tls-verify=false"])
        .args(options)
        .arg(repository);
    let answer: Value = serde_json::from_str(&run(&mut command)?.stdout)
        .with_context(|| format!("skopeo lists no tags of {repository}"))?;
    let tags = answer["Tags"]
        .as_array()
        .with_context(|| format!("no tags in {answer}"))?;
    Ok(tags
        .iter()
        .filter_map(|tag| tag.as_str().map(str::to_owned))
        .collect())
}
