//! One request, from its path to its answer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use oci_mirror::digest::{Algorithm, Digest};

use super::content::{content_response, respond};
use super::login::authenticate;
use super::referrers::referrers;
use super::{Body, Fault, State};

pub(super) async fn answer(
    request: &Request<Bytes>,
    state: &Arc<Mutex<State>>,
    address: SocketAddr,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (fault, refusal) = {
        let mut state = state.lock().unwrap();
        state.log.push(format!("{} {path}", request.method()));
        state.authorized += usize::from(request.headers().contains_key(header::AUTHORIZATION));
        let queued = state.faults.get_mut(&path).and_then(VecDeque::pop_front);
        let fault = queued.or_else(|| state.lasting.get(&path).cloned());
        (fault, authenticate(request, &mut state, address))
    };
    let hook = state.lock().unwrap().hook.clone();
    if let Some(response) = hook.and_then(|hook| hook(&path, request.uri().query().unwrap_or(""))) {
        return response.map(|body| Full::new(body).map_err(|never| match never {}).boxed());
    }
    if let Some(response) = refusal
        && (path != "/token" || fault.is_none())
    {
        return response;
    }
    if let Some(fault) = &fault
        && let Some(response) = meet(fault, &path, state).await
    {
        return response;
    }
    if path == "/token" {
        let token = state.lock().unwrap().new_token();
        let digest = Algorithm::Sha256.digest(b"");
        return content_response(request, &digest, None, token.into(), fault.as_ref());
    }
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    if let Some((_, digest)) = rest.split_once("/referrers/")
        && state.lock().unwrap().referrers
    {
        return referrers(request, digest, &state.lock().unwrap());
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        if let Some(Fault::Endless) = fault {
            let start = stream::iter([Ok(Frame::data(Bytes::from(r#"{"tags":["a""#)))]);
            let block = Bytes::from(r#","a""#.repeat(16 << 10));
            let rest = stream::repeat_with(move || Ok(Frame::data(block.clone())));
            let frames = futures_util::StreamExt::chain(start, rest);
            return Response::new(BodyExt::boxed(StreamBody::new(frames)));
        }
        let mut response = tags(request, name, &state.lock().unwrap());
        if let Some(Fault::Header(name, value)) = fault {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        return response;
    }
    if let Some((name, reference)) = rest.split_once("/manifests/") {
        return manifest(
            request,
            name,
            reference,
            fault.as_ref(),
            &state.lock().unwrap(),
        );
    }
    if let Some((_, digest)) = rest.split_once("/blobs/") {
        return blob(request, digest, fault.as_ref(), state).await;
    }
    if rest.is_empty() {
        return respond(StatusCode::OK, "{}");
    }
    respond(StatusCode::NOT_FOUND, "what?")
}

/// What a fault does before there is an answer: to take its time, or to be the answer.
async fn meet(fault: &Fault, path: &str, state: &Arc<Mutex<State>>) -> Option<Response<Body>> {
    match fault {
        Fault::Answer(status, media_type, body) => {
            let mut response = respond(StatusCode::from_u16(*status).unwrap(), body);
            let media_type = HeaderValue::from_static(media_type);
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, media_type);
            return Some(response);
        }
        Fault::Status(status, fields) => {
            let body = r#"{"errors":[{"code":"FAULT","message":"as you wished"}]}"#;
            let mut response = respond(StatusCode::from_u16(*status).unwrap(), body);
            for (name, value) in fields {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            return Some(response);
        }
        Fault::Slow(time) => {
            if path.contains("/blobs/") {
                let mut state = state.lock().unwrap();
                state.blobs_now += 1;
                state.blobs_most = state.blobs_most.max(state.blobs_now);
            }
            tokio::time::sleep(*time).await;
            if path.contains("/blobs/") {
                state.lock().unwrap().blobs_now -= 1;
            }
        }
        _ => {}
    }
    None
}

fn manifest(
    request: &Request<Bytes>,
    name: &str,
    reference: &str,
    fault: Option<&Fault>,
    state: &State,
) -> Response<Body> {
    let found = {
        let digest = match reference.parse::<Digest>() {
            Ok(digest) => Some(digest),
            Err(_) => state
                .tags
                .get(name)
                .and_then(|tags| tags.get(reference))
                .copied(),
        };
        digest.and_then(|digest| Some((digest, state.manifests.get(&digest)?.clone())))
    };
    let accepted = request
        .headers()
        .get_all(header::ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap().split(", "))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    match found {
        Some((digest, (media_type, content))) if accepted.contains(&media_type.to_string()) => {
            content_response(request, &digest, Some(&media_type), content, fault)
        }
        _ => respond(
            StatusCode::NOT_FOUND,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
        ),
    }
}

async fn blob(
    request: &Request<Bytes>,
    digest: &str,
    fault: Option<&Fault>,
    state: &Arc<Mutex<State>>,
) -> Response<Body> {
    let found = digest
        .parse::<Digest>()
        .ok()
        .and_then(|digest| Some((digest, state.lock().unwrap().blobs.get(&digest)?.clone())));
    match found {
        Some((digest, content)) => {
            // Long enough for a second request to come while the first is under way.
            tokio::time::sleep(Duration::from_millis(5)).await;
            content_response(request, &digest, None, content, fault)
        }
        None => respond(
            StatusCode::NOT_FOUND,
            r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#,
        ),
    }
}

fn tags(request: &Request<Bytes>, name: &str, state: &State) -> Response<Body> {
    let Some(tags) = state.tags.get(name) else {
        return respond(
            StatusCode::NOT_FOUND,
            r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#,
        );
    };
    if tags.is_empty() {
        return respond(
            StatusCode::OK,
            &format!(r#"{{"name":"{name}","tags":null}}"#),
        );
    }
    let last = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("last="))
        .unwrap_or_default();
    let mut rest = tags.keys().filter(|tag| tag.as_str() > last);
    let page: Vec<_> = rest
        .by_ref()
        .take(state.page.unwrap_or(usize::MAX))
        .collect();
    let more = rest.next().is_some();
    // In the wrong order, as distribution gives them.
    let names: Vec<_> = page.iter().rev().map(|tag| format!("{tag:?}")).collect();
    let body = format!(r#"{{"name":"{name}","tags":[{}]}}"#, names.join(","));
    let mut response = respond(StatusCode::OK, &body);
    if more {
        let link = format!(
            r#"</v2/{name}/tags/list?last={}>; rel="next""#,
            page[page.len() - 1]
        );
        response
            .headers_mut()
            .insert(header::LINK, link.parse().unwrap());
    }
    response
}
