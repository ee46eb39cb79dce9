//! The response fields of [RFC 6249](https://www.rfc-editor.org/rfc/rfc6249): mirrors and digests
//! beside a redirect, for clients that read them and no harm to those that do not.
//!
//! One `Link` line per link, because aria2 reads only the first of a joined line; the describing
//! document by absolute URL, because wget2 misreads a relative one; and both the old `Digest` and its
//! successor `Repr-Digest` ([RFC 9530](https://www.rfc-editor.org/rfc/rfc9530)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue, LINK};
use oci_mirror::accept::MetalinkVersion;
use oci_mirror::digest::{Algorithm, Digest};

use super::Resource;

const DIGEST: HeaderName = HeaderName::from_static("digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Most mirrors named: more would overflow the header buffers of reverse proxies.
const MAX_LINKS: usize = 6;

/// Adds the fields for a blob that `mirrors` hold and `url` is the front end's own name of.
pub fn append(headers: &mut HeaderMap, mirrors: &[Resource], digest: &Digest, url: &str) {
    let mut link = |text: String| {
        // A URL that cannot stand in a header field was refused when the mirror was entered.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(LINK, value);
        }
    };
    for (position, mirror) in mirrors.iter().take(MAX_LINKS).enumerate() {
        let geo = mirror
            .country
            .map(|country| format!("; geo={}", country.to_string().to_ascii_lowercase()));
        link(format!(
            "<{}>; rel=duplicate; pri={}{}",
            mirror.url,
            position + 1,
            geo.unwrap_or_default()
        ));
    }
    link(format!(
        "<{url}?metalink>; rel=describedby; type=\"{}\"",
        MetalinkVersion::V4.media_type()
    ));
    let base64 = STANDARD.encode(digest.as_bytes());
    let (old, new) = match digest.algorithm() {
        Algorithm::Sha256 => ("SHA-256", "sha-256"),
        Algorithm::Sha512 => ("SHA-512", "sha-512"),
    };
    for (name, text) in [
        (DIGEST, format!("{old}={base64}")),
        (REPR_DIGEST, format!("{new}=:{base64}:")),
    ] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_link_and_raw_bytes_in_the_digest() {
        let digest = Algorithm::Sha256.digest(b"");
        let mirror = |n: u32| Resource {
            url: format!("http://m{n}/x"),
            country: "DE".parse().ok(),
            private: false,
        };
        let mirrors: Vec<Resource> = (0..9).map(mirror).collect();
        let mut headers = HeaderMap::new();
        append(&mut headers, &mirrors, &digest, "https://f/v2/a/blobs/x");
        let links: Vec<&str> = headers
            .get_all(LINK)
            .iter()
            .map(|link| link.to_str().unwrap())
            .collect();
        assert_eq!(links.len(), MAX_LINKS + 1);
        assert_eq!(links[0], "<http://m0/x>; rel=duplicate; pri=1; geo=de");
        assert_eq!(
            links[6],
            "<https://f/v2/a/blobs/x?metalink>; rel=describedby; type=\"application/metalink4+xml\""
        );
        assert_eq!(
            headers[DIGEST],
            "SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
        assert_eq!(
            headers[REPR_DIGEST],
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        );
    }
}
