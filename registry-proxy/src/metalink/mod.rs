//! Metalinks: one document that names a blob's size, digest, pieces and every mirror that holds it.
//!
//! [`v4`] writes [RFC 5854](https://www.rfc-editor.org/rfc/rfc5854), [`v3`] the older format as
//! MirrorManager emits it, and [`fields`] the response fields of
//! [RFC 6249](https://www.rfc-editor.org/rfc/rfc6249) that ride on a redirect.

pub mod fields;
pub mod v3;
pub mod v4;

use std::borrow::Cow;
use std::io;

use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, VARY,
};
use jiff::Timestamp;
use oci_mirror::accept::MetalinkVersion;
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::catalog::Blob;
use oci_mirror::tree::pieces::Pieces;
use quick_xml::Writer;
use quick_xml::events::BytesText;

use crate::base_url::PublicUrl;
use crate::geo::CountryCode;
use crate::snapshot::Snapshot;
use crate::v2::{Error, Request};

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
    pub pieces: Option<Pieces>,
    /// Where the blob is, best first.
    pub resources: Vec<Resource>,
}

/// One place the blob can be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The URL of the blob there.
    pub url: String,
    /// The country it is in.
    pub country: Option<CountryCode>,
    /// Whether it is offered only to part of the world.
    pub private: bool,
}

/// The name of a blob in a document; no `:` in it, for file systems that have none.
pub fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// What a metalink is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The repository.
    pub name: &'a RepoName,
    /// The blob, or the manifest as one.
    pub blob: &'a Blob,
    /// `blobs` or `manifests`.
    pub endpoint: &'static str,
}

impl Subject<'_> {
    /// The URL of the subject at this front end.
    pub fn url(&self, public: &PublicUrl) -> String {
        format!(
            "{public}/v2/{}/{}/{}",
            self.name, self.endpoint, self.blob.digest
        )
    }
}

/// Answers with a metalink of the given version.
///
/// The origin's own copy stands last, so the document is useful even where no mirror qualifies.
pub async fn respond(
    version: MetalinkVersion,
    subject: &Subject<'_>,
    request: &Request<'_>,
    snapshot: &Snapshot,
) -> Result<Response<Body>, Error> {
    let blob = subject.blob;
    let mut resources = match snapshot.catalog.id(&blob.digest) {
        Some(id) => snapshot.mirrors(subject.name, id, request.client),
        None => Vec::new(),
    };
    resources.push(Resource {
        url: format!("{}/tree/{}", request.public, TreePath::Blob(blob.digest)),
        country: None,
        private: false,
    });
    let (tree, digest, size) = (snapshot.tree.clone(), blob.digest, blob.size);
    let pieces = tokio::task::spawn_blocking(move || tree.pieces(&digest, size)).await;
    let pieces = pieces.map_err(|_| Error::Internal)?.unwrap_or_else(|error| {
        // The whole digest is in the document all the same.
        tracing::warn!(error = &error as &dyn std::error::Error, blob = %blob.digest, "a metalink goes without pieces");
        None
    });
    let document = Document {
        origin: subject.url(request.public),
        published: snapshot.catalog.state().created,
        size: blob.size,
        digest: &blob.digest,
        name: file_name(&blob.digest).into(),
        pieces,
        resources,
    };
    let (text, extension) = match version {
        MetalinkVersion::V4 => (v4::render(&document), "meta4"),
        MetalinkVersion::V3 => (v3::render(&document), "metalink"),
    };
    let text = text.map_err(|_| Error::Internal)?;
    let disposition = format!("attachment; filename=\"{}.{extension}\"", document.name);
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(version.media_type()));
    fields.insert(
        CONTENT_DISPOSITION,
        HeaderValue::try_from(disposition).map_err(|_| Error::Internal)?,
    );
    fields.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    fields.insert(VARY, HeaderValue::from_static("Accept"));
    // The order depends on the client's address, so no shared cache may keep it.
    fields.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=60"),
    );
    *response.body_mut() = text.into();
    Ok(response)
}

/// Writes an element that holds only text.
fn text(writer: &mut Writer<Vec<u8>>, name: &str, content: &str) -> io::Result<()> {
    writer
        .create_element(name)
        .write_text_content(BytesText::new(content))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use oci_mirror::digest::Algorithm;

    use super::*;

    static DIGEST: LazyLock<Digest> = LazyLock::new(|| Algorithm::Sha256.digest(b"blob"));

    /// A document with everything a document can have.
    pub(super) fn document() -> Document<'static> {
        let size = 2 << 20;
        let resource = |url: &str, country: &str, private| Resource {
            url: url.to_owned(),
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
            pieces: Pieces::from_bytes(&[7; 64], size),
            resources: vec![
                resource("https://m1.example/x", "DE", false),
                resource("http://m2.example/x", "FR", true),
                resource("https://registry.example/tree/x", "", false),
            ],
        }
    }

    /// A document whose first URL would break out of its element if it were not escaped.
    pub(super) fn with_hostile_url() -> Document<'static> {
        let mut document = document();
        document.resources[0].url = "http://m.example/?a=1&b=<x>".to_owned();
        document
    }
}
