//! Ready configuration for the servers of a mirror, with the habits that mirror networks have agreed on.
//!
//! A tree needs none of it: any web server hands it out right as it is. What is here makes a good neighbour:
//! connections are kept and counted, content that never changes may be cached for ever and all else is asked
//! about again, nothing is compressed a second time, what rsync has not finished is not shown, an rsync
//! daemon computes no checksums for strangers, and the log says how much was really sent.
//!
//! The samples in `contrib/` are what is printed here for `/srv/containers` at `mirror.example.org`.

mod apache;
mod caddy;
mod nginx;
mod place;
mod rsyncd;
pub mod static_v2;
mod systemd;

use anyhow::Context as _;
use clap::ValueEnum;
use oci_mirror::tree::Tree;
use oci_mirror::tree::path::Module;
use oci_mirror::tree::reader;

use crate::exit::Usage;
use crate::say::say;
pub use place::{HostName, Invalid, Place};

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
    pub tree: Place,
    /// The name under which it is served.
    pub host: HostName,
    /// The name of the rsync module; `None` for that of the tree's list.
    pub module: Option<Module>,
    /// The directory of the files for direct pulls; `None` for no direct pulls.
    pub static_v2: Option<Place>,
    /// Whom the timer follows, as `sync --from` takes it.
    pub from: Vec<String>,
    /// Most connections of the rsync daemon.
    pub max_connections: u32,
}

/// Makes the configuration, and the files for direct pulls if it refers to them.
pub fn run(options: &Options) -> anyhow::Result<String> {
    let (tree, host, pulls) = (&options.tree, &options.host, options.static_v2.as_ref());
    match (options.kind, pulls) {
        (Kind::Nginx | Kind::Apache, Some(directory)) => make_files(tree, directory)?,
        (Kind::Caddy | Kind::Rsyncd, Some(_)) => return Err(Usage(NO_PULLS).into()),
        (Kind::Systemd, Some(_)) | (_, None) => {}
    }
    Ok(match options.kind {
        Kind::Nginx => nginx::site(tree, host, pulls),
        Kind::Apache => apache::site(tree, host, pulls),
        Kind::Caddy => caddy::site(tree, host),
        Kind::Rsyncd => {
            let list = list_of(tree)?;
            let module = options.module.as_ref().unwrap_or(&list);
            if rsyncd::is_taken(module) {
                return Err(Usage(TAKEN).into());
            }
            rsyncd::modules(tree, module, &list, options.max_connections)
        }
        Kind::Systemd if options.from.is_empty() => return Err(Usage(NOBODY).into()),
        Kind::Systemd => systemd::units(tree, pulls, &options.from),
    })
}

/// Most connections of one address at a time: containerd opens one for each layer of an image.
const CONNECTIONS: u32 = 32;

const NO_PULLS: &str = "--static-v2 is for nginx, apache and systemd";

const TAKEN: &str =
    "`above` and `global` mean something else there: --module NAME gives another name";

const NOBODY: &str = "a timer must know whom to follow: --from URL";

/// The files that the configuration refers to, if there is a tree to make them from.
fn make_files(tree: &Place, directory: &Place) -> anyhow::Result<()> {
    if !tree.path().exists() {
        say(format_args!(
            "there is no {tree} yet: `mirror-tool sync --static-v2` is going to make {directory}"
        ));
        return Ok(());
    }
    let updated = static_v2::update(&Tree::open(tree.path())?, directory.path())?;
    say(format_args!("{directory}: {updated}"));
    Ok(())
}

/// The name of the tree's list; what a tree is called by default if there is none yet.
fn list_of(tree: &Place) -> anyhow::Result<Module> {
    let found = match Tree::open(tree.path()) {
        Ok(tree) => tree.state(),
        Err(error) => Err(error),
    };
    match found {
        Ok(state) => Ok(state.list.map(|list| list.module).unwrap_or_default()),
        Err(error) if is_absent(&error) => Ok(Module::default()),
        Err(error) => Err(error).context("cannot learn the name of the list; --module tells it"),
    }
}

fn is_absent(error: &reader::Error) -> bool {
    match error {
        reader::Error::Root { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        error => error.is_not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kind: Kind) -> Options {
        Options {
            kind,
            tree: std::path::PathBuf::from("/srv/containers")
                .try_into()
                .unwrap(),
            host: "mirror.example.org".parse().unwrap(),
            module: Some(Module::default()),
            static_v2: None,
            from: vec!["rsync://containers.example.org/containers".to_owned()],
            max_connections: 100,
        }
    }

    #[test]
    fn the_samples_are_what_is_printed() {
        for (kind, sample) in [
            (Kind::Nginx, include_str!("../../../contrib/nginx.conf")),
            (Kind::Apache, include_str!("../../../contrib/apache.conf")),
            (Kind::Caddy, include_str!("../../../contrib/Caddyfile")),
            (Kind::Rsyncd, include_str!("../../../contrib/rsyncd.conf")),
            (
                Kind::Systemd,
                concat!(
                    "# /etc/systemd/system/mirror-sync.service\n",
                    include_str!("../../../contrib/mirror-sync.service"),
                    "\n# /etc/systemd/system/mirror-sync.timer\n",
                    include_str!("../../../contrib/mirror-sync.timer"),
                ),
            ),
        ] {
            let printed = run(&options(kind)).unwrap();
            assert!(printed == sample, "{kind:?} is now:\n{printed}");
        }
    }

    #[test]
    fn what_cannot_be_is_wrong_usage() {
        let pulls = |kind| Options {
            static_v2: Some(std::path::PathBuf::from("/srv/v2").try_into().unwrap()),
            ..options(kind)
        };
        let nobody = Options {
            from: Vec::new(),
            ..options(Kind::Systemd)
        };
        let called = |module: &str| Options {
            module: Some(module.parse().unwrap()),
            ..options(Kind::Rsyncd)
        };
        for options in [
            pulls(Kind::Caddy),
            pulls(Kind::Rsyncd),
            called("above"),
            called("global"),
            nobody,
        ] {
            let error = run(&options).unwrap_err();
            assert!(error.is::<Usage>(), "{error}");
        }
    }
}
