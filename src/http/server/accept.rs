//! From an accepted socket to HTTP, and the end of connections when the server stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::crowd::{Counted, Crowd};
use super::exchange::Exchanges;
use super::listen::Listener;
use super::patience::{Patience, Patient};
use super::stream::Stream;
use super::{Connection, Limits, Peer, ProxyHeader, Security, Surroundings, proxy_protocol};
use crate::http::Body;
use crate::http::sendfile::Sending;

/// What all listeners of a server share.
pub(super) struct Acceptor<F> {
    limits: Limits,
    surroundings: Surroundings,
    connections: Arc<Semaphore>,
    crowd: Option<Arc<Crowd>>,
    http: Builder<TokioExecutor>,
    service: F,
    shutdown: CancellationToken,
}

impl<F, S> Acceptor<F>
where
    F: Fn(Connection) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    pub(super) fn new(
        limits: Limits,
        surroundings: Surroundings,
        service: F,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.connections)),
            crowd: limits
                .connections_per_address
                .map(|limit| Arc::new(Crowd::new(limit))),
            http: http(&limits),
            limits,
            surroundings,
            service,
            shutdown,
        }
    }

    /// Accepts until shutdown, and sees the connections to their end.
    pub(super) async fn run(self: Arc<Self>, listener: Listener, security: Security) {
        let (stop, stopped) = watch::channel(());
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
            let (acceptor, security) = (Arc::clone(&self), security.clone());
            let stopped = stopped.clone();
            open.spawn(async move {
                let mut client = peer;
                let ended = acceptor
                    .welcome(stream, &mut client, &security, stopped)
                    .await;
                if let Err(error) = ended {
                    let named = acceptor.surroundings.names_clients.load(Ordering::Relaxed);
                    let client = client.filter(|_| named).map(tracing::field::display);
                    debug!(
                        error = &error as &dyn std::error::Error,
                        client.address = client,
                        "a connection ended early"
                    );
                }
                drop(permit);
            });
            while open.try_join_next().is_some() {}
        }
        drop(listener);
        // It fails only if nobody is left to hear it.
        let _ = stop.send(());
        let all = async { while open.join_next().await.is_some() {} };
        if timeout(self.limits.grace, all).await.is_err() {
            let connections = open.len();
            warn!(connections, "dropping connections that did not end in time");
        }
    }

    /// Takes a connection through what comes before HTTP, then serves it; `client` becomes who it is of.
    async fn welcome(
        &self,
        mut stream: Stream,
        client: &mut Peer,
        security: &Security,
        mut stopped: watch::Receiver<()>,
    ) -> Result<(), Ended> {
        let before = async {
            let mut encrypted = false;
            if self.begins_with_header(*client) {
                let header = match &mut stream {
                    Stream::Tcp(stream) => proxy_protocol::read(stream).await,
                    Stream::Unix(stream) => proxy_protocol::read(stream).await,
                    Stream::Tls(stream) => proxy_protocol::read(stream).await,
                }?;
                *client = header.source.or(*client);
                encrypted = header.encrypted;
            }
            let counted = self.count(*client)?;
            let stream = match (stream, security) {
                (Stream::Tcp(stream), Security::Tls(tls)) => {
                    encrypted = true;
                    let stream = tls.accept(stream).await.map_err(Ended::Handshake)?;
                    Stream::Tls(Box::new(stream))
                }
                (stream, _) => stream,
            };
            Ok::<_, Ended>((stream, encrypted, counted))
        };
        let (stream, encrypted, _counted) = tokio::select! {
            before = timeout(self.limits.header_time, before) => {
                before.map_err(|_| Ended::Late)??
            }
            // Nothing was asked yet.
            _ = stopped.changed() => return Ok(()),
        };
        let connection = Connection {
            peer: *client,
            encrypted,
        };
        self.serve(stream, (self.service)(connection), stopped)
            .await
    }

    async fn serve(
        &self,
        stream: Stream,
        service: S,
        mut stopped: watch::Receiver<()>,
    ) -> Result<(), Ended> {
        let exchanges = Arc::new(Exchanges::new());
        let patience = Patience {
            head: self.limits.header_time,
            idle: self.limits.idle_time,
            stall: self.limits.stall_time,
            rate: self.limits.min_rate,
        };
        let stream = Sending::new(stream);
        let outbox = stream.outbox();
        let stream = Patient::new(stream, patience, Arc::clone(&exchanges));
        let counting = Arc::clone(&exchanges);
        let service = service_fn(move |request: Request<Incoming>| {
            let exchange = counting.begin(request.version());
            // HTTP/2 has to see the bytes it puts into frames.
            let outbox = outbox
                .clone()
                .filter(|_| request.version() <= Version::HTTP_11);
            let response = service.call(request);
            async move {
                let response = response.await?;
                Ok::<_, Infallible>(response.map(|body| {
                    exchange.carry(match outbox {
                        Some(outbox) => body.through(&outbox),
                        None => body,
                    })
                }))
            }
        });
        let mut connection = pin!(
            self.http
                .serve_connection(TokioIo::new(stream), service)
                .into_owned()
        );
        let told = stopped.clone();
        // Whatever was done before: it has to hear of it when it is polled.
        let mut stop = pin!(unconstrained(stopped.changed()));
        let (mut is_ending, mut is_waiting) = (false, false);
        poll_fn(|context| {
            // It is polled once to be woken, and then only when it has something to say: all connections
            // share what is waited for, and would stand in line for its lock at each request.
            let is_told = !is_waiting || told.has_changed().unwrap_or(true);
            is_waiting = true;
            if !is_ending && is_told && stop.as_mut().poll(context).is_ready() {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
            let polled = connection.as_mut().poll(context);
            if polled.is_pending() && !is_ending && exchanges.has_idled() {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
                return connection.as_mut().poll(context);
            }
            polled
        })
        .await
        .map_err(Ended::Http)
    }

    fn begins_with_header(&self, peer: Peer) -> bool {
        self.surroundings.proxy_header == ProxyHeader::Expected
            && peer.is_none_or(|peer| self.trusts(peer))
    }

    fn trusts(&self, peer: SocketAddr) -> bool {
        (self.surroundings.trusts)(peer.ip())
    }

    fn count(&self, client: Peer) -> Result<Option<Counted>, Ended> {
        match (&self.crowd, client) {
            (Some(crowd), Some(client)) if !self.trusts(client) => {
                crowd.enter(client.ip()).map(Some).ok_or(Ended::Crowd)
            }
            _ => Ok(None),
        }
    }
}

/// HTTP/1.1 and HTTP/2 within limits. How long a head may take is not hyper's to say: it does not tell
/// a head that does not end from a connection without one.
fn http(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Bodies are never copied together: placeholders of files are among them.
        .writev(true)
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.max(super::MIN_HEADER_BYTES))
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(60))
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        .max_send_buf_size(64 << 10);
    builder
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("a proxy did not say whom it passes on")]
    Header(#[from] proxy_protocol::Error),
    #[error("the client has as many connections as one may have")]
    Crowd,
    #[error("TLS could not be agreed on")]
    Handshake(#[source] io::Error),
    #[error("nothing was asked in time")]
    Late,
    #[error("HTTP broke off")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
}
