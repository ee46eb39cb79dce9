//! Accepting connections: within limits, from several listeners, drained on shutdown.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::body::Body;
use super::patience::Patient;
use super::sendfile::{Sending, Socket};
use crate::excerpt::Excerpt;

/// Where a server listens: `ADDR:PORT` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ListenAddress {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let wrong = || InvalidAddress(Excerpt(text).into());
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(wrong()),
            None => match text.strip_prefix("localhost:") {
                Some(port) => port
                    .parse()
                    .map(|port| Self::Tcp(([127, 0, 0, 1], port).into()))
                    .map_err(|_| wrong()),
                None => text.parse().map(Self::Tcp).map_err(|_| wrong()),
            },
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

/// The text is not an address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an address to listen on: write ADDR:PORT, [ADDR]:PORT or unix:/PATH")]
pub struct InvalidAddress(Box<str>);

/// Removes a socket that nobody answers, and nothing else that may be at its path.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let is_socket = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?.file_type().is_socket(),
    };
    let answer = std::os::unix::net::UnixStream::connect(path);
    match answer {
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        // Binding will fail, and say that the address is in use.
        _ => Ok(()),
    }
}

/// What one client, or all of them together, may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's queue. Bounds memory and descriptors.
    pub connections: usize,
    /// Longest time to send a request's head, the first bytes of a connection included. Ends
    /// slowloris.
    pub header_time: Duration,
    /// Longest time in which a client may take nothing of what is sent to it.
    pub stall_time: Duration,
    /// Largest head of a request in bytes; a longer one is answered 431.
    pub header_bytes: usize,
    /// How long requests may go on after shutdown began.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            header_time: Duration::from_secs(15),
            stall_time: Duration::from_secs(60),
            header_bytes: 32 << 10,
            grace: Duration::from_secs(30),
        }
    }
}

/// The other end of a connection; `None` for a unix socket, whose peer is whoever may open it.
pub type Peer = Option<SocketAddr>;

/// What is known of a connection before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The other end.
    pub peer: Peer,
    /// Whether it came over TLS, which we ended ourselves.
    pub encrypted: bool,
}

/// Listeners that are bound and not yet served.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    limits: Limits,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Server {
    /// Binds every address, or none.
    ///
    /// A unix socket left by a process that is gone is replaced; one that somebody answers is not.
    pub async fn bind(addresses: &[ListenAddress], limits: Limits) -> Result<Self, Error> {
        let mut listeners = Vec::new();
        for address in addresses {
            let failed = |source| Error {
                address: address.clone(),
                source,
            };
            listeners.push(match address {
                ListenAddress::Tcp(address) => {
                    Listener::Tcp(TcpListener::bind(address).await.map_err(failed)?)
                }
                ListenAddress::Unix(path) => {
                    remove_stale_socket(path).map_err(failed)?;
                    Listener::Unix(UnixListener::bind(path).map_err(failed)?, path.clone())
                }
            });
        }
        Ok(Self { listeners, limits })
    }

    /// The TCP addresses in use, with the ports the system chose.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        let tcp = self.listeners.iter().filter_map(|listener| match listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        });
        tcp.collect()
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
        let service = Arc::new(service);
        let connections = Arc::new(Semaphore::new(self.limits.connections));
        let limits = Arc::new(self.limits);
        let mut listeners = JoinSet::new();
        for listener in self.listeners {
            let acceptor = Acceptor {
                limits: Arc::clone(&limits),
                connections: Arc::clone(&connections),
                service: Arc::clone(&service),
                shutdown: shutdown.clone(),
            };
            listeners.spawn(acceptor.run(listener));
        }
        while listeners.join_next().await.is_some() {}
    }
}

struct Acceptor<F> {
    limits: Arc<Limits>,
    connections: Arc<Semaphore>,
    service: Arc<F>,
    shutdown: CancellationToken,
}

