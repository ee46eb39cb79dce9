//! The section `[crawler]`: how mirrors are checked.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use oci_mirror::registry::rate::Rate;
use oci_mirror::size::ByteSize;
use serde::Deserialize;
use url::Url;

use super::value::{duration, rate, web_address};

/// The section `[crawler]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Crawler {
    /// Whether the server crawls by itself; otherwise only `registry-proxy crawl` does.
    pub enabled: bool,
    /// Time between two crawls of a mirror.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// Whether public mirrors may be at loopback, link-local or private addresses. Such a URL would
    /// let whoever enters a mirror make the crawler talk to the inside of the network.
    pub allow_private_addresses: bool,
    /// How many mirrors are crawled at a time.
    pub concurrency: NonZeroU16,
    /// Within this time every blob of a mirror is looked at again.
    #[serde(deserialize_with = "duration")]
    pub recheck: Duration,
    /// Requests to one mirror; none: without bound.
    #[serde(deserialize_with = "rate")]
    pub rate: Option<Rate>,
    /// What is read of one mirror in a second; 0: without bound.
    pub bytes_per_second: ByteSize,
    /// What is read of one mirror in a day, to verify what it sends.
    pub daily_bytes: ByteSize,
    /// Where the people of a mirror find out who crawls it; none: at this machine.
    #[serde(deserialize_with = "web_address")]
    pub contact: Option<Url>,
    /// Files with further certificate authorities, for closed networks.
    pub authorities: Vec<PathBuf>,
    /// The program that lists what a mirror holds.
    pub rsync: PathBuf,
}

impl Default for Crawler {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(3600),
            allow_private_addresses: false,
            concurrency: NonZeroU16::MIN.saturating_add(15),
            recheck: Duration::from_secs(2 * 24 * 3600),
            rate: "50/s".parse().ok(),
            bytes_per_second: ByteSize(20 << 20),
            daily_bytes: ByteSize(2 << 30),
            contact: None,
            authorities: Vec::new(),
            rsync: "rsync".into(),
        }
    }
}
