//! Manifests: always answered here, byte for byte, because they are what a pull trusts.
//!
//! No plain mirror can send the exact media type a client insists on, and a tag's answer has no
//! digest the client could check, so a manifest is never redirected.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, VARY};
use http::{Method, Response, StatusCode};
use oci_mirror::http::Body;
use oci_mirror::reference::{Reference, RepoName};

use super::CONTENT_DIGEST;
use super::answer::Answer;
use super::disk::{Found, Halt, Want};
use super::error::Error;
use super::fields::Fields;
use super::mirrorlist;
use super::request::Request;
use crate::metalink;
use crate::observe::Kind;
use crate::snapshot::Snapshot;

/// Answers `GET` and `HEAD /v2/<name>/manifests/<reference>`.
pub fn respond(
    request: &Request<'_>,
    snapshot: &Snapshot,
    name: &RepoName,
    reference: &Reference,
    found: Option<Found>,
) -> Result<Answer, Halt> {
    let repository = snapshot.repository(name)?;
    let known = snapshot.catalog.manifest_id(repository, reference);
    let known = known.and_then(|id| {
        let blob = snapshot.catalog.blob(id);
        Some((id, blob, blob.manifest.as_ref()?))
    });
    let Some((id, blob, entry)) = known else {
        return Err(Halt::Error(match reference {
            Reference::Digest(digest) if repository.leaves_out(digest) => Error::LeftOut {
                name: name.clone(),
                digest: *digest,
                as_manifest: true,
            },
            reference => Error::manifest_unknown(name, reference),
        }));
    };
    let subject = metalink::Subject {
        name,
        id,
        blob,
        endpoint: "manifests",
    };
    if mirrorlist::is_asked_for(request) {
        let list = mirrorlist::respond(&subject, request, snapshot)?;
        return Ok(Answer::of(Kind::MirrorList, list));
    }
    if let Some(version) = request.metalink() {
        return metalink::respond(version, &subject, request, snapshot, found);
    }

    let mut digest = Vec::with_capacity(192);
    digest.extend_from_slice(blob.digest.algorithm().name().as_bytes());
    digest.push(b':');
    blob.digest.hex().append_to(&mut digest);
    let known = request.is_conditional() && {
        let etag = [&b"\""[..], &digest, b"\""].concat();
        request.knows(&HeaderValue::try_from(etag).map_err(|_| Error::Internal)?)?
    };
    let mut response = Response::new(Body::empty());
    let mut fields = Fields::new(response.headers_mut(), 6);
    fields.fixed(VARY, "Accept");
    fields.add(CONTENT_DIGEST, &[&digest]);
    fields.add(ETAG, &[b"\"", &digest, b"\""]);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(Answer::new(response));
    }
    fields.number(CONTENT_LENGTH, blob.size);
    let media_type = repository.media_type(id, entry).as_str();
    fields.add(CONTENT_TYPE, &[media_type.as_bytes()]);
    if request.method == Method::GET {
        let bytes = match (&entry.bytes, found) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some(Found::Manifest(read))) => read?,
            (None, _) => return Err(Halt::Wants(Want::Manifest(blob.digest))),
        };
        *response.body_mut() = bytes.into();
    }
    Ok(Answer::from_tree(response))
}
