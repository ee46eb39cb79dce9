//! Metalinks: one document that names a blob's size, digest, pieces and every mirror that holds it.
//!
//! [`v4`] writes [RFC 5854](https://www.rfc-editor.org/rfc/rfc5854), [`v3`] the older format as
//! MirrorManager emits it, and [`fields`] the response fields of
//! [RFC 6249](https://www.rfc-editor.org/rfc/rfc6249) that ride on a redirect.

pub mod fields;
pub mod pieces;
pub mod v3;
pub mod v4;
mod xml;

#[cfg(test)]
mod read_back;

use std::borrow::Cow;
use std::sync::Arc;

use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use jiff::Timestamp;
use oci_mirror::accept::MetalinkVersion;
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::catalog::{Blob, BlobId};
use oci_mirror::tree::pieces::{Pieces, count_for};

use crate::base_url::PublicUrl;
use crate::geo::CountryCode;
use crate::snapshot::{MAX_MIRRORS, Snapshot};
use crate::v2::Request;
use crate::v2::answer::Answer;
use crate::v2::disk::{Found, Halt, Want};
use crate::v2::fields::Fields;

/// What produced the document, in its `generator`.
pub const GENERATOR: &str = concat!("registry-proxy/", env!("CARGO_PKG_VERSION"));

/// The document, whatever its format.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    /// Where the document itself can be had again.
    pub origin: String,
    /// When what it describes was published.
    pub published: Timestamp,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Digest of the blob.
    pub digest: &'a Digest,
    /// The name under which a client is to keep the blob.
    pub name: Cow<'a, str>,
    /// Piece hashes, for a large blob.
    pub pieces: Option<&'a Pieces>,
    /// What the blob is called below each of the places where it is.
    pub path: &'a str,
    /// Where it is, best first.
    pub resources: Vec<Resource<'a>>,
}

/// One place the blob can be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource<'a> {
    /// The URL of the tree there, with a `/` at its end.
    pub base: &'a str,
    /// The country it is in.
    pub country: Option<CountryCode>,
    /// Whether it is offered only to part of the world.
    pub private: bool,
}

impl Document<'_> {
    /// About how long the document is: enough room for most.
    fn estimate(&self) -> usize {
        let hashes = self.pieces.map_or(0, |pieces| pieces.hashes().len());
        let line = |it: &Resource<'_>| it.base.len() + self.path.len() + 64;
        let urls: usize = self.resources.iter().map(line).sum();
        768 + self.origin.len() + urls + hashes * HASH_TEXT
    }
}

/// Room for one piece hash in a document.
const HASH_TEXT: usize = 100;

/// Most pieces listed, which keeps a document below a MiB: what parsers take.
const MAX_PIECES: u64 = (1 << 20) / HASH_TEXT as u64 - 512;

/// The name of a blob in a document; no `:` in it, for file systems that have none.
pub fn file_name(digest: &Digest) -> String {
    let mut name = String::with_capacity(136);
    name.push_str(digest.algorithm().name());
    name.push('-');
    digest.hex().push_to(&mut name);
    name
}

/// What a metalink is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The repository.
    pub name: &'a RepoName,
    /// The number of the blob.
    pub id: BlobId,
    /// The blob, or the manifest as one.
    pub blob: &'a Blob,
    /// `blobs` or `manifests`.
    pub endpoint: &'static str,
}

impl Subject<'_> {
    /// The URL of the subject at this front end.
    pub fn url(&self, public: &PublicUrl) -> String {
        let mut url = String::with_capacity(256);
        public.append_to(&mut url);
        let digest = self.blob.digest;
        let parts = ["/v2/", self.name.as_str(), "/", self.endpoint, "/"];
        for part in parts.into_iter().chain([digest.algorithm().name(), ":"]) {
            url.push_str(part);
        }
        digest.hex().push_to(&mut url);
        url
    }
}

