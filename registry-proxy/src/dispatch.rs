//! What happens to each request: who asks, under which URL, and which part of the program answers.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use oci_mirror::http::server::Connection;
use oci_mirror::http::{Body, files};
use oci_mirror::reference::RegistryHost;
use tower_service::Service as _;

use crate::base_url::{Forwarding, PublicUrl, Scheme};
use crate::client_address::TrustedProxies;
use crate::snapshot::Snapshot;
use crate::v2;

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
}

impl Shared {
    /// Answers one request.
    ///
    /// No client of a registry sends a body in chunks to read something. One that gives a length as well
    /// wants a proxy before us and us to disagree about where the request ends, and hyper has taken the
    /// length away by now: so nothing that follows chunks is looked at.
    pub async fn respond(
        &self,
        request: Request<Incoming>,
        connection: Connection,
        pages: axum::Router,
    ) -> Response<Body> {
        if !request.headers().contains_key(TRANSFER_ENCODING) {
            return self.answer(request, connection, pages).await;
        }
        let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
            files::text(
                StatusCode::BAD_REQUEST,
                "a request to read something has no body\n",
            )
        } else {
            self.answer(request, connection, pages).await
        };
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        response
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        connection: Connection,
        mut pages: axum::Router,
    ) -> Response<Body> {
        let path = request.uri().path();
        if path == "/v2" || path.starts_with("/v2/") {
            // One snapshot answers the whole request, whatever is swapped in meanwhile.
            let snapshot = self.snapshot.load_full();
            let trusted = match &snapshot {
                Some(snapshot) => snapshot.trusted.clone(),
                None => TrustedProxies::clone(&self.trusted.load()),
            };
            let public = self.public_url(&request, connection, &trusted);
            let (head, _body) = request.into_parts();
            let client = trusted.client(connection.peer, &head.headers);
            let request = v2::Request {
                method: &head.method,
                uri: &head.uri,
                headers: &head.headers,
                client,
                public: &public,
            };
            return v2::respond(&request, snapshot.as_deref()).await;
        }
        let Ok(response) = pages.call(request.map(axum::body::Body::new)).await;
        response.map(Body::boxed)
    }

    fn public_url(
        &self,
        request: &Request<Incoming>,
        connection: Connection,
        trusted: &TrustedProxies,
    ) -> PublicUrl {
        let forwarding = match connection.peer {
            Some(peer) if trusted.trusts(peer.ip()) => Forwarding::Trusted,
            // Whoever may open the socket file was given that right by the operator.
            None => Forwarding::Trusted,
            Some(_) => Forwarding::Untrusted,
        };
        PublicUrl::of(
            request.uri(),
            request.headers(),
            forwarding,
            if connection.encrypted {
                Scheme::Https
            } else {
                Scheme::Http
            },
            &self.fallback,
        )
    }
}
