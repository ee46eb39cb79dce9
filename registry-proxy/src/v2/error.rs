//! What can be wrong with a request, and the one place where that becomes a status.
//!
//! The envelope and its codes are those of the [specification][codes].
//!
//! [codes]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes

use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use oci_mirror::digest::Digest;
use oci_mirror::excerpt::Excerpt;
use oci_mirror::http::Body;
use oci_mirror::range::TooMany;
use oci_mirror::reference::{self, Reference, RepoName};
use oci_mirror::tree::reader;
use serde_json::json;

/// Why a request under `/v2/` gets no content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No endpoint of the API has this path.
    #[error("no such endpoint")]
    NotFound,
    /// A method other than GET and HEAD: a mirror network is read-only.
    #[error("this registry is read-only")]
    Unsupported,
    /// The repository name breaks the grammar.
    #[error(transparent)]
    NameInvalid(#[from] reference::Error),
    /// The path is not valid percent-encoded UTF-8.
    #[error("the path is not valid UTF-8")]
    PathInvalid,
    /// The tree has no such repository.
    #[error("repository {0} is not known to this registry")]
    NameUnknown(RepoName),
    /// What should be a digest is none.
    #[error("{0} is not a digest this registry can check")]
    DigestInvalid(Box<str>),
    /// The repository has no such manifest.
    #[error("manifest {reference} is not known to {name}")]
    ManifestUnknown {
        /// The repository.
        name: RepoName,
        /// What was asked for.
        reference: Box<str>,
    },
    /// An index lists the manifest or an image the layer, but it was left out of the tree.
    #[error("{digest} is listed in {name}, but was left out of this mirror")]
    LeftOut {
        /// The repository.
        name: RepoName,
        /// What was asked for.
        digest: Digest,
        /// Whether it was asked for as a manifest.
        as_manifest: bool,
    },
    /// The repository has no such blob.
    #[error("blob {digest} is not known to {name}")]
    BlobUnknown {
        /// The repository.
        name: RepoName,
        /// What was asked for.
        digest: Digest,
    },
    /// More ranges are asked for at once than we give. Podman asks again for fewer.
    #[error(transparent)]
    TooManyRanges(#[from] TooMany),
    /// The content is not the one the client knows by `If-Match`.
    #[error("the content is another than the one named by If-Match")]
    OtherContent,
    /// `n` is not a number.
    #[error("n={0} is not a number of entries")]
    PageSize(Box<str>),
    /// No tree could be read yet.
    #[error("the registry is starting")]
    NotReady,
    /// The tree cannot be read where it should be.
    #[error("the registry cannot read its content")]
    Tree(#[source] reader::Error),
    /// A file of the tree has another length than the blob it is named after.
    #[error("blob {digest} has {found} bytes in the tree instead of {size}")]
    Truncated {
        /// Which blob.
        digest: Digest,
        /// The length of the file.
        found: u64,
        /// The length of the blob.
        size: u64,
    },
    /// A manifest in the tree is not what its name says.
    #[error("the registry has a damaged copy of {0}")]
    Damaged(Digest),
    /// A request to read something that has a body in chunks.
    #[error("a request to read something has no body")]
    UnexpectedBody,
    /// The answer could not be made: a defect.
    #[error("the registry cannot make this answer")]
    Internal,
}

impl Error {
    /// A tag that cannot exist in `name`.
    pub fn tag_unknown(name: &RepoName, tag: &str) -> Self {
        Self::ManifestUnknown {
            name: name.clone(),
            reference: Excerpt(tag).into(),
        }
    }

    /// A manifest that `name` does not have.
    pub fn manifest_unknown(name: &RepoName, reference: &Reference) -> Self {
        Self::ManifestUnknown {
            name: name.clone(),
            reference: reference.to_string().into(),
        }
    }

    /// A text that should have been a digest.
    pub fn digest_invalid(text: &str) -> Self {
        Self::DigestInvalid(Excerpt(text).into())
    }

    /// The code of the specification's envelope.
    pub fn code(&self) -> &'static str {
        self.classify().1
    }

    /// The answer: the specification's envelope under the right status.
    pub fn into_response(self) -> Response<Body> {
        let (status, code) = self.classify();
        if status.is_server_error() {
            tracing::error!(
                error = &self as &dyn std::error::Error,
                "cannot answer a request"
            );
        }
        let envelope =
            json!({"errors": [{"code": code, "message": self.to_string(), "detail": null}]});
        let mut response = super::json(status, envelope.to_string());
        match self {
            Self::Unsupported => {
                let (name, value) = super::allow();
                response.headers_mut().insert(name, value);
            }
            Self::NotReady => {
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }

    fn classify(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            Self::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::NameInvalid(_) | Self::PathInvalid => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::NameUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::DigestInvalid(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::ManifestUnknown { .. }
            | Self::LeftOut {
                as_manifest: true, ..
            } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::BlobUnknown { .. }
            | Self::LeftOut {
                as_manifest: false, ..
            } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::OtherContent => (StatusCode::PRECONDITION_FAILED, "UNSUPPORTED"),
            // The specification's codes are all there are, and it has none for these.
            Self::TooManyRanges(_) | Self::PageSize(_) | Self::UnexpectedBody => {
                (StatusCode::BAD_REQUEST, "UNSUPPORTED")
            }
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::Tree(_) | Self::Truncated { .. } | Self::Damaged(_) | Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_envelope_is_json_whatever_the_text_holds() {
        let error = Error::digest_invalid("\"\r\n\u{7}</x>");
        let (parts, body) = error.into_response().into_parts();
        let body: serde_json::Value =
            serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(
            (parts.status.as_u16(), body["errors"][0]["code"].as_str()),
            (400, Some("DIGEST_INVALID"))
        );
    }

    #[test]
    fn a_write_is_told_what_is_allowed() {
        let response = Error::Unsupported.into_response();
        assert_eq!(
            (
                response.status().as_u16(),
                response.headers()["allow"].to_str().unwrap()
            ),
            (405, "GET, HEAD")
        );
    }
}
