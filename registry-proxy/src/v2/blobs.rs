//! Blobs: a metalink, a redirect to a mirror verified to hold the very blob, or the bytes.
//!
//! No client survives a 404 or wrong bytes from a mirror, so only verified mirrors are named. Small
//! blobs, image configs above all, are sent from here: the round trip would cost more than the bytes,
//! and podman gives up a pull when the config fails. A client that comes back from a mirror is sent to
//! another one, and at last gets the bytes, see [`ladder`](crate::remembered::ladder). What the tree has lost is at
//! mirrors only, whatever its size and however it is asked for: then a client that comes back goes from one to
//! the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, VARY,
};
use http::{Method, Response, StatusCode};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::http::conditions;
use oci_mirror::range::{ByteRanges, Selection};
use oci_mirror::reference::RepoName;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::pieces::count_for;

use super::answer::Answer;
use super::disk::{Found, Halt, Want};
use super::error::Error;
use super::fields::Fields;
use super::mirrorlist;
use super::request::Request;
use crate::config::stream::From;
use crate::metalink::fields::Redirect::{No, ToFirst};
use crate::metalink::{self, fields};
use crate::observe::Kind;
use crate::presence::HostPosition;
use crate::relay;
use crate::remembered::{Asked, Demand, OURSELVES};
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

    let mut part = Part::default();
    if request.is_conditional() {
        let etag = value(&format!("\"{digest}\""))?;
        if request.knows(&etag)? {
            return Ok(finish(Reply::Unchanged, &[], &subject, request, snapshot));
        }
        let ranges = conditions::requested_ranges(request.method, request.headers, &etag)?;
        if let Some(ranges) = ranges {
            part = Part {
                selection: Some(ranges.select(blob.size)),
                ranges: Some(ranges),
            };
        }
    }
    let mut mirrors = snapshot.listed(name, id, request.asker(), fields::MAX_LINKS);
    let reply = if request.method == Method::HEAD {
        Reply::Head
    } else {
        deliver(&part, &subject, &mut mirrors, (request, snapshot), found)?
    };
    if matches!(reply, Reply::Redirect(_)) {
        snapshot.remembered.popular.note(id);
    }
    Ok(finish(reply, &mirrors, &subject, request, snapshot))
}

/// What of a blob is asked for.
#[derive(Debug, Default)]
struct Part {
    /// Nothing: the whole.
    selection: Option<Selection>,
    /// What says so.
    ranges: Option<ByteRanges>,
}

impl Part {
    /// How many bytes it has, of a blob of `size`.
    fn length(&self, size: u64) -> u64 {
        match &self.selection {
            Some(Selection::Part(part)) => part.end - part.start,
            Some(Selection::Unsatisfiable) => 0,
            None | Some(Selection::Whole | Selection::Parts(_)) => size,
        }
    }

    fn are_several(&self) -> bool {
        self.ranges.as_ref().is_some_and(ByteRanges::are_several)
    }

    /// What may tell of a retry. Whoever wants some part of a blob, as those do who load what is used of it, says
    /// nothing of another.
    fn demand(&self, size: u64) -> Option<Demand<'_>> {
        match &self.ranges {
            Some(ranges) if ranges.are_several() => Some(Demand::Parts(ranges)),
            ranges => match ranges.as_ref().and_then(ByteRanges::resumes_at) {
                Some(first) => Some(Demand::From(first)),
                None => (self.length(size) == size).then_some(Demand::Whole),
            },
        }
    }
}

