//! The arguments of `mirror-tool site-config`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use oci_mirror::tree::path::Module;

use crate::exit::Usage;
use crate::site_config::{HostName, Kind, Options, Place};
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
    host: HostName,
    /// Name of the rsync module [default: that of the tree's list]
    #[arg(long, value_name = "NAME")]
    module: Option<Module>,
    /// Answer pulls without a front end too, from files in DIR or beside the tree.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "")]
    static_v2: Option<OsString>,
    /// Whom the timer follows; may be repeated.
    #[arg(long, value_name = "URL", value_parser = source)]
    from: Vec<String>,
    /// Most connections of the rsync daemon.
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_connections: u32,
}

impl SiteConfig {
    /// What the configuration is made of.
    pub(super) fn options(self) -> anyhow::Result<Options> {
        let place = |path: PathBuf| {
            Place::try_from(path)
                .map_err(|error| anyhow::Error::new(Usage(NO_PLACE)).context(error))
        };
        let directory = self
            .static_v2
            .map(|directory| static_v2(&self.tree, directory));
        Ok(Options {
            kind: self.kind,
            static_v2: directory.map(place).transpose()?,
            tree: place(self.tree)?,
            host: self.host,
            module: self.module,
            from: self.from,
            max_connections: self.max_connections,
        })
    }
}

const NO_PLACE: &str = "give it another name, or a link with another name";

/// A text that `mirror-tool sync` takes for a source.
fn source(text: &str) -> Result<String, String> {
    match text.parse::<Source>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The directory of the files for direct pulls: as given, or `TREE.v2` if nothing is.
pub(super) fn static_v2(tree: &Path, given: OsString) -> PathBuf {
    if !given.is_empty() {
        return given.into();
    }
    let mut beside = OsString::from(tree.components().as_path());
    beside.push(".v2");
    beside.into()
}
