//! The arguments of `mirror-tool sync`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use oci_mirror::age::Age;
use oci_mirror::repo_glob::RepoGlob;
use oci_mirror::size::ByteSize;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{connection, report};
use crate::sync::{Filter, Options, Source};

/// Follow another tree.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(super) struct Sync {
    /// Directory of the tree; made if it is not there.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// Where from; may be repeated, and is tried in this order.
    #[arg(
        long,
        value_name = "URL",
        required = true,
        help = "Where from: rsync://HOST/MODULE[/PATH], https://HOST/PATH (such as https://FRONTEND/tree) \
                or file:///PATH; may be repeated, and is tried in this order"
    )]
    from: Vec<Source>,
    /// Only repositories whose names match; may be repeated.
    #[arg(long, value_name = "GLOB")]
    repositories: Vec<RepoGlob>,
    /// No repositories whose names match; may be repeated.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<RepoGlob>,
    /// For how long what is gone over there is kept here: 7d, 36h, 90m, 0.
    #[arg(long, value_name = "DURATION", default_value = "1d")]
    grace: Age,
    /// Most bytes per second: 10MiB.
    #[arg(long, value_name = "SIZE")]
    bandwidth: Option<ByteSize>,
    /// Connections at a time, over HTTP.
    #[arg(long, value_name = "N", default_value = "8")]
    jobs: NonZeroUsize,
    /// How often a transfer that failed is tried again.
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u8,
    /// Follow a tree that has lost more than half of what it had.
    #[arg(long)]
    accept_shrink: bool,
    /// Follow a tree that is older than the one followed last.
    #[arg(long)]
    accept_older: bool,
    /// Look at every file here, and fetch what is missing or has another length.
    #[arg(long)]
    check: bool,
    /// Most entries the list over there may have.
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    max_entries: u64,
    /// Keep files for direct pulls up to date, in DIR or beside the tree.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "")]
    static_v2: Option<OsString>,
    /// Check in with this front end afterwards.
    #[arg(long, value_name = "URL")]
    report: Option<Url>,
    #[command(flatten)]
    token: report::TokenFile,
    /// Trust the certificate authorities in this PEM file too.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write one JSON object to standard output.
    #[arg(long)]
    pub(super) json: bool,
}

impl Sync {
    /// The options of a run that ends when `shutdown` is cancelled.
    pub(super) fn options(self, shutdown: CancellationToken) -> anyhow::Result<Options> {
        let tls_ca = self.tls_ca.as_deref().map(connection::read).transpose()?;
        let report = match self.report {
            None => None,
            Some(url) => Some(self.token.to(url, tls_ca.clone())?),
        };
        let static_v2 = self
            .static_v2
            .map(|directory| super::site_config::static_v2(&self.tree, directory));
        Ok(Options {
            from: self.from,
            filter: Filter {
                only: self.repositories,
                except: self.exclude,
            },
            grace: self.grace.into(),
            bandwidth: self.bandwidth.map(|size| size.0.max(1)),
            jobs: self.jobs,
            retries: self.retries,
            accept_shrink: self.accept_shrink,
            accept_older: self.accept_older,
            check: self.check,
            max_entries: self.max_entries,
            static_v2,
            report,
            tls_ca,
            dry_run: self.dry_run,
            now: None,
            shutdown,
            tree: self.tree,
        })
    }
}
