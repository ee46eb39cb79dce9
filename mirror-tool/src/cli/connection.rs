//! The arguments that say how to talk to registries.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use oci_mirror::registry::authorities::Authorities;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::retry::Retry;

/// How to talk to registries.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// File of registry logins, instead of those of podman and docker.
    #[arg(long, value_name = "FILE")]
    pub(super) authfile: Option<PathBuf>,
    /// Use plain HTTP.
    #[arg(long)]
    plain_http: bool,
    /// Trust the certificate authorities in this PEM file too.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Accept any certificate.
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// How often to ask again when a registry fails [default: 5].
    #[arg(long, value_name = "N")]
    pub(super) retries: Option<u8>,
}

impl Connection {
    pub(super) fn options(&self) -> anyhow::Result<client::Options> {
        let retry = Retry::default();
        Ok(client::Options {
            plain_http: self.plain_http,
            tls_ca: self.tls_ca.as_deref().map(read).transpose()?,
            insecure_skip_tls_verify: self.insecure_skip_tls_verify,
            retry: Retry {
                retries: self.retries.map_or(retry.retries, usize::from),
                ..retry
            },
            ..client::Options::default()
        })
    }

    pub(super) fn credentials(&self) -> anyhow::Result<Credentials> {
        Ok(Credentials::load(self.authfile.as_deref())?)
    }
}

/// Reads a file of certificates.
pub(super) fn read(path: &Path) -> anyhow::Result<Authorities> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Authorities::from_pem(&bytes)
        .with_context(|| format!("cannot use the authorities of {}", path.display()))
}
