//! The arguments of `mirror-tool report`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use oci_mirror::registry::authorities::Authorities;
use url::Url;

use super::connection;
use crate::exit::Usage;
use crate::report::{To, Token};

/// Tell the front end what this mirror holds.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// Directory of the tree.
    #[arg(long, value_name = "DIR")]
    pub(super) tree: PathBuf,
    /// The front end.
    #[arg(long, value_name = "URL", help = "The front end: https://HOST")]
    to: Url,
    #[command(flatten)]
    token: TokenFile,
    /// Hash everything again first, and tell the result.
    #[arg(long)]
    pub(super) verify: bool,
    /// Trust the certificate authorities in this PEM file too.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Write one JSON object to standard output.
    #[arg(long)]
    pub(super) json: bool,
}

/// Where the secret is by which a front end knows the mirror. Never an argument: everybody can read those.
#[derive(Debug, Args)]
pub(super) struct TokenFile {
    /// File that holds the token.
    #[arg(
        long,
        value_name = "FILE",
        help = "File that holds the token of `registry-proxy mirror token` [default: the variable MIRROR_TOKEN]"
    )]
    token_file: Option<PathBuf>,
    /// Send the token over plain HTTP, where everybody on the way can read it.
    #[arg(long)]
    allow_http: bool,
}

impl TokenFile {
    /// The front end at `url`, and by what it knows us.
    pub(super) fn to(&self, url: Url, tls_ca: Option<Authorities>) -> anyhow::Result<To> {
        let text = match &self.token_file {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the token in {}", path.display()))?,
            None => std::env::var("MIRROR_TOKEN")
                .map_err(|_| Usage("checking in needs --token-file or MIRROR_TOKEN"))?,
        };
        let token = Token::new(&text);
        if token.reveal().is_empty() {
            return Err(Usage("the token is empty").into());
        }
        let to = To { url, token, tls_ca };
        if !matches!(to.url.scheme(), "https" | "http") {
            return Err(Usage("a front end is https://HOST").into());
        }
        if to.is_overheard() && !self.allow_http {
            return Err(Usage(
                "everybody on the way could read the token: give https://, or --allow-http",
            )
            .into());
        }
        Ok(to)
    }
}

impl Report {
    /// Whom to tell.
    pub(super) fn to(&self) -> anyhow::Result<To> {
        let tls_ca = self.tls_ca.as_deref().map(connection::read).transpose()?;
        self.token.to(self.to.clone(), tls_ca)
    }
}