impl<F, S> Acceptor<F>
where
    F: Fn(Connection) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    async fn run(self, listener: Listener) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            // Bodies are never copied together: placeholders of files are among them.
            .writev(true)
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time)
            .max_buf_size(self.limits.header_bytes)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(60))
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            // Each stream holds up to two chunks of a file for a client that does not read.
            .max_concurrent_streams(32)
            .max_send_buf_size(64 << 10);
        let graceful = GracefulShutdown::new();
        let mut open = JoinSet::new();
        let mut complained = false;
        loop {
            // The permit comes first: at the limit, clients queue in the kernel instead of in memory.
            let permit = tokio::select! {
                () = self.shutdown.cancelled() => break,
                Ok(permit) = Arc::clone(&self.connections).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly "too many open files", many times over: trying again at once would spin.
                    if !complained {
                        warn!(%error, "cannot accept connections");
                        complained = true;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            complained = false;
            let stream = Sending::new(stream);
            let outbox = stream.outbox();
            let stream = Patient::new(stream, self.limits.header_time, self.limits.stall_time);
            let service = (self.service)(Connection {
                peer,
                encrypted: false,
            });
            let service = service_fn(move |request: Request<Incoming>| {
                // HTTP/2 has to see the bytes it puts into frames.
                let outbox = outbox
                    .clone()
                    .filter(|_| request.version() <= Version::HTTP_11);
                let response = service.call(request);
                async move {
                    let response = response.await?;
                    Ok::<_, Infallible>(match outbox {
                        Some(outbox) => response.map(|body| body.through(&outbox)),
                        None => response,
                    })
                }
            });
            let connection = builder
                .serve_connection(TokioIo::new(stream), service)
                .into_owned();
            let connection = graceful.watch(connection);
            open.spawn(async move {
                if let Err(error) = connection.await {
                    debug!(error, "connection ended early");
                }
                drop(permit);
            });
            while open.try_join_next().is_some() {}
        }
        if let Listener::Unix(_, path) = &listener {
            drop(std::fs::remove_file(path));
        }
        drop(listener);
        if tokio::time::timeout(self.limits.grace, graceful.shutdown())
            .await
            .is_err()
        {
            warn!(
                connections = open.len(),
                "dropping connections that did not end in time"
            );
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A response is written whole; waiting for more would only delay it.
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Some(peer)))
            }
            Self::Unix(listener, _) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

trait Stream: Socket + Send {}

impl<T: Socket + Send> Stream for T {}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct Error {
    address: ListenAddress,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    fn answer(_: Request<Incoming>) -> Ready<Result<Response<Body>, Infallible>> {
        std::future::ready(Ok(Response::new(Body::from("hello"))))
    }

    async fn with_server(limits: Limits, request: &[u8]) -> String {
        let server = Server::bind(&["127.0.0.1:0".parse().unwrap()], limits)
            .await
            .unwrap();
        let address = server.local_addresses()[0];
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(|_| service_fn(answer), shutdown.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut response = Vec::new();
        drop(stream.read_to_end(&mut response).await);
        shutdown.cancel();
        tasks.join_next().await;
        String::from_utf8_lossy(&response).into_owned()
    }

    #[tokio::test]
    async fn answers_and_shuts_down() {
        let response = with_server(
            Limits::default(),
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(
            response.starts_with("HTTP/1.1 200") && response.ends_with("hello"),
            "{response}"
        );
    }

    #[tokio::test]
    async fn an_oversized_head_is_answered_431() {
        let request = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
        let response = with_server(Limits::default(), request.as_bytes()).await;
        assert!(response.starts_with("HTTP/1.1 431"), "{response}");
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_cut_off() {
        let limits = Limits {
            header_time: Duration::from_millis(100),
            ..Limits::default()
        };
        let response = with_server(limits, b"GET / HTTP/1.1\r\nX: ").await;
        assert!(!response.contains("200"), "{response}");
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed() {
        for beginning in [&b""[..], b"PRI * HT", b"G"] {
            let limits = Limits {
                header_time: Duration::from_millis(100),
                ..Limits::default()
            };
            let closed =
                tokio::time::timeout(Duration::from_secs(5), with_server(limits, beginning));
            assert!(closed.await.is_ok(), "{beginning:?}");
        }
    }

    #[tokio::test]
    async fn a_file_at_the_path_of_a_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "precious").unwrap();
        let bound = Server::bind(&[ListenAddress::Unix(path.clone())], Limits::default()).await;
        assert!(bound.is_err() && path.exists());

        let path = dir.path().join("stale");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(
            Server::bind(&[ListenAddress::Unix(path)], Limits::default())
                .await
                .is_ok()
        );
    }

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:5000", "[::]:5000", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "5000",
            "unix:",
            "unix:relative",
            "example.org:80",
            "127.0.0.1:99999",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
