//! librepo, with which dnf downloads: it reads metalinks of version 3 for one file, `repomd.xml`.

use std::path::Path;

use anyhow::Result;

use super::create_directory;
use crate::process::{Output, program, run};

/// Downloads the `repomd.xml` that a metalink names to `repodata/` of a directory, checked against the
/// metalink's digest.
pub fn download(metalink: &str, directory: &Path) -> Result<Output> {
    create_directory(directory)?;
    let mut command = program("python3")?;
    run(command.args(["-c", SCRIPT, metalink]).arg(directory))
}

/// Debian has librepo as a library for Python only.
const SCRIPT: &str = "
import sys, librepo
handle = librepo.Handle()
handle.repotype = librepo.YUMREPO
handle.metalinkurl, handle.destdir = sys.argv[1:]
handle.yumdlist = []
handle.perform(librepo.Result())
";
