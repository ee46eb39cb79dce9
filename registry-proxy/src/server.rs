//! The front end as a running server: its listeners and the tasks beside them.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use oci_mirror::http::server::activation::Inherited;
use oci_mirror::http::server::tls::{self, Tls};
use oci_mirror::http::server::{
    self, Limits, ListenAddress, ProxyHeader, Security, Server, Surroundings, Terms,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::checkin::Desk;
use crate::client_address::TrustedProxies;
use crate::config::{Config, Spoken};
use crate::crawler;
use crate::dispatch::Shared;
use crate::geo::Geo;
use crate::notify::{Delivery, Notifier};
use crate::observe::{Observer, statistics};
use crate::snapshot::{self, Reconfigure, Settings, Watcher};

/// A front end that listens and is not yet served.
#[derive(Debug)]
pub struct FrontEnd {
    server: Server,
    watcher: Watcher,
    crawls: crawler::Schedule,
    collector: statistics::Collector,
    shared: Arc<Shared>,
    live: Live,
    delivery: Delivery,
}

/// What of a running front end can be changed.
#[derive(Debug, Clone)]
pub struct Live {
    /// The certificate and its key, if TLS is spoken.
    pub tls: Option<Tls>,
    trusted: Arc<ArcSwap<TrustedProxies>>,
    terms: Terms,
    statistics: statistics::Sender,
    crawls: crawler::Reconfigure,
    watcher: Reconfigure,
    geo: Arc<Geo>,
}

impl Live {
    /// The geographic databases as they were at the start.
    pub fn geo(&self) -> Arc<Geo> {
        Arc::clone(&self.geo)
    }

    /// Puts settings into force; every request that comes afterwards sees all of them, and every
    /// connection. Crawls that have begun go on as they are, unless `crawls` are other ones.
    pub async fn put(
        &self,
        config: &Config,
        settings: Settings,
        crawls: Option<crawler::Settings>,
    ) {
        let surroundings = surroundings(config, &settings.trusted);
        self.terms.put(Limits::from(&config.limits), surroundings);
        self.statistics.report_to(config.statistics.sink());
        if let Some(crawls) = crawls {
            self.crawls.put(crawls);
        }
        self.trusted.store(Arc::new(settings.trusted.clone()));
        self.watcher.put(settings).await;
    }
}

impl FrontEnd {
    /// Reads the tree and the database and binds the listeners.
    ///
    /// A tree directory that is missing is an error; one that has no usable content is not: the front
    /// end then says that it is not ready and takes the content up when it comes.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        Self::with_sockets(config, Inherited::default()).await
    }

    /// As [`FrontEnd::bind`], on sockets that were passed to us, if there are any.
    pub async fn with_sockets(config: &Config, sockets: Inherited) -> Result<Self, Error> {
        let snapshot = Arc::new(ArcSwapOption::empty());
        let mut watcher = Watcher::open(config, Arc::clone(&snapshot)).map_err(Error::Snapshot)?;
        watcher.once().await;
        let tls = config.tls.as_ref().map(|tls| Tls::load(&tls.files()));
        let tls = tls.transpose().map_err(Error::Tls)?;
        let trusted = TrustedProxies::new(config.trusted_proxies.clone());
        let (statistics, collector) = statistics::queue(config.statistics.sink());
        // One for crawls and check-ins: what becomes of a mirror is told in order.
        let (notifier, delivery) = Notifier::start(&config.notify);
        let crawls = crawler::Schedule::new(config, Arc::clone(&snapshot));
        let crawls = crawls.telling(notifier.clone());
        let crawls = if config.crawler.enabled {
            crawls
        } else {
            crawls.paused()
        };
        let live = Live {
            tls,
            terms: Terms::new(Limits::from(&config.limits), surroundings(config, &trusted)),
            trusted: Arc::new(ArcSwap::from_pointee(trusted)),
            statistics: statistics.clone(),
            crawls: crawls.reconfigure(),
            watcher: watcher.reconfigure(),
            geo: watcher.geo(),
        };
        let server = listen(config, sockets, &live).await?;
        let fallback = own_name(server.local_addresses().first());
        let shared = Shared {
            desk: Arc::new(Desk::new(config, Arc::clone(&snapshot)).telling(notifier)),
            snapshot,
            trusted: Arc::clone(&live.trusted),
            fallback: fallback.parse().map_err(|_| Error::Address)?,
            observer: Arc::new(Observer::new(statistics)),
        };
        Ok(Self {
            server,
            watcher,
            crawls,
            collector,
            shared: Arc::new(shared),
            live,
            delivery,
        })
    }

    /// The TCP addresses in use, with the ports the system chose.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.server.local_addresses()
    }

    /// What can be changed while it runs.
    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// Serves until `shutdown`, then drains.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut beside = JoinSet::new();
        beside.spawn(self.watcher.run(shutdown.clone()));
        beside.spawn(self.crawls.run(shutdown.clone()));
        let desk = Arc::clone(&self.shared.desk);
        beside.spawn(desk.run(shutdown.clone()));
        let drained = CancellationToken::new();
        beside.spawn(self.collector.run(drained.clone()));
        self.shared.serve(self.server, shutdown).await;
        // Only now, so that the last requests are in the last report.
        drained.cancel();
        while beside.join_next().await.is_some() {}
        self.delivery.finish(crawler::schedule::DELIVERY).await;
    }
}

