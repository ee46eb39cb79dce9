//! The arguments of `mirror-tool site-config`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::site_config::{Kind, Options};
use crate::sync::Source;

/// Write ready configuration for a mirror to standard output.
#[derive(Debug, Args)]
pub(super) struct SiteConfig {
    /// For what.
    #[arg(value_enum)]
    kind: Kind,
    /// Directory of the tree.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// Name under which the mirror is served.
    #[arg(long, value_name = "NAME")]
    host: String,
    /// Name of the rsync module [default: that of the tree's list]
    #[arg(long, value_name = "NAME")]
    module: Option<String>,
    /// Answer pulls without a front end too, from files in DIR or beside the tree.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "")]
    static_v2: Option<PathBuf>,
    /// Whom the timer follows; may be repeated.
    #[arg(long, value_name = "URL")]
    from: Vec<Source>,
    /// Most connections of the rsync daemon.
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_connections: u32,
}

impl SiteConfig {
    /// What the configuration is made of.
    pub(super) fn options(self) -> Options {
        Options {
            kind: self.kind,
            static_v2: self
                .static_v2
                .map(|directory| static_v2(&self.tree, directory)),
            tree: self.tree,
            host: self.host,
            module: self.module,
            from: self.from,
            max_connections: self.max_connections,
        }
    }
}

/// The directory of the files for direct pulls: as given, or `TREE.v2`.
pub(super) fn static_v2(tree: &Path, given: PathBuf) -> PathBuf {
    if !given.as_os_str().is_empty() {
        return given;
    }
    let mut beside = OsString::from(tree.components().as_path());
    beside.push(".v2");
    beside.into()
}
