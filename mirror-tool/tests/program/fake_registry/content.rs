//! Bodies, whole or faulty.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use oci_mirror::digest::Digest;
use oci_mirror::media_type::MediaType;

use super::{Body, Fault};

pub(super) fn content_response(
    request: &Request<Bytes>,
    digest: &Digest,
    media_type: Option<&MediaType>,
    content: Bytes,
    fault: Option<&Fault>,
) -> Response<Body> {
    let mut content = match fault {
        Some(Fault::WrongByte) => {
            let mut bytes = content.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            bytes.into()
        }
        Some(Fault::Short(bytes)) => content.slice(..content.len() - *bytes),
        _ => content,
    };
    let total = content.len();
    let offset = request
        .headers()
        .get(header::RANGE)
        .filter(|_| {
            !matches!(
                fault,
                Some(Fault::IgnoreRange | Fault::TruncateFromStart(_))
            )
        })
        .and_then(|range| {
            let text = range.to_str().unwrap();
            text.strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    if let Some(offset) = offset {
        content = content.slice(offset..);
        let range = format!("bytes {offset}-{}/{total}", total - 1);
        headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
    }
    let length = match fault {
        Some(Fault::HugeLength) => 1 << 30,
        _ => content.len(),
    };
    if !matches!(fault, Some(Fault::Endless)) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    headers.insert("docker-content-digest", digest.to_string().parse().unwrap());
    let media_type = media_type.map_or("application/octet-stream", MediaType::as_str);
    headers.insert(header::CONTENT_TYPE, media_type.parse().unwrap());
    match fault {
        Some(Fault::Header(name, value)) => {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        Some(Fault::NoHeader(name)) => {
            headers.remove(*name);
        }
        _ => {}
    }
    if offset.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if request.method() == Method::HEAD {
        return response;
    }
    *response.body_mut() = match fault {
        Some(Fault::Trickle(pause)) => {
            let pause = *pause;
            let frames = stream::unfold(content, move |mut rest| async move {
                tokio::time::sleep(pause).await;
                let byte = rest.split_to(rest.len().min(1));
                (!byte.is_empty()).then(|| (Ok(Frame::data(byte)), rest))
            });
            BodyExt::boxed(StreamBody::new(frames))
        }
        Some(Fault::Truncate(bytes) | Fault::TruncateFromStart(bytes)) => {
            breaking(content.slice(..(*bytes).min(content.len())))
        }
        Some(Fault::HugeLength) => breaking(content),
        Some(Fault::Stall) => {
            let half = content.slice(..content.len() / 2);
            let frames = stream::iter([Ok(Frame::data(half))]);
            let frames = futures_util::StreamExt::chain(frames, stream::pending());
            BodyExt::boxed(StreamBody::new(frames))
        }
        Some(Fault::Endless) => {
            let block = Bytes::from(vec![0; 64 << 10]);
            let frames = stream::repeat_with(move || Ok(Frame::data(block.clone())));
            BodyExt::boxed(StreamBody::new(frames))
        }
        _ => Full::new(content).map_err(|never| match never {}).boxed(),
    };
    response
}

/// These bytes, then the connection is closed.
fn breaking(bytes: Bytes) -> Body {
    // Sent in parts with a breath between, so that what was sent is received before the break.
    let frames = stream::unfold((bytes, false), |(mut rest, done)| async move {
        if done {
            return None;
        }
        if rest.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Some((
                Err(std::io::ErrorKind::ConnectionReset.into()),
                (rest, true),
            ));
        }
        let part = rest.split_to(rest.len().min(256 << 10));
        Some((Ok(Frame::data(part)), (rest, false)))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

pub(super) fn respond(status: StatusCode, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_owned()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed()
}
