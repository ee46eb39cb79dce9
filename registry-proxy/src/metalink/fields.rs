//! The response fields of [RFC 6249](https://www.rfc-editor.org/rfc/rfc6249): mirrors and digests
//! beside a redirect, for clients that read them and no harm to those that do not.
//!
//! One `Link` line per link, because aria2 reads only the first of a joined line; the describing
//! document by absolute URL, because wget2 misreads a relative one; and both the old `Digest` and its
//! successor `Repr-Digest` ([RFC 9530](https://www.rfc-editor.org/rfc/rfc9530)). The head of a response
//! stays below what a reverse proxy takes by default: the farthest mirrors are left out first.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ETAG, HeaderName, LINK, LOCATION};
use oci_mirror::accept::MetalinkVersion;
use oci_mirror::digest::{Algorithm, Digest, Hex};

use crate::select::Source;
use crate::v2::CONTENT_DIGEST;
use crate::v2::fields::{Fields, line};

const DIGEST: HeaderName = HeaderName::from_static("digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Most mirrors named: more would overflow the header buffers of reverse proxies.
pub const MAX_LINKS: usize = 6;

/// Largest head of a response with links: nginx takes 4 KiB, or 8, from what is behind it.
pub const MAX_HEAD: usize = 4 << 10;

/// Kept free for the status line and the fields that are added by others: `date`, `vary` and the like,
/// and those of a file.
const RESERVED: usize = 512;

/// Whether the first of the mirrors is where the client is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirect {
    /// It is, by `Location`.
    ToFirst,
    /// The answer has the content.
    No,
}

/// Adds what says what a blob is and where: its digest in all spellings, and who has it.
///
/// `mirrors` hold the blob, best first; `url` is the front end's own name of it.
pub fn add<'a>(
    fields: &mut Fields<'_>,
    digest: &Digest,
    mirrors: impl Iterator<Item = &'a Source> + Clone,
    url: &[u8],
    redirect: Redirect,
) {
    let path = path(digest).into_bytes();
    if redirect == Redirect::ToFirst
        && let Some(best) = mirrors.clone().next()
    {
        fields.add(LOCATION, &[best.base.as_bytes(), &path]);
    }
    let hex = &path[path.len() - digest.algorithm().hex_len()..];
    let name = digest.algorithm().name().as_bytes();
    fields.add(CONTENT_DIGEST, &[name, b":", hex]);
    fields.add(ETAG, &[b"\"", name, b":", hex, b"\""]);
    let mut base64 = [0; 88];
    let length = STANDARD
        .encode_slice(digest.as_bytes(), &mut base64)
        .unwrap_or_default();
    let base64 = &base64[..length];
    let (old, new): (&[u8], &[u8]) = match digest.algorithm() {
        Algorithm::Sha256 => (b"SHA-256=", b"sha-256=:"),
        Algorithm::Sha512 => (b"SHA-512=", b"sha-512=:"),
    };
    fields.add(DIGEST, &[old, base64]);
    fields.add(REPR_DIGEST, &[new, base64, b":"]);

    let described: [&[u8]; 5] = [
        b"<",
        url,
        b"?metalink>; rel=describedby; type=\"",
        MetalinkVersion::V4.media_type().as_bytes(),
        b"\"",
    ];
    let length = |parts: &[&[u8]]| line(&LINK, parts.iter().map(|part| part.len()).sum());
    let taken = RESERVED + fields.length() + length(&described);
    let mut room = MAX_HEAD.saturating_sub(taken);
    for (priority, mirror) in (b'1'..).zip(mirrors.take(MAX_LINKS)) {
        let parts: [&[u8]; 6] = [
            b"<",
            mirror.base.as_bytes(),
            &path,
            b">; rel=duplicate; pri=",
            &[priority],
            mirror.geo.as_bytes(),
        ];
        let Some(rest) = room.checked_sub(length(&parts)) else {
            break;
        };
        room = rest;
        fields.add(LINK, &parts);
    }
    fields.add(LINK, &described);
}

