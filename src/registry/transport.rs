//! The HTTP client beneath everything sent to a registry and its token service.
//!
//! Proxies are taken from the environment as other tools take them: `HTTP_PROXY`, `HTTPS_PROXY`,
//! `ALL_PROXY` and `NO_PROXY`, in capitals or not. Entries of the latter are names, which stand for those below
//! them too, addresses, networks, or `*`; ports are not looked at.

use std::error::Error as _;
use std::io;
use std::iter::successors;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::redirect::{Attempt, Policy};
use tokio::time::Instant;
use url::Url;

use super::client::Options;

/// How we introduce ourselves.
const USER_AGENT: &str = concat!("oci-mirror/", env!("CARGO_PKG_VERSION"));

/// Most redirects followed; containerd, docker and podman stop there too.
const MAX_REDIRECTS: usize = 10;

/// Where an answer may send us. Never from `https` to `http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    /// Anywhere, as blobs are kept elsewhere. The client leaves `Authorization` behind.
    Anywhere,
    /// Within the same host: the request itself holds a secret.
    SameHost,
}

pub(super) fn client(
    options: &Options,
    redirects: Redirects,
) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout)
        .redirect(Policy::custom(move |attempt| {
            let Some(from) = attempt.previous().last() else {
                return attempt.follow();
            };
            if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error("too many redirects")
            } else if from.scheme() == "https" && attempt.url().scheme() != "https" {
                attempt.error("redirect from https to plain http")
            } else if redirects == Redirects::SameHost && !is_same_host(from, &attempt) {
                // The redirect itself is then the answer, and no success.
                attempt.stop()
            } else {
                attempt.follow()
            }
        }))
        .referer(false)
        .http2_adaptive_window(true)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .tls_danger_accept_invalid_certs(options.insecure_skip_tls_verify);
    if let Some(authorities) = &options.tls_ca {
        builder = builder.tls_certs_merge(authorities.certificates());
    }
    // reqwest takes the `*` for names only, and would still ask a proxy for addresses.
    let exceptions = ["NO_PROXY", "no_proxy"].map(std::env::var);
    if exceptions
        .iter()
        .flatten()
        .next()
        .is_some_and(|list| names_everything(list))
    {
        builder = builder.no_proxy();
    }
    builder.build()
}

/// Whether the same request may end better later. A certificate that is refused stays so.
pub(super) fn is_temporary(error: &reqwest::Error) -> bool {
    !error.is_redirect() && !error.is_builder() && !is_tls_refused(error)
}

/// Whether no connection came about because of what the peer said or showed at its start: its
/// certificate, or something that is not TLS at all.
pub(super) fn is_tls_refused(error: &reqwest::Error) -> bool {
    let causes = successors(error.source(), |error| (*error).source());
    let mut causes = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
    error.is_connect() && causes.any(is_invalid_data)
}

/// An I/O error that wraps another does not name it as its source.
fn is_invalid_data(error: &io::Error) -> bool {
    let wrapped = error.get_ref().and_then(|it| it.downcast_ref());
    error.kind() == io::ErrorKind::InvalidData || wrapped.is_some_and(is_invalid_data)
}

/// Whether a list of exceptions from the proxy leaves nothing to it.
fn names_everything(list: &str) -> bool {
    list.split(',').any(|entry| entry.trim() == "*")
}

fn is_same_host(from: &Url, attempt: &Attempt<'_>) -> bool {
    from.origin() == attempt.url().origin()
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is longer than it may be.
    TooLarge,
    /// It was not whole in time; so much had come.
    TooSlow(usize),
    /// The connection broke.
    Broken(reqwest::Error),
}

/// Reads a body that may have at most `limit` bytes and take at most `patience`.
///
/// A length that is announced is not believed: room is made only for what has come.
pub(super) async fn read(
    response: &mut reqwest::Response,
    limit: u64,
    patience: Duration,
) -> Result<Bytes, Unread> {
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(Unread::TooLarge);
    }
    let mut body = BytesMut::new();
    let deadline = Instant::now() + patience;
    loop {
        let chunk = tokio::time::timeout_at(deadline, response.chunk())
            .await
            .map_err(|_| Unread::TooSlow(body.len()))?;
        match chunk.map_err(Unread::Broken)? {
            None => return Ok(body.freeze()),
            Some(chunk) if (body.len() + chunk.len()) as u64 > limit => {
                return Err(Unread::TooLarge);
            }
            Some(chunk) => body.extend_from_slice(&chunk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_of_its_own_is_everything() {
        for (list, everything) in [
            ("*", true),
            ("example.com, *", true),
            ("", false),
            ("*.example.com", false),
        ] {
            assert_eq!(names_everything(list), everything, "{list}");
        }
    }
}
