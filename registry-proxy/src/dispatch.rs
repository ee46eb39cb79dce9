//! What happens to each request: who asks, under which URL, and which part of the program answers.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use hyper::body::Incoming;
use oci_mirror::http::Body;
use oci_mirror::http::server::Connection;
use oci_mirror::reference::RegistryHost;
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
    /// Answers one request.
    pub async fn respond(
        &self,
        request: Request<Incoming>,
        connection: Connection,
        mut pages: axum::Router,
    ) -> Response<Body> {
        let path = request.uri().path();
        if path == "/v2" || path.starts_with("/v2/") {
            let public = self.public_url(&request, connection);
            let (head, _body) = request.into_parts();
            let client = self.trusted.client(connection.peer, &head.headers);
            let request = v2::Request {
                method: &head.method,
                uri: &head.uri,
                headers: &head.headers,
                client,
                public: &public,
            };
            // One snapshot answers the whole request, whatever is swapped in meanwhile.
            let snapshot = self.snapshot.load_full();
            return v2::respond(&request, snapshot.as_deref()).await;
        }
        // What passes the router comes out as a stream of unknown make: no longer as a file the kernel
        // can send. The router also knows escapes, which no path of a tree needs.
        if let Some(file) = path.strip_prefix("/tree/")
            && !file.contains('%')
        {
            return web::file(self, file, request.method(), request.headers()).await;
        }
        let Ok(response) = pages.call(request.map(axum::body::Body::new)).await;
        response.map(Body::boxed)
    }

    fn public_url(&self, request: &Request<Incoming>, connection: Connection) -> PublicUrl {
        let forwarding = match connection.peer {
            Some(peer) if self.trusted.trusts(peer.ip()) => Forwarding::Trusted,
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
