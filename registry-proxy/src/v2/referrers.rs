//! Referrers: the signatures, SBOMs and the like that name a manifest as their subject.
//!
//! Always a list, empty for anything unknown, as the [specification][spec] demands.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::RepoName;
use serde_json::{Value, json};

use super::error::Error;
use super::request::Request;
use crate::snapshot::Snapshot;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Answers `GET /v2/<name>/referrers/<digest>`.
pub fn respond(
    request: &Request<'_>,
    snapshot: &Snapshot,
    name: &RepoName,
    digest: &Digest,
) -> Result<Response<Body>, Error> {
    let filter = request
        .query("artifactType")
        .filter(|filter| !filter.is_empty());
    let manifests: Vec<Value> = match snapshot.repository(name) {
        Err(_) => Vec::new(),
        Ok(repository) => {
            let referrers = repository
                .referrers(digest)
                .iter()
                .map(|id| snapshot.catalog.blob(*id));
            let descriptors = referrers.filter_map(|blob| {
                let referrer = blob.manifest.as_ref()?.referrer()?;
                let wanted = filter.is_none() || filter == referrer.artifact_type;
                wanted.then(|| {
                    let mut descriptor = json!({
                        "mediaType": blob.manifest.as_ref().map(|manifest| manifest.media_type.as_str()),
                        "digest": blob.digest,
                        "size": blob.size,
                    });
                    if let Some(artifact_type) = &referrer.artifact_type {
                        descriptor["artifactType"] = json!(artifact_type);
                    }
                    if !referrer.annotations.is_empty() {
                        descriptor["annotations"] = json!(referrer.annotations);
                    }
                    descriptor
                })
            });
            descriptors.collect()
        }
    };
    let index =
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests});
    let mut response = super::json(StatusCode::OK, index.to_string());
    let fields = response.headers_mut();
    let media_type =
        HeaderValue::try_from(MediaType::OCI_INDEX.as_str()).map_err(|_| Error::Internal)?;
    fields.insert(CONTENT_TYPE, media_type);
    if filter.is_some() {
        fields.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}
