//! The arguments of `mirror-tool export`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use oci_mirror::age::Age;
use oci_mirror::platform::Platform;
use oci_mirror::reference::RepoName;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::retry::Retry;
use regex::Regex;
use tokio_util::sync::CancellationToken;

use crate::export::Options;
use crate::export::order::Order;
use crate::export::progress::Progress;
use crate::export::select::Selection;
use crate::export::source::Source;
use crate::export::version::VersionRange;

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line and nothing else"
)]
pub(super) struct Export {
    /// Directory of the tree; made if it is not there.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// Where images come from; without a tag, all tags of it.
    #[arg(
        value_name = "SOURCE",
        required = true,
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
    /// File of registry logins, instead of those of podman and docker.
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Use plain HTTP.
    #[arg(long)]
    plain_http: bool,
    /// Trust the certificate authorities in this PEM file too.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Accept any certificate.
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// How many images to work on at once [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// How often to ask again when a registry fails [default: 5].
    #[arg(long, value_name = "N")]
    retries: Option<u8>,
    /// Say what would be fetched, linked and removed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write one JSON object to standard output at the end.
    #[arg(long)]
    pub(super) json: bool,
}

impl Export {
    pub(super) fn options(self, shutdown: CancellationToken) -> anyhow::Result<Options> {
        let tls_ca = match &self.tls_ca {
            None => None,
            Some(path) => Some(
                std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?
                    .into(),
            ),
        };
        let retry = Retry::default();
        let connection = client::Options {
            plain_http: self.plain_http,
            tls_ca,
            insecure_skip_tls_verify: self.insecure_skip_tls_verify,
            retry: Retry {
                retries: self.retries.map_or(retry.retries, usize::from),
                ..retry
            },
            ..client::Options::default()
        };
        let selection = Selection {
            tags: self.tags,
            exclude_tags: self.exclude_tags,
            semver: self.semver,
            latest: self.latest,
            min_age: self.min_age.map(Into::into),
        };
        let order = |source| Order {
            source,
            selection: selection.clone(),
            platforms: self.platforms.clone(),
            dest_name: self.dest_name.clone(),
            referrers: !self.no_referrers,
            prune: self.prune,
        };
        let defaults = Options::default();
        Ok(Options {
            tree: self.tree,
            orders: self.sources.into_iter().map(order).collect(),
            jobs: self.jobs.map_or(defaults.jobs, usize::from),
            dry_run: self.dry_run,
            accept_shrink: self.accept_shrink,
            connection,
            credentials: Credentials::load(self.authfile.as_deref())?,
            progress: Progress::for_stderr(),
            shutdown,
            ..defaults
        })
    }
}
