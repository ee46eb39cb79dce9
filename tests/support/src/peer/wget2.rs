//! wget2, a downloader that follows a metalink wherever it meets one.

use std::path::Path;

use anyhow::Result;

use super::create_directory;
use crate::process::{Output, program, run};

/// Downloads a URL, or what the metalink found there names, into a directory.
///
/// Of a mirror that sends wrong bytes wget2 asks for them again for ever: the deadline of [`run`] ends it.
pub fn download(options: &[&str], url: &str, directory: &Path) -> Result<Output> {
    create_directory(directory)?;
    let mut command = program("wget2")?;
    // Nobody's own settings; what it keeps of servers stays with the download.
    command.args(["--no-config", "--no-hsts", "--tries=2", "--progress=none"]);
    command.current_dir(directory).env("HOME", directory);
    run(command.args(options).arg(url))
}
