//! What the clients that `tests/peers/go-tools` builds have in common.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::isolated;
use crate::samples::target_directory;

/// One of them, without any configuration of the user's.
pub(super) fn program(name: &str) -> Result<Command> {
    let path = target_directory()?.join("peers/bin").join(name);
    if !path.is_file() {
        bail!("{} is not built: run tests/peers/go-tools", path.display());
    }
    let mut command = isolated(&path);
    // Where there is no home there are no logins and no settings.
    for variable in [
        "DOCKER_CONFIG",
        "REGCTL_CONFIG",
        "REGISTRY_AUTH_FILE",
        "XDG_RUNTIME_DIR",
    ] {
        command.env_remove(variable);
    }
    command.env("HOME", "/nonexistent");
    Ok(command)
}