/// How the bytes get to the client: from the first of the `mirrors`, which are put in order, or from here.
fn deliver(
    part: &Part,
    subject: &metalink::Subject<'_>,
    mirrors: &mut [HostPosition],
    (request, snapshot): (&Request<'_>, &Snapshot),
    found: Option<Found>,
) -> Result<Reply, Halt> {
    let (blob, policy) = (subject.blob, &snapshot.policy);
    let wanted = part.length(blob.size);
    let client = request.client().map(ClientKey::of);
    let step = |mirrors: &mut [_], asked: &Asked<'_>| {
        take_step(mirrors, asked, (request.at, policy.retry_window), snapshot)
    };
    // Not every mirror answers several ranges at once, and podman bears no other answer.
    let far = !mirrors.is_empty() && blob.size >= policy.min_size && !part.are_several();
    let through = far && policy.relay.is_for(request.headers);
    let from = policy.relay.settings.from;
    let relays = through
        && match &found {
            None => from == From::Mirrors,
            // Of a blob that has none, the tree is next; looked for last, they are for what it has lost.
            Some(Found::Pieces(_)) => true,
            Some(Found::Blob(read)) => from == From::Tree && read.is_err(),
            Some(Found::Manifest(_)) => false,
        };
    if relays {
        let ourselves = Asked::by(Some(*OURSELVES));
        take_step(mirrors, &ourselves, (request.at, relay::ASIDE), snapshot);
        if let Some(response) = relay(part, subject, mirrors, snapshot, found.as_ref())? {
            return Ok(Reply::Content(response));
        }
    }
    let demand = part.demand(blob.size);
    let asked = Asked {
        of: demand.map(|demand| (subject.id, demand)),
        ..Asked::by(client)
    };
    let redirects = far && !through;
    // What was read is read because the bytes are to be sent from here.
    if redirects && found.is_none() && step(mirrors, &asked) {
        return Ok(Reply::Redirect(wanted));
    }
    match found {
        Some(Found::Blob(Ok(opened))) => {
            let octets = HeaderValue::from_static(OCTETS);
            let response = opened.respond(octets, request.headers, request.method);
            Ok(Reply::Content(response))
        }
        // The tree has lost it, but a mirror was seen to hold it.
        Some(Found::Blob(Err(error))) if !mirrors.is_empty() => {
            tracing::error!(error = &error as &dyn std::error::Error, blob = %blob.digest, "redirecting instead");
            // One that would have been redirected anyway has taken its step, and that led here.
            if redirects || !step(mirrors, &asked) {
                step(mirrors, &Asked::by(client));
            }
            Ok(Reply::Redirect(wanted))
        }
        Some(Found::Blob(Err(error))) => Err(Halt::Error(error)),
        Some(Found::Pieces(_)) if relays && from == From::Tree => Ok(Reply::Redirect(wanted)),
        _ => Err(Halt::Wants(Want::Blob(blob.digest, blob.size))),
    }
}

/// Puts the mirror first where the client is to go, those before it last; whether there is one.
fn take_step(
    mirrors: &mut [HostPosition],
    asked: &Asked<'_>,
    (at, window): (Instant, Duration),
    snapshot: &Snapshot,
) -> bool {
    if window.is_zero() {
        return true;
    }
    let id = |host: &HostPosition| snapshot.network.host(*host).id;
    let remembered = &snapshot.remembered;
    let step = remembered.step(asked, (at, window), mirrors, id);
    if let Some(first) = step {
        mirrors.rotate_left(first);
    }
    step.is_some()
}

/// The bytes of mirrors, for a client that is sent to none; nothing if they cannot be checked, or there is no
/// room to.
fn relay(
    part: &Part,
    subject: &metalink::Subject<'_>,
    mirrors: &[HostPosition],
    snapshot: &Snapshot,
    found: Option<&Found>,
) -> Result<Option<Response<Body>>, Halt> {
    let blob = subject.blob;
    let part = match &part.selection {
        None | Some(Selection::Whole) => None,
        Some(Selection::Part(part)) => Some(part.clone()),
        Some(Selection::Parts(_) | Selection::Unsatisfiable) => return Ok(None),
    };
    let pieces = match found {
        _ if count_for(blob.size) == 0 => None,
        Some(Found::Pieces(known)) => known.clone(),
        _ => match snapshot.pieces.find(&blob.digest) {
            None => return Err(Halt::Wants(Want::Pieces(blob.digest, blob.size))),
            known => known,
        },
    };
    let path = TreePath::Blob(blob.digest);
    let source = |position: &HostPosition| {
        let host = snapshot.network.host(*position);
        let base = &snapshot.network.source(*position).base;
        relay::Source {
            host: host.id,
            url: format!("{base}{path}"),
            policy: snapshot.policy.relay.policy.towards(host),
        }
    };
    let order = relay::Order {
        digest: blob.digest,
        size: blob.size,
        id: subject.id,
        pieces,
        part,
        sources: mirrors.iter().map(source).collect(),
        tree: snapshot.tree.clone(),
        remembered: Arc::clone(&snapshot.remembered),
    };
    Ok(snapshot.policy.relay.respond(order))
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
    let (digest, url) = (&subject.blob.digest, subject.url(&request.public()));
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
