//! aria2, the downloader that reads metalinks and the `Link` fields of RFC 6249.

use std::path::Path;

use anyhow::Result;

use super::create_directory;
use crate::process::{Output, program, run};

/// Downloads a URL, or all that a metalink names, into a directory.
///
/// The file is named after the URL or by the metalink; `--out=NAME` among the options overrides it.
pub fn download(options: &[&str], url: &str, directory: &Path) -> Result<Output> {
    create_directory(directory)?;
    let mut command = program("aria2c")?;
    // Nobody's own settings, and no resolver of its own, which does not know loopback names.
    command.args(["--no-conf", "--async-dns=false", "--summary-interval=0"]);
    command.arg("--dir").arg(directory).args(options).arg(url);
    run(&mut command)
}
