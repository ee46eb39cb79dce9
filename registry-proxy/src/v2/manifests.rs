//! Manifests: always answered here, byte for byte, because they are what a pull trusts.
//!
//! No plain mirror can send the exact media type a client insists on, and a tag's answer has no
//! digest the client could check, so a manifest is never redirected.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, VARY};
use http::{Method, Response, StatusCode};
use oci_mirror::http::Body;
use oci_mirror::http::conditions::matches_etag;
use oci_mirror::manifest;
use oci_mirror::reference::{Reference, RepoName};
use oci_mirror::tree::TreePath;

use super::CONTENT_DIGEST;
use super::error::Error;
use super::mirrorlist;
use super::request::Request;
use crate::metalink;
use crate::snapshot::Snapshot;

/// Answers `GET` and `HEAD /v2/<name>/manifests/<reference>`.
pub async fn respond(
    request: &Request<'_>,
    snapshot: &Snapshot,
    name: &RepoName,
    reference: &Reference,
) -> Result<Response<Body>, Error> {
    let repository = snapshot.repository(name)?;
    let found = snapshot.catalog.manifest_id(repository, reference);
    let found = found.and_then(|id| {
        let blob = snapshot.catalog.blob(id);
        Some((id, blob, blob.manifest.as_ref()?))
    });
    let Some((id, blob, entry)) = found else {
        return Err(match reference {
            Reference::Digest(digest) if repository.leaves_out(digest) => Error::LeftOut {
                name: name.clone(),
                digest: *digest,
                as_manifest: true,
            },
            reference => Error::manifest_unknown(name, reference),
        });
    };
    let subject = metalink::Subject {
        name,
        blob,
        endpoint: "manifests",
    };
    if mirrorlist::is_asked_for(request) {
        return mirrorlist::respond(&subject, id, request, snapshot);
    }
    if let Some(version) = request.metalink() {
        return metalink::respond(version, &subject, request, snapshot).await;
    }

    let mut response = Response::new(Body::empty());
    let digest = HeaderValue::try_from(blob.digest.to_string()).map_err(|_| Error::Internal)?;
    let etag =
        HeaderValue::try_from(format!("\"{}\"", blob.digest)).map_err(|_| Error::Internal)?;
    let fields = response.headers_mut();
    fields.insert(VARY, HeaderValue::from_static("Accept"));
    fields.insert(CONTENT_DIGEST, digest);
    fields.insert(ETAG, etag.clone());
    if matches_etag(request.headers, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let media_type = HeaderValue::try_from(repository.media_type(id, entry).as_str())
        .map_err(|_| Error::Internal)?;
    fields.insert(CONTENT_TYPE, media_type);
    fields.insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
    if request.method == Method::GET {
        let bytes = match &entry.bytes {
            Some(bytes) => bytes.clone(),
            None => {
                let (tree, path) = (snapshot.tree.clone(), TreePath::Blob(blob.digest));
                let read = move || tree.read(&path, manifest::MAX_BYTES);
                let read = tokio::task::spawn_blocking(read)
                    .await
                    .map_err(|_| Error::Internal)?;
                read.map_err(Error::Tree)?
            }
        };
        *response.body_mut() = bytes.into();
    }
    Ok(response)
}
