//! What happens to each request: who asks, under which URL, and which part of the program answers.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use futures_util::future::{BoxFuture, Either, FutureExt as _};
use http::header::{CONNECTION, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use oci_mirror::http::server::{Connection, Server};
use oci_mirror::http::{Body, files};
use oci_mirror::reference::RegistryHost;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::base_url::Scheme;
use crate::checkin::Desk;
use crate::client_address::{Caller, TrustedProxies};
use crate::observe::{Event, Kind, Observer, Outcome};
use crate::snapshot::Snapshot;
use crate::v2::{self, fields};
use crate::web;

/// What every request sees.
#[derive(Debug)]
pub struct Shared {
    /// The current snapshot; `None` until a tree could be read.
    pub snapshot: Arc<ArcSwapOption<Snapshot>>,
    /// Whose word on the client's address is taken while there is no snapshot, and on a connection
    /// before its first request.
    pub trusted: Arc<ArcSwap<TrustedProxies>>,
    /// What we call ourselves towards a client that does not say.
    pub fallback: RegistryHost,
    /// What takes note of requests.
    pub observer: Arc<Observer>,
    /// Where mirrors check in.
    pub desk: Arc<Desk>,
}

impl Shared {
    /// Serves every listener of `server` until `shutdown`, then drains.
    pub async fn serve(self: Arc<Self>, server: Server, shutdown: CancellationToken) {
        let pages = web::router(Arc::clone(&self));
        let service = move |connection: Connection| {
            let visit = Arc::new(Visit {
                shared: Arc::clone(&self),
                pages: pages.clone(),
                connection,
            });
            service_fn(move |request| visit.respond(request))
        };
        server.run(service, shutdown).await;
    }
}

/// One connection, with what is the same for all its requests.
#[derive(Debug)]
struct Visit {
    shared: Arc<Shared>,
    pages: axum::Router,
    connection: Connection,
}

/// An answer that is there, or that somebody has to wait for.
///
/// Most are there at once: nothing has to be kept, and moved about, for the time of waiting.
type Responding = Either<Ready<Answered>, BoxFuture<'static, Answered>>;

type Answered = Result<Response<Body>, Infallible>;

/// Most that is read for one answer: the pieces of a blob, and its file if there are none; or the other way
/// round, if the file is gone.
const MAX_READS: usize = 2;

impl Visit {
    /// Answers one request.
    ///
    /// No client of a registry sends a body in chunks to read something. One that gives a length as well
    /// wants a proxy before us and us to disagree about where the request ends, and hyper has taken the
    /// length away by now: so nothing that follows chunks is looked at.
    fn respond(self: &Arc<Self>, request: Request<Incoming>) -> Responding {
        let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let path = request.uri().path();
        let responding = if path == "/v2" || path.starts_with("/v2/") {
            let (head, _body) = request.into_parts();
            self.api(head)
        } else {
            let visit = Arc::clone(self);
            Either::Right(async move { Ok(visit.other(request).await) }.boxed())
        };
        if !is_chunked {
            return responding;
        }
        let closing = responding.map(|response| {
            response.map(|mut response| {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
                response
            })
        });
        Either::Right(closing.boxed())
    }

    /// Answers a request to the registry API: at once, unless the disk has to be waited for.
    fn api(self: &Arc<Self>, head: http::request::Parts) -> Responding {
        let began = self.shared.observer.begin();
        // One snapshot answers the whole request, whatever is swapped in meanwhile.
        let snapshot = self.shared.snapshot.load();
        let mut want = match self.v2(&head, began, snapshot.as_deref(), None) {
            Ok(response) => {
                fields::recycle(head.headers);
                return Either::Left(ready(Ok(response)));
            }
            Err(want) => want,
        };
        let (visit, snapshot) = (Arc::clone(self), Guard::into_inner(snapshot));
        let reading = async move {
            for _ in 0..MAX_READS {
                let found = match &snapshot {
                    Some(snapshot) => Some(want.read(snapshot).await),
                    None => None,
                };
                match visit.v2(&head, began, snapshot.as_deref(), found) {
                    Ok(response) => return Ok(response),
                    Err(next) => want = next,
                }
            }
            Ok(v2::Error::Internal.into_response())
        };
        Either::Right(reading.boxed())
    }

    /// Answers what is no request to the registry API.
    async fn other(&self, request: Request<Incoming>) -> Response<Body> {
        let began = self.shared.observer.begin();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let snapshot = self.shared.snapshot.load_full();
        let headers = request.headers().clone();
        let (kind, response) = self.page(request).await;
        let length = http_body::Body::size_hint(response.body()).lower();
        self.with_caller(snapshot.as_deref(), &headers, |caller| {
            let event = Event {
                kind,
                outcome: Outcome::of(response.status()),
                status: response.status(),
                method: &method,
                uri: &uri,
                client: caller,
                repository: None,
                mirror: None,
                redirected_bytes: 0,
                sent_bytes: if kind == Kind::Tree && method != Method::HEAD {
                    length
                } else {
                    0
                },
                duration: began.elapsed(),
            };
            self.shared.observer.request(&event, snapshot.as_deref());
        });
        response
    }

    async fn page(&self, request: Request<Incoming>) -> (Kind, Response<Body>) {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if reads && request.headers().contains_key(TRANSFER_ENCODING) {
            let message = "a request to read something has no body\n";
            return (Kind::Page, files::text(StatusCode::BAD_REQUEST, message));
        }
        // What passes the router comes out as a stream of unknown make: no longer as a file the kernel
        // can send. The router also knows escapes, which no path of a tree needs.
        let file = request.uri().path().strip_prefix("/tree/");
        if let Some(file) = file.filter(|file| !file.contains('%')) {
            let (method, headers) = (request.method(), request.headers());
            return (
                Kind::Tree,
                web::file(&self.shared, file, method, headers).await,
            );
        }
        let kind = if file.is_some() {
            Kind::Tree
        } else {
            Kind::Page
        };
        let mut pages = self.pages.clone();
        let Ok(response) = pages.call(request.map(axum::body::Body::new)).await;
        (kind, response.map(Body::boxed))
    }

    /// Calls `then` with who asks.
    fn with_caller<T>(
        &self,
        snapshot: Option<&Snapshot>,
        headers: &HeaderMap,
        then: impl FnOnce(&Caller<'_>) -> T,
    ) -> T {
        let early;
        let trusted = match snapshot {
            Some(snapshot) => &snapshot.trusted,
            None => {
                early = self.shared.trusted.load();
                &**early
            }
        };
        then(&Caller::new(trusted, self.connection.peer, headers))
    }

    /// Answers a request to the registry API with what was found on the disk, or says what is wanted.
    fn v2(
        &self,
        head: &http::request::Parts,
        began: Instant,
        snapshot: Option<&Snapshot>,
        found: Option<v2::Found>,
    ) -> Result<Response<Body>, v2::Want> {
        self.with_caller(snapshot, &head.headers, |caller| {
            self.v2_to(caller, head, began, snapshot, found)
        })
    }

    fn v2_to(
        &self,
        caller: &Caller<'_>,
        head: &http::request::Parts,
        began: Instant,
        snapshot: Option<&Snapshot>,
        found: Option<v2::Found>,
    ) -> Result<Response<Body>, v2::Want> {
        let scheme = if self.connection.encrypted {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let request = v2::Request {
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
            caller,
            scheme,
            fallback: &self.shared.fallback,
            at: began,
        };
        let answer = v2::respond(&request, snapshot, found)?;
        let status = answer.response.status();
        let event = Event {
            kind: answer.kind.unwrap_or(Kind::Other),
            outcome: if answer.is_metalink {
                Outcome::Metalink
            } else {
                Outcome::of(status)
            },
            status,
            method: &head.method,
            uri: &head.uri,
            client: caller,
            repository: answer.repository.as_ref(),
            mirror: answer.mirror.map(|(mirror, _)| mirror),
            redirected_bytes: answer.mirror.map_or(0, |(_, bytes)| bytes),
            sent_bytes: answer.from_tree,
            duration: began.elapsed(),
        };
        self.shared.observer.request(&event, snapshot);
        Ok(answer.response)
    }
}
