//! What happens to each request: who asks, under which URL, and which part of the program answers.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use oci_mirror::http::Body;
use oci_mirror::http::server::{Connection, Server};
use oci_mirror::reference::RegistryHost;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::base_url::{Forwarding, PublicUrl, Scheme};
use crate::client_address::TrustedProxies;
use crate::snapshot::Snapshot;
use crate::v2;
use crate::web;

/// What every request sees.
#[derive(Debug)]
pub struct Shared {
    /// The current snapshot; `None` until a tree could be read.
    pub snapshot: Arc<ArcSwapOption<Snapshot>>,
    /// Whose word on the client's address is taken.
    pub trusted: TrustedProxies,
    /// What we call ourselves towards a client that does not say.
    pub fallback: RegistryHost,
}

impl Shared {
    /// Serves every listener of `server` until `shutdown`, then drains.
    pub async fn serve(self: Arc<Self>, server: Server, shutdown: CancellationToken) {
        let pages = web::router(Arc::clone(&self));
        let service = move |connection: Connection| {
            let visit = Arc::new(Visit {
                forwarding: self.forwarding(connection),
                shared: Arc::clone(&self),
                pages: pages.clone(),
                connection,
            });
            service_fn(move |request| {
                let visit = Arc::clone(&visit);
                async move { Ok::<_, Infallible>(visit.respond(request).await) }
            })
        };
        server.run(service, shutdown).await;
    }

    /// Whether a peer's forwarding fields are believed.
    fn forwarding(&self, connection: Connection) -> Forwarding {
        match connection.peer {
            Some(peer) if self.trusted.trusts(peer.ip()) => Forwarding::Trusted,
            // Whoever may open the socket file was given that right by the operator.
            None => Forwarding::Trusted,
            Some(_) => Forwarding::Untrusted,
        }
    }
}

/// One connection, with what is the same for all its requests.
#[derive(Debug)]
struct Visit {
    shared: Arc<Shared>,
    pages: axum::Router,
    connection: Connection,
    forwarding: Forwarding,
}

impl Visit {
    /// Answers one request.
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if path == "/v2" || path.starts_with("/v2/") {
            let (head, _body) = request.into_parts();
            return self.answer(&head).await.response;
        }
        let mut pages = self.pages.clone();
        let Ok(response) = pages.call(request.map(axum::body::Body::new)).await;
        response.map(Body::boxed)
    }

    /// Answers a request to the registry API.
    async fn answer(&self, head: &http::request::Parts) -> v2::Answer {
        let shared = &self.shared;
        let client = match (self.forwarding, self.connection.peer) {
            (Forwarding::Untrusted, Some(peer)) => Some(peer.ip().to_canonical()),
            (_, peer) => shared.trusted.client(peer, &head.headers),
        };
        let scheme = if self.connection.encrypted {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let public = PublicUrl::of(
            &head.uri,
            &head.headers,
            self.forwarding,
            scheme,
            &shared.fallback,
        );
        let request = v2::Request {
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
            client,
            public: &public,
        };
        // One snapshot answers the whole request, whatever is swapped in meanwhile.
        let snapshot = shared.snapshot.load();
        v2::respond(&request, snapshot.as_deref()).await
    }
}
