//! The front end as a running server: its listeners and the tasks beside them.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use oci_mirror::http::server::{self, Limits, Server};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client_address::TrustedProxies;
use crate::config::Config;
use crate::crawler;
use crate::dispatch::Shared;
use crate::snapshot::{self, Watcher};

/// A front end that listens and is not yet served.
#[derive(Debug)]
pub struct FrontEnd {
    server: Server,
    watcher: Watcher,
    crawls: Option<crawler::Schedule>,
    shared: Arc<Shared>,
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
        self.shared.serve(self.server, shutdown).await;
        while beside.join_next().await.is_some() {}
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
