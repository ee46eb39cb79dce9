//! Blobs: a metalink, a redirect to a mirror verified to hold the very blob, or the bytes.
//!
//! No client survives a 404 or wrong bytes from a mirror, so only verified mirrors are named. Small
//! blobs, image configs above all, are sent from here: the round trip would cost more than the bytes,
//! and podman gives up a pull when the config fails.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, LOCATION, VARY};
use http::{HeaderName, Method, Response, StatusCode};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::http::conditions::{self, Validators};
use oci_mirror::http::files::Opened;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::catalog::Blob;

use super::CONTENT_DIGEST;
use super::error::Error;
use super::mirrorlist;
use super::request::Request;
use crate::metalink::{self, fields};
use crate::snapshot::Snapshot;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Answers `GET` and `HEAD /v2/<name>/blobs/<digest>`.
pub async fn respond(
    request: &Request<'_>,
    snapshot: &Snapshot,
    name: &RepoName,
    digest: &Digest,
) -> Result<Response<Body>, Error> {
    let repository = snapshot.repository(name)?;
    let Some(id) = snapshot.catalog.member(repository, digest) else {
        return Err(if repository.leaves_out(digest) {
            Error::LeftOut {
                name: name.clone(),
                digest: *digest,
                as_manifest: false,
            }
        } else {
            Error::BlobUnknown {
                name: name.clone(),
                digest: *digest,
            }
        });
    };
    let blob = snapshot.catalog.blob(id);
    let subject = metalink::Subject {
        name,
        blob,
        endpoint: "blobs",
    };
    if mirrorlist::is_asked_for(request) {
        return mirrorlist::respond(&subject, id, request, snapshot);
    }
    if let Some(version) = request.metalink() {
        return metalink::respond(version, &subject, request, snapshot).await;
    }
    let etag = value(&format!("\"{digest}\""))?;
    match Validators::of(etag.clone()).precondition(request.headers) {
        None => {}
        Some(StatusCode::NOT_MODIFIED) => return not_modified(digest, etag),
        Some(_) => return Err(Error::OtherContent),
    }
    // Not every mirror answers several ranges at once, and podman bears no other answer.
    let ranges = conditions::requested_ranges(request.method, request.headers, &etag)?;
    let sent_from_here = ranges.is_some_and(|ranges| ranges.are_several());

    let mirrors = snapshot.mirrors(name, id, request.client);
    let best = mirrors.first();
    let mut response = if request.method == Method::HEAD {
        Response::new(Body::empty())
    } else if let Some(best) =
        best.filter(|_| !sent_from_here && blob.size >= snapshot.policy.min_size)
    {
        redirect(&best.url)?
    } else {
        match (stream(request, snapshot, blob).await, best) {
            (Ok(response), _) => response,
            // The tree has lost it, but a mirror was seen to hold it.
            (Err(error), Some(best)) => {
                tracing::error!(error = &error as &dyn std::error::Error, blob = %digest, "redirecting instead");
                redirect(&best.url)?
            }
            (Err(error), None) => return Err(error),
        }
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CONTENT_DIGEST, value(&digest.to_string())?);
    headers.insert(ETAG, etag);
    fields::append(headers, &mirrors, digest, &subject.url(request.public));
    if request.method == Method::HEAD {
        headers.insert(http::header::CONTENT_TYPE, OCTETS);
        headers.insert(
            http::header::ACCEPT_RANGES,
            HeaderValue::from_static("bytes"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
    }
    Ok(response)
}

/// The client has the blob already, wherever it would have been sent for it.
fn not_modified(digest: &Digest, etag: HeaderValue) -> Result<Response<Body>, Error> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CONTENT_DIGEST, value(&digest.to_string())?);
    headers.insert(ETAG, etag);
    Ok(response)
}

fn redirect(url: &str) -> Result<Response<Body>, Error> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers: &mut HeaderMap = response.headers_mut();
    let pairs: [(HeaderName, HeaderValue); 3] = [
        (LOCATION, value(url)?),
        // The answer depends on who asks and on what the crawler saw last.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_LENGTH, HeaderValue::from_static("0")),
    ];
    headers.extend(pairs);
    Ok(response)
}

async fn stream(
    request: &Request<'_>,
    snapshot: &Snapshot,
    blob: &Blob,
) -> Result<Response<Body>, Error> {
    let (tree, path) = (snapshot.tree.clone(), TreePath::Blob(blob.digest));
    let opened = tokio::task::spawn_blocking(move || Opened::open(&tree, &path)).await;
    let opened = opened.map_err(|_| Error::Internal)?.map_err(Error::Tree)?;
    if opened.length() != blob.size {
        return Err(Error::Truncated {
            digest: blob.digest,
            found: opened.length(),
            size: blob.size,
        });
    }
    Ok(opened.respond(OCTETS, request.headers, request.method))
}

fn value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(text).map_err(|_| Error::Internal)
}
