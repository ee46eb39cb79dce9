//! A mirror on loopback: serves a real tree, and for chosen paths does what mirrors should not.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
    HeaderName, LAST_MODIFIED, LOCATION, RANGE, USER_AGENT,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Body = BoxBody<Bytes, io::Error>;

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, with a short page.
    Status(u16),
    /// One byte in the middle is another one.
    FlippedByte,
    /// The file lacks its last byte, and its length agrees with that.
    Shorter,
    /// The file has one byte more, and its length agrees with that.
    Longer,
    /// As [`Fault::Longer`], but nothing says how long it is.
    LongerUnannounced,
    /// The right length is announced, half is sent, the connection is closed.
    Truncated,
    /// A body without end and without a length.
    Endless,
    /// A page that says something else, with status 200.
    Page,
    /// The same, and nothing says how long it is.
    PageUnannounced,
    /// This `Content-Encoding`.
    Encoded(&'static str),
    /// The connection is closed without an answer.
    Close,
    /// There is never an answer.
    Silent,
    /// Half of the body, then nothing any more.
    Stall,
    /// A byte now and then.
    Trickle,
    /// The whole answer takes this long to begin.
    Slow(Duration),
    /// Somewhere else.
    Redirect(String),
    /// `HEAD` is not allowed; all else is well.
    NoHead,
    /// `HEAD` names no length; all else is well.
    HeadWithoutLength,
    /// `HEAD` names the length 0; all else is well.
    HeadOfNothing,
    /// `HEAD` finds everything, with the right length; the bytes are others.
    OnlyHead,
    /// The byte at this place is another one.
    FlippedAt(usize),
    /// One byte in the middle is another one, if a browser asks.
    FlippedForBrowsers,
    /// Encoded with gzip, it says, if that is understood.
    EncodedIfUnderstood,
    /// All of the file, whatever part is asked for.
    NoRanges,
    /// The part that is asked for, but it is said to be another.
    OtherContentRange,
    /// Another part of the same length, said to be the one that is asked for.
    OtherPart,
    /// Parts are sent as several.
    Multipart,
    /// A part without end.
    EndlessPart,
    /// A header of a megabyte.
    HugeHeader,
    /// Times of another century.
    AbsurdTimes,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

#[derive(Debug, Default)]
struct State {
    faults: HashMap<String, Fault>,
    everywhere: Option<Fault>,
    asked: Vec<Asked>,
    connections: usize,
    sent: usize,
}

#[derive(Debug)]
pub(crate) struct HostileMirror {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: JoinSet<()>,
}

impl HostileMirror {
    pub(crate) async fn start(tree: &Path) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), tree).await
    }

    pub(crate) async fn start_at(address: SocketAddr, tree: &Path) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, tree.to_owned(), Arc::clone(&state)));
        Self {
            address,
            state,
            _server: server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request for `path` goes wrong.
    pub(crate) fn fail(&self, path: impl Into<String>, fault: Fault) {
        self.state().faults.insert(path.into(), fault);
    }

    /// Every request for a path without a fault of its own goes wrong.
    pub(crate) fn fail_everywhere(&self, fault: Fault) {
        self.state().everywhere = Some(fault);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.everywhere = None;
    }

    /// Takes the requests made so far, but for those for the tree's state.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        let mut asked = std::mem::take(&mut self.state().asked);
        asked.retain(|asked| asked.path != "/state.json");
        asked
    }

    /// How many requests came since they were last taken.
    pub(crate) fn requests(&self) -> usize {
        self.state().asked.len()
    }

    /// Waits for the first connection.
    pub(crate) async fn is_asked(&self) {
        while self.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.state().connections
    }

    /// How many bytes of bodies without end were taken off our hands.
    pub(crate) fn sent(&self) -> usize {
        self.state().sent
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve(listener: TcpListener, tree: PathBuf, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        state.lock().unwrap().connections += 1;
        let (tree, state) = (tree.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| answer(request, &tree, &state));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
            // A connection that a fault breaks is not our failure.
            drop(connection);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    tree: &Path,
    state: &Arc<Mutex<State>>,
) -> io::Result<Response<Body>> {
    let (head, _) = request.into_parts();
    let path = head.uri.path().to_owned();
    let is_head = head.method == Method::HEAD;
    let fields = head.headers.clone();
    let fault = {
        let mut state = state.lock().unwrap();
        state.asked.push(Asked {
            method: head.method,
            path: path.clone(),
            headers: head.headers,
        });
        let fault = state.faults.get(&path).or(state.everywhere.as_ref());
        fault.cloned()
    };
    let file = || {
        std::fs::read(tree.join(path.trim_start_matches('/')))
            .ok()
            .filter(|_| !path.contains(".."))
    };
    let mut response = match &fault {
        Some(Fault::Close) => return Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Status(status)) => page(StatusCode::from_u16(*status).unwrap()),
        Some(Fault::Page) => page(StatusCode::OK),
        Some(Fault::PageUnannounced) => unannounced(&[PAGE.as_bytes()]),
        Some(Fault::Endless) => endless(state),
        Some(Fault::NoHead) if is_head => page(StatusCode::METHOD_NOT_ALLOWED),
        Some(Fault::Redirect(to)) => {
            let mut response = page(StatusCode::FOUND);
            response.headers_mut().insert(LOCATION, to.parse().unwrap());
            response
        }
        _ => match file() {
            Some(content) if matches!(fault, Some(Fault::EndlessPart)) => {
                let mut response = endless(state);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let range = range(&fields, content.len()).unwrap_or(0..content.len());
                set(
                    &mut response,
                    CONTENT_RANGE,
                    &content_range(&range, content.len()),
                );
                response
            }
            Some(content) => spoilt(content, fault.as_ref(), is_head, &fields).await,
            None => page(StatusCode::NOT_FOUND),
        },
    };
    if is_head {
        *response.body_mut() = Full::default().map_err(|never| match never {}).boxed();
    }
    Ok(response)
}

