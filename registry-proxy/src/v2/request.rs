//! A request as the answering functions need it: borrowed, with its query and conditions read.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use http::header::{
    ACCEPT, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{Method, StatusCode, Uri};
use oci_mirror::accept::{self, MetalinkVersion};
use oci_mirror::http::conditions::Validators;
use oci_mirror::reference::RegistryHost;

use super::error::Error;
use crate::base_url::{PublicUrl, Scheme};
use crate::client_address::Caller;
use crate::geo::Countries;

/// A request under `/v2/`.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method; only GET and HEAD get content.
    pub method: &'a Method,
    /// The request target.
    pub uri: &'a Uri,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub caller: &'a Caller<'a>,
    /// How the client is connected to us, or to the proxy that speaks for it.
    pub scheme: Scheme,
    /// What we call ourselves towards a client that does not say.
    pub fallback: &'a RegistryHost,
    /// When it came in.
    pub at: Instant,
}

/// For whom mirrors are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asker {
    /// Who asks; `None` on a unix socket.
    pub client: Option<IpAddr>,
    /// The countries whose mirrors are asked for; none: those near the client.
    pub countries: Countries,
}

impl<'a> Request<'a> {
    /// For whom mirrors are to be listed.
    pub fn asker(&self) -> Asker {
        Asker {
            client: self.client(),
            countries: self.countries(),
        }
    }

    /// Who asks, after trusted proxies were looked through; `None` on a unix socket.
    pub fn client(&self) -> Option<IpAddr> {
        self.caller.address()
    }

    /// How the client reached us, for absolute URLs.
    pub fn public(&self) -> PublicUrl {
        let forwarding = self.caller.forwarding();
        PublicUrl::of(
            self.uri,
            self.headers,
            forwarding,
            self.scheme,
            self.fallback,
        )
    }

    /// The countries of `?country=CC,CC`; what is no country is passed over.
    fn countries(&self) -> Countries {
        // Most requests have no query, and containerd's has another parameter.
        let query = self.uri.query().filter(|query| query.contains("country="));
        let mut countries = Countries::default();
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if key == "country" {
                let named = value.split(',').filter_map(|code| code.trim().parse().ok());
                countries = countries.iter().chain(named).collect();
            }
        }
        countries
    }

    /// The path with percent-encoding undone: some clients write `sha256%3A…`.
    pub fn path(&self) -> Result<Cow<'a, str>, Error> {
        decode(self.uri.path()).ok_or(Error::PathInvalid)
    }

    /// The first value of a query parameter, decoded; empty for a parameter without a value.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.uri.query()?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Whether the client has the content with this entity tag already; an error if it wants other content.
    pub fn knows(&self, etag: &HeaderValue) -> Result<bool, Error> {
        match Validators::of(etag.clone()).precondition(self.headers) {
            None => Ok(false),
            Some(StatusCode::NOT_MODIFIED) => Ok(true),
            Some(_) => Err(Error::OtherContent),
        }
    }

    /// Whether a condition or a range is among the fields, so that they are worth reading.
    pub fn is_conditional(&self) -> bool {
        let conditional = [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE];
        self.headers.keys().any(|name| conditional.contains(name))
    }

    /// The metalink the client asks for: by `?metalink`, or by `Accept` unless it wants a range.
    pub fn metalink(&self) -> Option<MetalinkVersion> {
        match self.query("metalink").as_deref() {
            Some("" | "4") => return Some(MetalinkVersion::V4),
            Some("3") => return Some(MetalinkVersion::V3),
            _ => {}
        }
        if self.headers.contains_key(RANGE) {
            return None;
        }
        let accepted = self.headers.get_all(ACCEPT);
        let lines = || accepted.iter().filter_map(|line| line.to_str().ok());
        if lines().any(accept::may_name_a_metalink) {
            accept::metalink(lines())
        } else {
            None
        }
    }
}

/// Undoes percent-encoding; `None` for a broken escape or bytes that are not UTF-8.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => u8::try_from(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_address::TrustedProxies;

    #[test]
    fn the_first_four_countries_count_and_nonsense_does_not() {
        for (query, expected) in [
            ("", &[][..]),
            ("?ns=docker.io", &[]),
            ("?country=", &[]),
            ("?country=DE", &["DE"]),
            ("?metalink&country=de,%20fr", &["DE", "FR"]),
            ("?country=DE%2CFR&country=PT", &["DE", "FR", "PT"]),
            ("?country=Germany,,D%C3%A9,ES,es", &["ES"]),
            ("?mycountry=DE", &[]),
            ("?country=A1,IT,FR,ES,PT,DE", &["IT", "FR", "ES", "PT"]),
        ] {
            let uri: Uri = format!("/v2/{query}").parse().unwrap();
            let (trusted, headers) = (TrustedProxies::default(), HeaderMap::new());
            let request = Request {
                method: &Method::GET,
                uri: &uri,
                headers: &headers,
                caller: &Caller::new(&trusted, None, &headers),
                scheme: Scheme::Http,
                fallback: &"registry.example".parse().unwrap(),
                at: Instant::now(),
            };
            let found: Vec<String> = request
                .asker()
                .countries
                .iter()
                .map(|country| country.to_string())
                .collect();
            assert_eq!(found, expected, "{query}");
        }
    }

    #[test]
    fn decodes_once_and_refuses_nonsense() {
        assert_eq!(
            decode("/v2/a/blobs/sha256%3Aff").as_deref(),
            Some("/v2/a/blobs/sha256:ff")
        );
        assert_eq!(decode("%252e%252e").as_deref(), Some("%2e%2e"));
        for path in ["%", "%1", "%zz", "%ff"] {
            assert_eq!(decode(path), None, "{path}");
        }
    }
}
