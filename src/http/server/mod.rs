//! Accepting connections: within limits, from several listeners, drained on shutdown.
//!
//! A connection goes through `accept`: the header of a [proxy](proxy_protocol) that passes it on, the
//! count of its client's connections (`crowd`), [TLS](tls), and then hyper, which speaks HTTP/1.1 or
//! HTTP/2 on it under the eyes of [`patience`]. Sockets are bound by `listen` or [inherited](activation);
//! what holds for a connection are the [`Terms`] at the time it comes.

mod accept;
pub mod activation;
mod crowd;
pub mod exchange;
mod listen;
mod pace;
pub mod patience;
pub mod proxy_protocol;
mod stream;
mod terms;
pub mod tls;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use accept::Acceptor;
use activation::Socket;
use listen::Listener;
use tls::Tls;

pub use listen::{InvalidAddress, InvalidMode, ListenAddress, SocketMode};
pub use stream::Stream;
pub use terms::Terms;

/// What one client, or all of them together, may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's queue. Bounds memory and descriptors.
    pub connections: usize,
    /// Open connections of one client, an IPv4 address or an IPv6 network of 64 bits; further ones are
    /// closed. Trusted proxies are not counted. Keeps one client from taking all there are.
    pub connections_per_address: Option<usize>,
    /// Longest time to send a request's head, and to get through whatever comes before the first
    /// (a PROXY header, TLS). Ends slowloris.
    pub header_time: Duration,
    /// Largest head of a request in bytes; a longer one is answered 431. At least [`MIN_HEADER_BYTES`].
    pub header_bytes: usize,
    /// How long a connection without a request is kept.
    pub idle_time: Duration,
    /// The time over which a client must have taken something of what is sent to it.
    pub stall_time: Duration,
    /// How many bytes a second a client must take on the average of a stall time, or is cut off.
    pub min_rate: u64,
    /// Requests under way at a time on a connection of HTTP/2. Each holds up to two chunks of a file
    /// for a client that does not read.
    pub streams: u32,
    /// How long requests may go on after shutdown began.
    pub grace: Duration,
}

/// Least room for the head of a request; hyper reads into no smaller buffer.
pub const MIN_HEADER_BYTES: usize = 8192;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: None,
            header_time: Duration::from_secs(15),
            header_bytes: 32 << 10,
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(60),
            min_rate: 1 << 10,
            streams: 32,
            grace: Duration::from_secs(30),
        }
    }
}

/// The other end of a connection; `None` for a unix socket, whose peer is whoever may open it.
pub type Peer = Option<SocketAddr>;

/// What is known of a connection before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The other end, or whom a trusted proxy says it passes on.
    pub peer: Peer,
    /// Whether the client came over TLS, which we ended ourselves or a trusted proxy says it has.
    pub encrypted: bool,
}

/// What is spoken on a listener.
#[derive(Debug, Clone)]
pub enum Security {
    /// HTTP as it is.
    Clear,
    /// HTTP over TLS.
    Tls(Tls),
}

/// Whether trusted proxies begin a connection with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyHeader {
    /// They do not, and nobody's is read.
    #[default]
    Absent,
    /// They must, as must whoever comes by a unix socket.
    Expected,
}

/// What stands between the server and its clients, and what may be said of them.
#[derive(Clone)]
pub struct Surroundings {
    /// Whether the address is that of a trusted proxy.
    pub trusts: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// How trusted proxies begin.
    pub proxy_header: ProxyHeader,
    /// Whether the log may name clients by their address.
    pub names_clients: bool,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            trusts: Arc::new(|_| false),
            proxy_header: ProxyHeader::default(),
            names_clients: false,
        }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("proxy_header", &self.proxy_header)
            .field("names_clients", &self.names_clients)
            .finish_non_exhaustive()
    }
}

/// Listeners that are bound and not yet served.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(Listener, Security)>,
    terms: Terms,
}

impl Server {
    /// A server that does not listen yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            listeners: Vec::new(),
            terms,
        }
    }

    /// Binds every address, or none, and speaks in the clear to whoever comes.
    pub async fn bind(addresses: &[ListenAddress], limits: Limits) -> Result<Self, Error> {
        let mut server = Self::new(Terms::new(limits, Surroundings::default()));
        for address in addresses {
            server
                .listen(address, SocketMode::default(), Security::Clear)
                .await?;
        }
        Ok(server)
    }

    /// Binds an address.
    ///
    /// A unix socket left by a process that is gone is replaced; one that somebody answers is not.
    pub async fn listen(
        &mut self,
        address: &ListenAddress,
        mode: SocketMode,
        security: Security,
    ) -> Result<(), Error> {
        let listener = Listener::bind(address, mode)
            .await
            .map_err(|source| Error::Bind {
                address: address.clone(),
                source,
            })?;
        self.listeners.push((listener, security));
        Ok(())
    }

    /// Listens on a socket that somebody else has bound.
    pub fn adopt(&mut self, socket: Socket, security: Security) -> Result<(), Error> {
        let listener = socket.into_listener().map_err(Error::Adopt)?;
        self.listeners.push((listener, security));
        Ok(())
    }

    /// The TCP addresses in use, with the ports the system chose.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter();
        listeners
            .filter_map(|(listener, _)| listener.local_address())
            .collect()
    }

    /// Serves until `shutdown`, then lets requests in flight finish for the grace period.
    ///
    /// `service` makes the service of one connection.
    pub async fn run<F, S>(self, service: F, shutdown: CancellationToken)
    where
        F: Fn(Connection) -> S + Send + Sync + 'static,
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
            + Send
            + 'static,
        S::Future: Send + 'static,
    {
        let acceptor = Arc::new(Acceptor::new(self.terms, service, shutdown));
        let mut listeners = JoinSet::new();
        for (listener, security) in self.listeners {
            listeners.spawn(Arc::clone(&acceptor).run(listener, security));
        }
        while listeners.join_next().await.is_some() {}
    }
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which address.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
    /// A socket that was passed to us could not be used.
    #[error("cannot listen on a socket that was passed to us")]
    Adopt(#[source] io::Error),
}

#[cfg(test)]
mod tests;
