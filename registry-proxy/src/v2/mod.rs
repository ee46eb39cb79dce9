//! The registry API, pull side: the [distribution specification][spec] answered from a snapshot.
//!
//! [`route`] reads the path, [`manifests`], [`blobs`], [`listings`] and [`referrers`] answer,
//! [`mirrorlist`] explains to whom a client would be sent, and
//! [`error`] is the one place where an error becomes a status. Nothing here takes a lock, opens the
//! database or waits for anything: what has to be read from the disk is [said](disk) to the caller.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md

pub mod answer;
pub mod blobs;
pub mod disk;
pub mod error;
pub mod fields;
pub mod listings;
mod made;
pub mod manifests;
pub mod mirrorlist;
pub mod referrers;
pub mod request;
pub mod route;

pub use answer::Answer;
pub use disk::{Found, Halt, Want};
pub use error::Error;
pub use request::{Asker, Request};

use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::{Method, Response, StatusCode};
use oci_mirror::http::Body;

use crate::snapshot::Snapshot;
use route::Route;

/// The field by which clients recognise a registry.
pub const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The field that carries the digest of what is answered.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Answers a request whose path is `/v2` or starts with `/v2/`.
///
/// `snapshot` is `None` until a tree could be read; then only the version check is answered. Fails if
/// something has to be read first; the second call gets what was `found` then.
pub fn respond(
    request: &Request<'_>,
    snapshot: Option<&Snapshot>,
    found: Option<Found>,
) -> Result<Answer, Want> {
    let mut answer = answer(request, snapshot, found)?;
    let response = &mut answer.response;
    response
        .headers_mut()
        .insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if request.method == Method::HEAD {
        let length = http_body::Body::size_hint(response.body()).exact();
        // A 304 has no content, and what its length would be elsewhere is not zero.
        let said = response.headers().contains_key(CONTENT_LENGTH)
            || response.status() == StatusCode::NOT_MODIFIED;
        if let (Some(length), false) = (length, said) {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.body_mut() = Body::empty();
        answer.from_tree = 0;
    }
    Ok(answer)
}

fn answer(
    request: &Request<'_>,
    snapshot: Option<&Snapshot>,
    found: Option<Found>,
) -> Result<Answer, Want> {
    let route = match route(request) {
        Ok(route) => route,
        Err(error) => return Ok(Answer::new(error.into_response())),
    };
    let kind = route.kind();
    let (answered, repository) = match (route, snapshot) {
        (Route::Base, _) => (Ok(Answer::new(json(StatusCode::OK, "{}"))), None),
        (_, None) => (Err(Halt::Error(Error::NotReady)), None),
        (Route::Catalog, Some(snapshot)) => {
            let response = listings::catalog(request, snapshot);
            (response.map(Answer::new).map_err(Halt::Error), None)
        }
        (Route::Tags { name }, Some(snapshot)) => {
            let response = listings::tags(request, snapshot, &name);
            let answer = response.map(Answer::new).map_err(Halt::Error);
            (answer, Some(name))
        }
        (Route::Manifest { name, reference }, Some(snapshot)) => {
            let answer = manifests::respond(request, snapshot, &name, &reference, found);
            (answer, Some(name))
        }
        (Route::Blob { name, digest }, Some(snapshot)) => {
            let answer = blobs::respond(request, snapshot, &name, &digest, found);
            (answer, Some(name))
        }
        (Route::Referrers { name, digest }, Some(snapshot)) => {
            let response = referrers::respond(request, snapshot, &name, &digest);
            let answer = response.map(Answer::new).map_err(Halt::Error);
            (answer, Some(name))
        }
    };
    let answer = match answered {
        Ok(answer) => answer,
        Err(Halt::Error(error)) => Answer::new(error.into_response()),
        Err(Halt::Wants(want)) => return Err(want),
    };
    Ok(Answer {
        kind: answer.kind.or(Some(kind)),
        repository,
        ..answer
    })
}

fn route(request: &Request<'_>) -> Result<Route, Error> {
    // Before the path is looked at: pushing has paths of its own, and none of them is served.
    if request.method != Method::GET && request.method != Method::HEAD {
        return Err(Error::Unsupported);
    }
    if request.headers.contains_key(TRANSFER_ENCODING) {
        return Err(Error::UnexpectedBody);
    }
    Route::parse(&request.path()?)
}

/// A JSON answer.
fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The fields of a 405 and of a redirect, by name.
const fn allow() -> (HeaderName, HeaderValue) {
    (ALLOW, HeaderValue::from_static("GET, HEAD"))
}
