//! The section `[tls]`: the certificate, and which addresses speak TLS.

use std::path::PathBuf;

use oci_mirror::http::server::{ListenAddress, tls};
use serde::Deserialize;

use super::Config;
use super::value::some_addresses;

/// The section `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// The chain of certificates, ours first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The addresses that speak TLS, if these are others than those of `listen`.
    #[serde(default, deserialize_with = "of_its_own")]
    pub listen: Option<Vec<ListenAddress>>,
}

impl Tls {
    /// The files of the pair.
    pub fn files(&self) -> tls::Files {
        tls::Files {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

/// What is spoken on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP as it is.
    Clear,
    /// HTTP over TLS.
    Tls,
}

impl Config {
    /// Every address to listen on, and what is spoken there: TLS on those of `tls.listen` if there is
    /// such a list, else on all TCP addresses if there is a section `[tls]`. Never on a unix socket.
    pub fn listeners(&self) -> Vec<(ListenAddress, Spoken)> {
        let plain = self
            .listen
            .iter()
            .map(|address| match (address, &self.tls) {
                (ListenAddress::Tcp(_), Some(Tls { listen: None, .. })) => (address, Spoken::Tls),
                _ => (address, Spoken::Clear),
            });
        let own = self.tls.iter().flat_map(|tls| tls.listen.iter().flatten());
        plain
            .chain(own.map(|address| (address, Spoken::Tls)))
            .map(|(address, spoken)| (address.clone(), spoken))
            .collect()
    }
}

fn of_its_own<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<ListenAddress>>, D::Error> {
    let addresses = some_addresses(deserializer)?;
    if let Some(unix) = addresses
        .iter()
        .find(|a| matches!(a, ListenAddress::Unix(_)))
    {
        return Err(serde::de::Error::custom(format!(
            "{unix} is always in the clear: name it in listen"
        )));
    }
    Ok(Some(addresses))
}
