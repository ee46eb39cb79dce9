//! Blobs: a metalink, a redirect to a mirror verified to hold the very blob, or the bytes.
//!
//! No client survives a 404 or wrong bytes from a mirror, so only verified mirrors are named. Small
//! blobs, image configs above all, are sent from here: the round trip would cost more than the bytes,
//! and podman gives up a pull when the config fails. A client that comes back from a mirror is sent to
//! another one, and at last gets the bytes, see [`ladder`](crate::remembered::ladder).

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, VARY,
};
use http::{Method, Response, StatusCode};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::http::conditions;
use oci_mirror::range::Selection;
use oci_mirror::reference::RepoName;

use super::answer::Answer;
use super::disk::{Found, Halt, Want};
use super::error::Error;
use super::fields::Fields;
use super::mirrorlist;
use super::request::Request;
use crate::metalink::fields::Redirect::{No, ToFirst};
use crate::metalink::{self, fields};
use crate::observe::Kind;
use crate::presence::HostPosition;
use crate::remembered::Asked;
use crate::select::rank::ClientKey;
use crate::snapshot::Snapshot;

const OCTETS: &str = "application/octet-stream";

/// Answers `GET` and `HEAD /v2/<name>/blobs/<digest>`.
pub fn respond(
    request: &Request<'_>,
    snapshot: &Snapshot,
    name: &RepoName,
    digest: &Digest,
    found: Option<Found>,
) -> Result<Answer, Halt> {
    let repository = snapshot.repository(name)?;
    let Some(id) = snapshot.catalog.member(repository, digest) else {
        return Err(Halt::Error(if repository.leaves_out(digest) {
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
        }));
    };
    let blob = snapshot.catalog.blob(id);
    let subject = metalink::Subject {
        name,
        id,
        blob,
        endpoint: "blobs",
    };
    if mirrorlist::is_asked_for(request) {
        let list = mirrorlist::respond(&subject, request, snapshot)?;
        return Ok(Answer::of(Kind::MirrorList, list));
    }
    if let Some(version) = request.metalink() {
        return metalink::respond(version, &subject, request, snapshot, found);
    }

    let (mut sent_from_here, mut wanted, mut resumes) = (false, blob.size, false);
    if request.is_conditional() {
        let etag = value(&format!("\"{digest}\""))?;
        if request.knows(&etag)? {
            return Ok(finish(Reply::Unchanged, &[], &subject, request, snapshot));
        }
        // Not every mirror answers several ranges at once, and podman bears no other answer.
        let ranges = conditions::requested_ranges(request.method, request.headers, &etag)?;
        if let Some(ranges) = ranges {
            sent_from_here = ranges.are_several();
            resumes = ranges.is_resumption();
            wanted = match ranges.select(blob.size) {
                Selection::Part(part) => part.end - part.start,
                Selection::Unsatisfiable => 0,
                Selection::Whole | Selection::Parts(_) => blob.size,
            };
        }
    }
    let mut mirrors = snapshot.listed(name, id, request.asker(), fields::MAX_LINKS);
    if request.method == Method::HEAD {
        return Ok(finish(Reply::Head, &mirrors, &subject, request, snapshot));
    }
    let far = !mirrors.is_empty() && blob.size >= snapshot.policy.min_size;
    // What was read is read because the bytes are to be sent from here.
    let redirected = far && !sent_from_here && found.is_none() && {
        // Whoever wants some part of a blob, as those do who load what is used of it, says nothing of another.
        let is_counted = resumes || wanted == blob.size;
        let asked = request.client.filter(|_| is_counted).map(|client| Asked {
            client: ClientKey::of(client),
            blob: id,
            resumes,
            at: request.at,
        });
        take_step(asked, &mut mirrors, request, snapshot)
    };
    let reply = if redirected {
        Reply::Redirect(wanted)
    } else {
        let Some(Found::Blob(opened)) = found else {
            return Err(Halt::Wants(Want::Blob(blob.digest, blob.size)));
        };
        match opened {
            Ok(opened) => {
                let octets = HeaderValue::from_static(OCTETS);
                Reply::Content(opened.respond(octets, request.headers, request.method))
            }
            // The tree has lost it, but a mirror was seen to hold it.
            Err(error) if !mirrors.is_empty() => {
                tracing::error!(error = &error as &dyn std::error::Error, blob = %digest, "redirecting instead");
                take_step(None, &mut mirrors, request, snapshot);
                Reply::Redirect(wanted)
            }
            Err(error) => return Err(Halt::Error(error)),
        }
    };
    if matches!(reply, Reply::Redirect(_)) {
        snapshot.remembered.popular.note(id);
    }
    Ok(finish(reply, &mirrors, &subject, request, snapshot))
}