/// Binds what the configuration names, or takes over what was passed to us instead.
async fn listen(config: &Config, sockets: Inherited, live: &Live) -> Result<Server, Error> {
    let mut server = Server::new(live.terms.clone());
    let security = |spoken| match (spoken, &live.tls) {
        (Spoken::Tls, Some(tls)) => Security::Tls(tls.clone()),
        _ => Security::Clear,
    };
    if sockets.is_empty() {
        for (address, spoken) in config.listeners() {
            info!(%address, ?spoken, "listening");
            server
                .listen(&address, config.socket_mode, security(spoken))
                .await
                .map_err(Error::Listen)?;
        }
        return Ok(server);
    }
    let mut named = config.tls.as_ref().and_then(|tls| tls.listen.clone());
    for socket in sockets {
        let address = socket.local_address();
        let spoken = match (address, &mut named) {
            (Some(address), Some(named)) => {
                let before = named.len();
                named.retain(|name| *name != ListenAddress::Tcp(address));
                if named.len() < before {
                    Spoken::Tls
                } else {
                    Spoken::Clear
                }
            }
            (Some(_), None) if config.tls.is_some() => Spoken::Tls,
            _ => Spoken::Clear,
        };
        match address {
            Some(address) => info!(%address, ?spoken, "listening on a socket passed to us"),
            None => info!(?spoken, "listening on a unix socket passed to us"),
        }
        server
            .adopt(socket, security(spoken))
            .map_err(Error::Listen)?;
    }
    // Else what was meant for TLS might be spoken in the clear.
    match named.unwrap_or_default().into_iter().next() {
        Some(address) => Err(Error::NotPassed(address)),
        None => Ok(server),
    }
}

/// What stands between us and clients.
fn surroundings(config: &Config, trusted: &TrustedProxies) -> Surroundings {
    let trusted = trusted.clone();
    Surroundings {
        trusts: Arc::new(move |address| trusted.trusts(address)),
        proxy_header: if config.proxy_protocol {
            ProxyHeader::Expected
        } else {
            ProxyHeader::Absent
        },
        names_clients: config.log.client_addresses,
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
    /// The certificate or its key cannot be used.
    #[error("cannot speak TLS")]
    Tls(#[source] tls::Error),
    /// An address cannot be bound.
    #[error("cannot start the front end")]
    Listen(#[source] server::Error),
    /// There are sockets passed to us, and this is not among them.
    #[error("{0} of tls.listen is not among the sockets passed to us")]
    NotPassed(ListenAddress),
    /// The bound address has no text form we could put into a URL.
    #[error("cannot tell the address of the front end")]
    Address,
}