/// Answers with a metalink of the given version.
///
/// The origin's own copy stands last, so the document is useful even where no mirror qualifies.
pub fn respond(
    version: MetalinkVersion,
    subject: &Subject<'_>,
    request: &Request<'_>,
    snapshot: &Snapshot,
    found: Option<Found>,
) -> Result<Answer, Halt> {
    let blob = subject.blob;
    let known = pieces_of(blob, snapshot, found)?;
    let path = fields::path(&blob.digest);
    let (public, mut origin) = (request.public(), String::with_capacity(128));
    public.append_to(&mut origin);
    origin.push_str("/tree/");
    let mut resources = snapshot.mirrors(subject.name, subject.id, request.asker());
    debug_assert!(resources.len() <= MAX_MIRRORS);
    resources.push(Resource {
        base: &origin,
        country: None,
        private: false,
    });
    let name = file_name(&blob.digest);
    let document = Document {
        origin: subject.url(&public),
        published: snapshot.catalog.state().created,
        size: blob.size,
        digest: &blob.digest,
        name: Cow::Borrowed(&name),
        pieces: known.as_ref().and_then(|known| known.pieces.as_ref()),
        path: &path,
        resources,
    };
    let (text, extension) = match version {
        MetalinkVersion::V4 => (v4::render(&document), "meta4"),
        MetalinkVersion::V3 => (v3::render(&document), "metalink"),
    };
    let length = text.len() as u64;
    let mut response = Response::new(Body::from(text));
    let mut fields = Fields::new(response.headers_mut(), 6);
    fields.fixed(CONTENT_TYPE, version.media_type());
    fields.add(
        CONTENT_DISPOSITION,
        &[
            b"attachment; filename=\"",
            name.as_bytes(),
            b".",
            extension.as_bytes(),
            b"\"",
        ],
    );
    fields.number(CONTENT_LENGTH, length);
    fields.fixed(VARY, "Accept");
    // The order depends on the client's address, so no shared cache may keep it.
    fields.fixed(CACHE_CONTROL, "private, max-age=60");
    Ok(Answer {
        is_metalink: true,
        ..Answer::new(response)
    })
}

/// The pieces of a blob, as they were read before or from the tree; `None` where there cannot be any.
fn pieces_of(
    blob: &Blob,
    snapshot: &Snapshot,
    found: Option<Found>,
) -> Result<Option<Arc<pieces::Known>>, Halt> {
    if !(1..=MAX_PIECES).contains(&count_for(blob.size)) {
        return Ok(None);
    }
    if let Some(Found::Pieces(known)) = found {
        return Ok(known);
    }
    let known = snapshot.pieces.find(&blob.digest);
    known
        .map(Some)
        .ok_or(Halt::Wants(Want::Pieces(blob.digest, blob.size)))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use oci_mirror::digest::Algorithm;

    use super::*;

    static DIGEST: LazyLock<Digest> = LazyLock::new(|| Algorithm::Sha256.digest(b"blob"));

    static PIECES: LazyLock<Option<Pieces>> =
        LazyLock::new(|| Pieces::from_bytes(&[7; 64], 2 << 20));

    /// A document with everything a document can have.
    pub(super) fn document() -> Document<'static> {
        let size = 2 << 20;
        let resource = |base: &'static str, country: &str, private| Resource {
            base,
            country: country.parse().ok(),
            private,
        };
        Document {
            origin: format!(
                "https://registry.example/v2/fedora/fedora/blobs/{}",
                *DIGEST
            ),
            published: Timestamp::from_second(1_795_000_000).unwrap(),
            size,
            digest: &DIGEST,
            name: file_name(&DIGEST).into(),
            pieces: PIECES.as_ref(),
            path: "x",
            resources: vec![
                resource("https://m1.example/", "DE", false),
                resource("http://m2.example/", "FR", true),
                resource("https://registry.example/tree/", "", false),
            ],
        }
    }

    /// A document whose first URL would break out of its element if it were not escaped.
    pub(super) fn with_hostile_url() -> Document<'static> {
        let mut document = document();
        document.resources[0].base = "http://m.example/?a=1&b=<x>";
        document
    }
}
