//! What rsync is asked for: an address that was checked, and a path it takes as it stands.
//!
//! rsync would look the name up anew, and so could be sent elsewhere than to the address that was checked. A
//! daemon is not told by which name it was called, so it is called by the address. It expands wildcards in the
//! path, and older ones cut it at spaces; no mirror needs either.

use std::net::SocketAddr;

use url::Url;

use super::Error;
use crate::crawler::guard::Policy;
use crate::network::BaseUrl;
use crate::network::base_url::Scheme;

/// Most addresses of one mirror that are tried.
const MAX_ADDRESSES: usize = 3;

/// The blobs of a mirror, as its daemon knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    host: String,
    port: u16,
    /// From the module on.
    path: String,
}

impl Target {
    /// What a URL names, if rsync can be asked for it.
    pub(super) fn of(base: &BaseUrl) -> Result<Self, Error> {
        let parts = || {
            let url = Url::parse(base.as_str()).ok()?;
            let path = decode(url.path().trim_matches('/'))?;
            let harmless = |c: char| {
                !c.is_control() && !c.is_whitespace() && !matches!(c, '*' | '?' | '[' | ']' | '\\')
            };
            let is_usable = base.scheme() == Scheme::Rsync
                && path.chars().all(harmless)
                && path.split('/').all(|part| !matches!(part, "." | ".."));
            let (host, port) = base.host_and_port().filter(|_| is_usable)?;
            let blobs = format!("{path}/blobs/");
            Some(Self {
                host,
                port,
                path: blobs.trim_start_matches('/').to_owned(),
            })
        };
        parts().ok_or_else(|| Error::Url(base.clone()))
    }

    /// The addresses at which it may be asked for, best first.
    pub(super) async fn addresses(&self, policy: Policy) -> Result<Vec<SocketAddr>, Error> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = found.map_err(|source| Error::Resolve {
            host: self.host.clone(),
            source,
        })?;
        let permitted = found.filter(|address| policy.permits(address.ip()));
        let permitted: Vec<SocketAddr> = permitted.take(MAX_ADDRESSES).collect();
        if permitted.is_empty() {
            return Err(Error::NotPublic {
                host: self.host.clone(),
            });
        }
        Ok(permitted)
    }

    /// The argument for rsync.
    pub(super) fn at(&self, address: SocketAddr) -> String {
        format!("rsync://{address}/{}", self.path)
    }
}

/// Undoes percent-encoding, which rsync does not; `None` for a broken escape or bytes that are not UTF-8.
fn decode(path: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (mut bytes, mut decoded) = (path.bytes(), Vec::with_capacity(path.len()));
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => u8::try_from(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, Error> {
        Target::of(&url.parse().unwrap())
    }

    #[test]
    fn rsync_is_given_the_address_and_the_path_as_the_daemon_knows_it() {
        let address = "192.0.2.1:873".parse().unwrap();
        let there = "[2001:db8::1]:8730".parse().unwrap();
        for (url, at, asked) in [
            (
                "rsync://m.example/pub/containers",
                address,
                "rsync://192.0.2.1:873/pub/containers/blobs/",
            ),
            (
                "rsync://m.example/pub%2Bmore/",
                there,
                "rsync://[2001:db8::1]:8730/pub+more/blobs/",
            ),
            ("rsync://m.example", address, "rsync://192.0.2.1:873/blobs/"),
        ] {
            assert_eq!(target(url).unwrap().at(at), asked);
        }
    }

    #[test]
    fn paths_that_a_daemon_would_read_otherwise_are_refused() {
        for url in [
            "https://m.example/pub",
            "rsync://m.example/pub/*",
            "rsync://m.example/p%3Fb",
            "rsync://m.example/p[ab]",
            "rsync://m.example/a%20--rsync-path",
            "rsync://m.example/a%0Ab",
            "rsync://m.example/a%00b",
            "rsync://m.example/a%1B",
            "rsync://m.example/a\\b",
            "rsync://m.example/a/%2e%2e%2f%2e%2e/b",
            "rsync://m.example/a%2F..%2Fb",
            "rsync://m.example/a%zz",
            "rsync://m.example/a%ff",
            "rsync://m.example/a%",
        ] {
            assert!(matches!(target(url), Err(Error::Url(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn names_of_the_inside_are_refused_in_every_writing() {
        for url in [
            "rsync://localhost/m",
            "rsync://127.0.0.1/m",
            "rsync://127.1/m",
            "rsync://[::1]/m",
            "rsync://[::ffff:10.0.0.1]/m",
            "rsync://169.254.169.254/m",
        ] {
            let target = target(url).unwrap();
            let refused = target.addresses(Policy::PublicOnly).await;
            assert!(matches!(refused, Err(Error::NotPublic { .. })), "{url}");
            assert!(!target.addresses(Policy::Any).await.unwrap().is_empty());
        }
    }
}