/// A file of the tree, as the fault has it.
async fn spoilt(
    mut content: Vec<u8>,
    fault: Option<&Fault>,
    is_head: bool,
    fields: &HeaderMap,
) -> Response<Body> {
    let is_browser = fields[USER_AGENT].as_bytes().starts_with(b"Mozilla");
    match fault {
        Some(Fault::FlippedByte) => {
            let middle = content.len() / 2;
            content[middle] ^= 1;
        }
        Some(Fault::FlippedForBrowsers) if is_browser => {
            let middle = content.len() / 2;
            content[middle] ^= 1;
        }
        Some(Fault::FlippedAt(place)) => content[*place] ^= 1,
        Some(Fault::OnlyHead) => content.fill(b'!'),
        Some(Fault::Shorter) => drop(content.pop()),
        Some(Fault::Longer | Fault::LongerUnannounced) => content.push(b'!'),
        Some(Fault::Slow(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let whole = content.len();
    let range = range(fields, whole).filter(|_| !matches!(fault, Some(Fault::NoRanges)));
    if let Some(range) = &range {
        if matches!(fault, Some(Fault::OtherPart)) {
            content.rotate_left(1);
        }
        content = content[range.clone()].to_vec();
    }
    let mut response = whole_or_part(content, fault, is_head);
    if let Some(range) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let named = match fault {
            Some(Fault::OtherContentRange) => range.start + 1..range.end + 1,
            _ => range,
        };
        if matches!(fault, Some(Fault::Multipart)) {
            set(
                &mut response,
                CONTENT_TYPE,
                "multipart/byteranges; boundary=x",
            );
        } else {
            set(&mut response, CONTENT_RANGE, &content_range(&named, whole));
        }
    }
    match fault {
        Some(Fault::EncodedIfUnderstood) if fields[ACCEPT_ENCODING] == "gzip" => {
            set(&mut response, CONTENT_ENCODING, "gzip");
        }
        Some(Fault::HugeHeader) => set(&mut response, CONTENT_TYPE, &"x".repeat(1 << 20)),
        Some(Fault::AbsurdTimes) => {
            set(&mut response, DATE, "Fri, 13 Dec 1901 20:45:52 GMT");
            set(
                &mut response,
                LAST_MODIFIED,
                "Wed, 31 Dec 9999 23:59:60 GMT",
            );
        }
        _ => {}
    }
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    response.headers_mut().insert(name, value.parse().unwrap());
}

fn content_range(range: &Range<usize>, whole: usize) -> String {
    format!("bytes {}-{}/{whole}", range.start, range.end - 1)
}

/// The part of a file that is asked for, in the one way the crawler does.
fn range(fields: &HeaderMap, length: usize) -> Option<Range<usize>> {
    let field = fields.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (first, last) = field.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (last < length).then_some(first..last + 1)
}

/// These bytes, as the fault sends bytes.
fn whole_or_part(content: Vec<u8>, fault: Option<&Fault>, is_head: bool) -> Response<Body> {
    let length = match fault {
        Some(Fault::HeadOfNothing) if is_head => Some(0),
        Some(Fault::HeadWithoutLength) if is_head => None,
        Some(Fault::LongerUnannounced) => None,
        _ => Some(content.len()),
    };
    let (half, rest) = content.split_at(content.len() / 2);
    let half = Bytes::copy_from_slice(half);
    let body = match fault {
        Some(Fault::Truncated) => {
            // What was sent before is to arrive before the connection breaks.
            let breaks = stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(io::ErrorKind::ConnectionReset.into())
            });
            streamed(stream::iter([Ok(half)]).chain(breaks))
        }
        Some(Fault::Stall) => streamed(stream::iter([Ok(half)]).chain(stream::pending())),
        Some(Fault::Trickle) => {
            let bytes: Vec<u8> = content.clone();
            streamed(stream::iter(bytes).then(|byte| async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(Bytes::copy_from_slice(&[byte]))
            }))
        }
        Some(Fault::LongerUnannounced) => {
            return unannounced(&[&half[..], rest]);
        }
        _ => Full::new(Bytes::from(content))
            .map_err(|never| match never {})
            .boxed(),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if let Some(Fault::Encoded(encoding)) = fault {
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
    }
    response
}

