//! Manifests: always answered here, byte for byte, because they are what a pull trusts.
//!
//! No plain mirror can send the exact media type a client insists on, and a tag's answer has no
//! digest the client could check, so a manifest is never redirected.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, VARY};
use http::{Method, Response, StatusCode};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::manifest;
use oci_mirror::reference::{Reference, RepoName};
use oci_mirror::tree::{Tree, TreePath};

use super::CONTENT_DIGEST;
use super::answer::Answer;
use super::error::Error;
use super::fields::Fields;
use super::mirrorlist;
use super::request::Request;
use crate::metalink;
use crate::observe::Kind;
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
        return Ok(Answer::of(Kind::MirrorList, list));
    }
    if let Some(version) = request.metalink() {
        return metalink::respond(version, &subject, request, snapshot).await;
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
        let bytes = match &entry.bytes {
            Some(bytes) => bytes.clone(),
            None => {
                let (tree, digest) = (snapshot.tree.clone(), blob.digest);
                let read = move || sound(&tree, &digest);
                let read = tokio::task::spawn_blocking(read)
                    .await
                    .map_err(|_| Error::Internal)?;
                read?
            }
        };
        *response.body_mut() = bytes.into();
    }
    Ok(Answer::from_tree(response))
}

/// The bytes of a manifest, which a client by tag cannot check: so they are checked here.
fn sound(tree: &Tree, digest: &Digest) -> Result<Bytes, Error> {
    let path = TreePath::Blob(*digest);
    let bytes = tree.read(&path, manifest::MAX_BYTES).map_err(Error::Tree)?;
    if digest.algorithm().digest(&bytes) == *digest {
        Ok(bytes)
    } else {
        Err(Error::Damaged(*digest))
    }
}