/// Puts the mirror first where the client is to go, those before it last; whether there is one.
///
/// What was not `asked` in a way that counts goes where the client has not been failed.
fn take_step(
    asked: Option<Asked>,
    mirrors: &mut [HostPosition],
    request: &Request<'_>,
    snapshot: &Snapshot,
) -> bool {
    let window = snapshot.policy.retry_window;
    // Behind a socket file all clients are one.
    let Some(client) = request.client.filter(|_| !window.is_zero()) else {
        return true;
    };
    let id = |host: &HostPosition| snapshot.network.host(*host).id;
    let remembered = &snapshot.remembered;
    let first = match asked {
        Some(asked) => remembered.step(&asked, window, mirrors, id).mirror,
        None => {
            let client = (ClientKey::of(client), request.at);
            Some(remembered.first(client, window, mirrors, id))
        }
    };
    if let Some(first) = first {
        mirrors.rotate_left(first);
    }
    first.is_some()
}

/// What a client gets that does not get a metalink.
enum Reply {
    /// What it has is what there is.
    Unchanged,
    /// All but the bytes.
    Head,
    /// The best mirror, for so many bytes.
    Redirect(u64),
    /// The bytes, or those asked for.
    Content(Response<Body>),
}

/// Adds what every answer about a blob says.
fn finish(
    reply: Reply,
    mirrors: &[HostPosition],
    subject: &metalink::Subject<'_>,
    request: &Request<'_>,
    snapshot: &Snapshot,
) -> Answer {
    let is_head = matches!(reply, Reply::Head);
    let (redirect, mut answer) = match reply {
        Reply::Unchanged => (No, Answer::new(status(StatusCode::NOT_MODIFIED))),
        Reply::Head => (No, Answer::new(status(StatusCode::OK))),
        Reply::Redirect(bytes) => {
            let mut answer = Answer::new(status(StatusCode::FOUND));
            answer.mirror = mirrors.first().map(|host| (*host, bytes));
            (ToFirst, answer)
        }
        Reply::Content(mut response) => {
            // The tag of the file is that of the blob; it must not be there twice.
            response.headers_mut().remove(ETAG);
            (No, Answer::from_tree(response))
        }
    };
    let mut said = Fields::new(answer.response.headers_mut(), NAMES);
    said.fixed(VARY, "Accept");
    if redirect == ToFirst {
        // The answer depends on who asks and on what the crawler saw last.
        said.fixed(CACHE_CONTROL, "no-store");
        said.fixed(CONTENT_LENGTH, "0");
    }
    if is_head {
        said.fixed(CONTENT_TYPE, OCTETS);
        said.fixed(ACCEPT_RANGES, "bytes");
        said.number(CONTENT_LENGTH, subject.blob.size);
    }
    let sources = mirrors.iter().map(|host| snapshot.network.source(*host));
    let (digest, url) = (&subject.blob.digest, subject.url(request.public));
    fields::add(&mut said, digest, sources, url.as_bytes(), redirect);
    answer
}

/// About how many names an answer has among its fields.
const NAMES: usize = 11;

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(text).map_err(|_| Error::Internal)
}