fn page(status: StatusCode) -> Response<Body> {
    let body = Full::new(Bytes::from_static(PAGE.as_bytes()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, "text/html".parse().unwrap());
    headers.insert(CONTENT_LENGTH, PAGE.len().into());
    response
}

/// These parts, chunked.
fn unannounced(parts: &[&[u8]]) -> Response<Body> {
    let parts: Vec<_> = parts
        .iter()
        .map(|part| Ok(Bytes::copy_from_slice(part)))
        .collect();
    Response::new(streamed(stream::iter(parts)))
}

fn endless(state: &Arc<Mutex<State>>) -> Response<Body> {
    let state = Arc::clone(state);
    let block = Bytes::from(vec![0; 64 << 10]);
    let blocks = stream::repeat_with(move || {
        state.lock().unwrap().sent += block.len();
        Ok(block.clone())
    });
    Response::new(streamed(blocks))
}

fn streamed(parts: impl stream::Stream<Item = io::Result<Bytes>> + Send + Sync + 'static) -> Body {
    BodyExt::boxed(StreamBody::new(parts.map(|part| part.map(Frame::data))))
}

impl Asked {
    /// A field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Whether the bytes were asked for as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.field(ACCEPT_ENCODING.as_str()) == "identity" && !self.headers.contains_key("range")
    }
}

const PAGE: &str = "<!DOCTYPE html><title>Log in to the hotel's network</title>\n";