/// The path of a blob below the root of a tree, as [`TreePath`](oci_mirror::tree::TreePath) has it.
pub(super) fn path(digest: &Digest) -> String {
    let mut path = String::with_capacity(160);
    path.push_str("blobs/");
    path.push_str(digest.algorithm().name());
    path.push('/');
    Hex(&digest.as_bytes()[..1]).push_to(&mut path);
    path.push('/');
    digest.hex().push_to(&mut path);
    path
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;
    use oci_mirror::tree::TreePath;

    use super::*;

    fn source(base: String) -> Source {
        Source {
            base: base.into(),
            geo: "; geo=de".into(),
            country: "DE".parse().ok(),
            private: false,
        }
    }

    fn headers(mirrors: &[Source], digest: &Digest, redirect: Redirect) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut fields = Fields::new(&mut headers, 8);
        let url = b"https://f/v2/a/blobs/x";
        add(&mut fields, digest, mirrors.iter(), url, redirect);
        headers
    }

    fn links(headers: &HeaderMap) -> Vec<&str> {
        let links = headers.get_all(LINK).iter();
        links.map(|link| link.to_str().unwrap()).collect()
    }

    #[test]
    fn one_line_per_link_and_raw_bytes_in_the_digest() {
        let digest = Algorithm::Sha256.digest(b"");
        let mirrors: Vec<Source> = (0..9).map(|n| source(format!("http://m{n}/"))).collect();
        let headers = headers(&mirrors, &digest, Redirect::No);
        let links = links(&headers);
        assert_eq!(links.len(), MAX_LINKS + 1);
        let path = TreePath::Blob(digest);
        assert_eq!(
            links[0],
            format!("<http://m0/{path}>; rel=duplicate; pri=1; geo=de")
        );
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
        assert_eq!(headers[CONTENT_DIGEST], digest.to_string());
        assert_eq!(headers[ETAG], format!("\"{digest}\""));
        assert!(!headers.contains_key(LOCATION));
    }

    #[test]
    fn a_redirect_leads_to_the_first() {
        for digest in [
            Algorithm::Sha256.digest(b"x"),
            Algorithm::Sha512.digest(b"x"),
        ] {
            let headers = headers(
                &[
                    source("http://m/".to_owned()),
                    source("http://n/".to_owned()),
                ],
                &digest,
                Redirect::ToFirst,
            );
            assert_eq!(
                headers[LOCATION],
                format!("http://m/{}", TreePath::Blob(digest))
            );
            let bytes = match digest.algorithm() {
                Algorithm::Sha256 => 44,
                Algorithm::Sha512 => 88,
            };
            assert_eq!(headers[DIGEST].len(), "SHA-256=".len() + bytes);
        }
        let headers = headers(&[], &Algorithm::Sha256.digest(b"x"), Redirect::ToFirst);
        assert!(!headers.contains_key(LOCATION));
        assert_eq!(links(&headers).len(), 1);
    }

    #[test]
    fn the_head_stays_small_however_long_the_urls_are() {
        let digest = Algorithm::Sha512.digest(b"x");
        for length in [10, 300, 700, 1000] {
            let url = |n: usize| source(format!("http://m{n}/{}/", "x".repeat(length)));
            let mirrors: Vec<Source> = (0..10).map(url).collect();
            let headers = headers(&mirrors, &digest, Redirect::ToFirst);
            let head: usize = headers
                .iter()
                .map(|(name, value)| line(name, value.len()))
                .sum();
            assert!(head + RESERVED <= MAX_HEAD, "{length}: {head}");
            let links = links(&headers);
            assert!(links[links.len() - 1].contains("describedby"));
            let farther = links[..links.len() - 1].iter().zip(0..);
            assert!(
                farther
                    .into_iter()
                    .all(|(link, n)| link.contains(&format!("//m{n}/"))),
                "the nearest stay"
            );
        }
    }
}
