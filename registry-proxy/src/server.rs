//! The front end as a running server: listeners, routing between the registry API and the pages,
//! and the tasks beside them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use oci_mirror::http::Body;
use oci_mirror::http::server::{self, Limits, Peer, Server};
use oci_mirror::reference::RegistryHost;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::base_url::{Forwarding, PublicUrl, Scheme};
use crate::client_address::TrustedProxies;
use crate::config::Config;
use crate::crawler;
use crate::snapshot::{self, Snapshot, Watcher};
use crate::{v2, web};

/// A front end that listens and is not yet served.
#[derive(Debug)]
pub struct FrontEnd {
    server: Server,
    watcher: Watcher,
    crawls: Option<crawler::Schedule>,
    shared: Arc<Shared>,
}

/// What every request sees.
#[derive(Debug)]
pub struct Shared {
    /// The current snapshot; `None` until a tree could be read.
    pub snapshot: Arc<ArcSwapOption<Snapshot>>,
    trusted: TrustedProxies,
    /// What we call ourselves towards a client that does not say.
    fallback: RegistryHost,
}

impl FrontEnd {
    /// Reads the tree and the database and binds the listeners.
    ///
    /// A tree directory that is missing is an error; one that has no usable content is not: the front
    /// end then says that it is not ready and takes the content up when it comes.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        let snapshot = Arc::new(ArcSwapOption::empty());
        let mut watcher = Watcher::open(config, Arc::clone(&snapshot)).map_err(Error::Snapshot)?;
        watcher.once().await;
        let server = Server::bind(&config.listen, Limits::default())
            .await
            .map_err(Error::Listen)?;
        let fallback = own_name(server.local_addresses().first());
        let shared = Shared {
            snapshot: Arc::clone(&snapshot),
            trusted: TrustedProxies::new(config.trusted_proxies.clone()),
            fallback: fallback.parse().map_err(|_| Error::Address)?,
        };
        let crawls = config
            .crawler
            .enabled
            .then(|| crawler::Schedule::new(config, snapshot));
        Ok(Self {
            server,
            watcher,
            crawls,
            shared: Arc::new(shared),
        })
    }

    /// The TCP addresses in use, with the ports the system chose.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.server.local_addresses()
    }

    /// Serves until `shutdown`, then drains.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut beside = JoinSet::new();
        beside.spawn(self.watcher.run(shutdown.clone()));
        if let Some(crawls) = self.crawls {
            beside.spawn(crawls.run(shutdown.clone()));
        }
        let shared = self.shared;
        let pages = web::router(Arc::clone(&shared));
        let connection = move |peer: Peer| {
            let (shared, pages) = (Arc::clone(&shared), pages.clone());
            service_fn(move |request| {
                let (shared, pages) = (Arc::clone(&shared), pages.clone());
                async move { Ok::<_, Infallible>(shared.respond(request, peer, pages).await) }
            })
        };
        self.server.run(connection, shutdown).await;
        while beside.join_next().await.is_some() {}
    }
}

impl Shared {
    async fn respond(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        mut pages: axum::Router,
    ) -> Response<Body> {
        let path = request.uri().path();
        if path == "/v2" || path.starts_with("/v2/") {
            let public = self.public_url(&request, peer);
            let (head, _body) = request.into_parts();
            let client = self.trusted.client(peer, &head.headers);
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
        let Ok(response) = pages.call(request.map(axum::body::Body::new)).await;
        response.map(Body::boxed)
    }

    fn public_url(&self, request: &Request<Incoming>, peer: Peer) -> PublicUrl {
        let forwarding = match peer {
            Some(peer) if self.trusted.trusts(peer.ip()) => Forwarding::Trusted,
            // Whoever may open the socket file was given that right by the operator.
            None => Forwarding::Trusted,
            Some(_) => Forwarding::Untrusted,
        };
        PublicUrl::of(
            request.uri(),
            request.headers(),
            forwarding,
            Scheme::Http,
            &self.fallback,
        )
    }
}

/// What to call ourselves towards a client that names no host: the address we listen on, unless that
/// is every address.
fn own_name(address: Option<&SocketAddr>) -> String {
    match address {
        None => "localhost".to_owned(),
        Some(address) if address.ip().is_unspecified() => format!("localhost:{}", address.port()),
        Some(address) => address.to_string(),
    }
}

/// Why the front end cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tree's directory or a geographic database cannot be opened.
    #[error("cannot start the front end")]
    Snapshot(#[source] snapshot::Error),
    /// An address cannot be bound.
    #[error("cannot start the front end")]
    Listen(#[source] server::Error),
    /// The bound address has no text form we could put into a URL.
    #[error("cannot tell the address of the front end")]
    Address,
}
