//! Manifests: always answered here, byte for byte, because they are what a pull trusts.
//!
//! No plain mirror can send the exact media type a client insists on, and a tag's answer has no
//! digest the client could check, so a manifest is never redirected.

use std::sync::LazyLock;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, VARY};
use http::{Method, Response, StatusCode};
use oci_mirror::http::Body;
use oci_mirror::manifest;
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::{Reference, RepoName};
use oci_mirror::tree::TreePath;

use super::CONTENT_DIGEST;
use super::answer::Answer;
use super::error::Error;
use super::fields::Fields;
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
) -> Result<Answer, Error> {
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
        let list = mirrorlist::respond(&subject, id, request, snapshot)?;
        return Ok(Answer::new(list));
    }
    if let Some(version) = request.metalink() {
        return metalink::respond(version, &subject, request, snapshot).await;
    }

    let (algorithm, hex) = (blob.digest.algorithm().name().as_bytes(), blob.digest.hex());
    let mut fields = Fields::with_capacity(192);
    fields.write(CONTENT_DIGEST, |text| {
        text.extend_from_slice(algorithm);
        text.push(b':');
        hex.append_to(text);
    });
    fields.write(ETAG, |text| {
        text.push(b'"');
        text.extend_from_slice(algorithm);
        text.push(b':');
        hex.append_to(text);
        text.push(b'"');
    });
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if request.matches(&blob.digest) {
        fields.append_to(headers);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(Answer::new(response));
    }
    fields.number(CONTENT_LENGTH, blob.size);
    fields.append_to(headers);
    headers.insert(
        CONTENT_TYPE,
        content_type(repository.media_type(id, entry))?,
    );
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
    Ok(Answer::from_tree(response))
}

/// A media type as a field; for those nearly all manifests have, nothing is copied.
fn content_type(media_type: &MediaType) -> Result<HeaderValue, Error> {
    let known = MediaType::MANIFESTS.iter().position(|it| it == media_type);
    if let Some(known) = known {
        return Ok(KNOWN[known].clone());
    }
    HeaderValue::try_from(media_type.as_str()).map_err(|_| Error::Internal)
}

/// [`MediaType::MANIFESTS`] as fields.
static KNOWN: LazyLock<[HeaderValue; 4]> = LazyLock::new(|| {
    MediaType::MANIFESTS.map(|it| {
        HeaderValue::try_from(it.as_str()).expect("a media type is a token, a slash and a token")
    })
});
