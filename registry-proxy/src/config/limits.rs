//! The section `[limits]`: what one client, or all of them together, may take.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use oci_mirror::http::server::{self, MIN_HEADER_BYTES};
use oci_mirror::size::ByteSize;
use serde::{Deserialize, Deserializer};

use super::value::duration;

/// Largest room there may be for the head of a request: each connection may fill it.
const MAX_HEADER_BYTES: usize = 1 << 20;

/// The section `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Open connections; further ones wait.
    pub connections: NonZeroUsize,
    /// Open connections of one address or IPv6 network of 64 bits; further ones are closed.
    pub connections_per_address: Option<NonZeroUsize>,
    /// Longest time to send the head of a request.
    #[serde(deserialize_with = "duration")]
    pub header_time: Duration,
    /// Largest head of a request.
    #[serde(deserialize_with = "header_bytes")]
    pub header_bytes: usize,
    /// How long a connection without a request is kept.
    #[serde(deserialize_with = "duration")]
    pub idle_time: Duration,
    /// The time over which a client must have taken something of what is sent to it.
    #[serde(deserialize_with = "duration")]
    pub stall_time: Duration,
    /// What a client must take in a second, on the average of a stall time.
    pub min_rate: ByteSize,
    /// Requests under way at a time on a connection of HTTP/2.
    pub streams: NonZeroU32,
    /// How long requests may go on after the end was asked for.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = server::Limits::default();
        Self {
            connections: NonZeroUsize::new(limits.connections).unwrap_or(NonZeroUsize::MIN),
            connections_per_address: limits.connections_per_address.and_then(NonZeroUsize::new),
            header_time: limits.header_time,
            header_bytes: limits.header_bytes,
            idle_time: limits.idle_time,
            stall_time: limits.stall_time,
            min_rate: ByteSize(limits.min_rate),
            streams: NonZeroU32::new(limits.streams).unwrap_or(NonZeroU32::MIN),
            grace: limits.grace,
        }
    }
}

impl From<&Limits> for server::Limits {
    fn from(limits: &Limits) -> Self {
        Self {
            // More than there can be descriptors is no limit.
            connections: limits.connections.get().min(1 << 24),
            connections_per_address: limits.connections_per_address.map(NonZeroUsize::get),
            header_time: limits.header_time,
            header_bytes: limits.header_bytes,
            idle_time: limits.idle_time,
            stall_time: limits.stall_time,
            min_rate: limits.min_rate.0,
            streams: limits.streams.get(),
            grace: limits.grace,
        }
    }
}

fn header_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let size = ByteSize::deserialize(deserializer)?;
    match usize::try_from(size.0) {
        Ok(size @ MIN_HEADER_BYTES..=MAX_HEADER_BYTES) => Ok(size),
        _ => Err(serde::de::Error::custom("it must be from 8 KiB to 1 MiB")),
    }
}
