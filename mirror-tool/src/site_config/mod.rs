//! Ready configuration for the servers of a mirror.

pub mod static_v2;

use std::path::PathBuf;

use clap::ValueEnum;

/// For what the configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A site of nginx.
    Nginx,
    /// A virtual host of Apache.
    Apache,
    /// A site of Caddy.
    Caddy,
    /// Modules of an rsync daemon.
    Rsyncd,
    /// A service and a timer that run `mirror-tool sync`.
    Systemd,
}

/// What the configuration is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// For what.
    pub kind: Kind,
    /// The tree.
    pub tree: PathBuf,
    /// The name under which it is served.
    pub host: String,
    /// The name of the rsync module; `None` for that of the tree's list.
    pub module: Option<String>,
    /// The directory of the files for direct pulls; `None` for no direct pulls.
    pub static_v2: Option<PathBuf>,
    /// Whom the timer follows.
    pub from: Vec<crate::sync::Source>,
    /// Most connections of the rsync daemon.
    pub max_connections: u32,
}

/// Makes the configuration.
pub fn run(options: &Options) -> anyhow::Result<String> {
    anyhow::bail!("no configuration for {:?} yet", options.kind)
}
