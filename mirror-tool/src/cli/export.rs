//! The arguments of `mirror-tool export`.

use std::collections::HashMap;
use std::num::{NonZero, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use oci_mirror::age::Age;
use oci_mirror::platform::Platform;
use oci_mirror::reference::RepoName;
use oci_mirror::registry::client;
use oci_mirror::registry::rate::Rate;
use regex::Regex;
use tokio_util::sync::CancellationToken;

use super::connection::read;
use crate::exit::Usage;
use crate::export::config::{Config, ConfiguredSource, Connection, PerSource as Choices};
use crate::export::progress::Progress;
use crate::export::source::Source;
use crate::export::version::VersionRange;
use crate::export::{Options, Order};

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line and nothing else"
)]
pub(super) struct Export {
    /// Directory of the tree; made if it is not there.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    tree: Option<PathBuf>,
    /// TOML file of sources and their options; flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where images come from; without a tag, all tags of it.
    #[arg(
        value_name = "SOURCE",
        required_unless_present = "config",
        help = "[docker://]HOST[:PORT]/NAME[:TAG|@DIGEST] or oci:DIR[:REF]; without a tag, all tags"
    )]
    sources: Vec<Source>,
    /// Only tags that match, of sources that name none.
    #[arg(long, value_name = "REGEX")]
    tags: Option<Regex>,
    /// No tags that match; holds for signatures and the like too.
    #[arg(long, value_name = "REGEX")]
    exclude_tags: Option<Regex>,
    /// Only tags that are versions in this range, such as `>=1.2 <2` or `^3 || ^4`.
    #[arg(long, value_name = "RANGE")]
    semver: Option<VersionRange>,
    /// Only the newest N tags of what the other filters leave: by version, those that are none by the
    /// creation time of their image.
    #[arg(long, value_name = "N")]
    latest: Option<NonZeroUsize>,
    /// Only images created at least so long ago: 7d, 36h, 90m.
    #[arg(long, value_name = "DURATION")]
    min_age: Option<Age>,
    /// Only images for this platform; may be repeated. An index is kept as published, what it lists
    /// for other platforms is left out.
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    platforms: Vec<Platform>,
    /// Leave out what belongs to images: signatures, attestations, SBOMs.
    #[arg(long)]
    no_referrers: bool,
    /// Name of the repository in the tree, instead of the source's own.
    #[arg(long, value_name = "NAME")]
    dest_name: Option<RepoName>,
    /// Take tags that have left the source, or that the filters no longer let through, out of the tree;
    /// needs sources without a tag.
    #[arg(long)]
    prune: bool,
    /// Let --prune take more than half of a repository's tags.
    #[arg(long, requires = "prune")]
    accept_shrink: bool,
    #[command(flatten)]
    connection: super::connection::Connection,
    /// How many images to work on at once [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// How many requests may be under way at once, for each registry.
    #[arg(long, value_name = "N")]
    max_concurrent: Option<NonZeroUsize>,
    /// How many requests may be made in what time, for each registry: 10/s, 100/6h.
    #[arg(long, value_name = "N/TIME")]
    rate: Option<Rate>,
    /// Say what would be fetched, linked and removed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write one JSON object to standard output at the end.
    #[arg(long)]
    pub(super) json: bool,
}

impl Export {
    pub(super) fn options(self, shutdown: CancellationToken) -> anyhow::Result<Options> {
        let config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let Some(tree) = self.tree.clone().or_else(|| config.tree.clone()) else {
            return Err(Usage("no tree is named: use --tree, or `tree` in the file").into());
        };
        let orders = self.orders(&config);
        if orders.is_empty() {
            return Err(Usage("no source is named, neither here nor in the file").into());
        }
        let mut flags = self.connection;
        flags.retries = flags.retries.or(config.retries);
        flags.authfile = flags.authfile.or(config.authfile);
        let connection = client::Options {
            rate: self.rate,
            max_concurrent: self.max_concurrent,
            ..flags.options()?
        };
        let mut connections = HashMap::new();
        for (host, own) in &config.registries {
            connections.insert(host.clone(), special(&connection, own)?);
        }
        let defaults = Options::default();
        Ok(Options {
            tree,
            orders,
            module: config.module,
            jobs: self.jobs.or(config.jobs).map_or(defaults.jobs, usize::from),
            dry_run: self.dry_run,
            accept_shrink: self.accept_shrink,
            connection,
            connections,
            credentials: flags.credentials()?,
            progress: Progress::for_stderr(),
            shutdown,
            ..defaults
        })
    }

    /// The sources of the file, then those of the command line.
    fn orders(&self, config: &Config) -> Vec<Order> {
        let flags = self.choices();
        let configured = config.sources.iter().map(|source| {
            let choices = flags.clone().over(&config.options_of(source));
            order(source.from.clone(), choices)
        });
        let named = self.sources.iter().map(|source| {
            let source = ConfiguredSource {
                from: source.clone(),
                options: flags.clone(),
            };
            let choices = config.options_of(&source);
            order(source.from, choices)
        });
        configured.chain(named).collect()
    }

    /// What the flags say of every source.
    fn choices(&self) -> Choices {
        Choices {
            tags: self.tags.clone(),
            exclude_tags: self.exclude_tags.clone(),
            semver: self.semver.clone(),
            latest: self.latest,
            min_age: self.min_age,
            platforms: (!self.platforms.is_empty()).then(|| self.platforms.clone()),
            dest_name: self.dest_name.clone(),
            referrers: self.no_referrers.then_some(false),
            prune: self.prune.then_some(true),
        }
    }
}

fn order(source: Source, choices: Choices) -> Order {
    Order {
        source,
        selection: choices.selection(),
        platforms: choices.platforms.unwrap_or_default(),
        dest_name: choices.dest_name,
        referrers: choices.referrers.unwrap_or(true),
        prune: choices.prune.unwrap_or(false),
    }
}

/// How a registry is talked to that the file has a table for.
fn special(general: &client::Options, own: &Connection) -> anyhow::Result<client::Options> {
    let mut options = general.clone();
    // A flag that was given holds for all of them.
    options.plain_http |= own.plain_http.unwrap_or(false);
    options.insecure_skip_tls_verify |= own.insecure_skip_tls_verify.unwrap_or(false);
    if let (None, Some(path)) = (&general.tls_ca, &own.tls_ca) {
        options.tls_ca = Some(read(path)?);
    }
    options.rate = options.rate.or(own.requests);
    let most = own.max_concurrent.map(NonZero::<usize>::from);
    options.max_concurrent = options.max_concurrent.or(most);
    Ok(options)
}
