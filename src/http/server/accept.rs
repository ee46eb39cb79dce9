//! From an accepted socket to HTTP, and the end of connections when the server stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
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
use super::terms::{Term, Terms};
use super::{Connection, Peer, Security, proxy_protocol};
use crate::http::Body;
use crate::http::sendfile::Sending;

/// What all listeners of a server share.
pub(super) struct Acceptor<F> {
    terms: Terms,
    crowd: Arc<Crowd>,
    service: F,
    shutdown: CancellationToken,
}

impl<F, S> Acceptor<F>
where
    F: Fn(Connection) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    pub(super) fn new(terms: Terms, service: F, shutdown: CancellationToken) -> Self {
        Self {
            terms,
            crowd: Arc::default(),
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
            // The place comes first: at the limit, clients queue in the kernel instead of in memory.
            let place = tokio::select! {
                () = self.shutdown.cancelled() => break,
                place = self.terms.place() => place,
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
                    let named = acceptor.terms.current().surroundings.names_clients;
                    let client = client.filter(|_| named).map(tracing::field::display);
                    debug!(
                        error = &error as &dyn std::error::Error,
                        client.address = client,
                        "a connection ended early"
                    );
                }
                drop(place);
            });
            while open.try_join_next().is_some() {}
        }
        drop(listener);
        // It fails only if nobody is left to hear it.
        let _ = stop.send(());
        let all = async { while open.join_next().await.is_some() {} };
        if timeout(self.terms.current().limits.grace, all)
            .await
            .is_err()
        {
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
        let term = self.terms.current();
        let before = async {
            let mut encrypted = false;
            if term.begins_with_header(*client) {
                let header = match &mut stream {
                    Stream::Tcp(stream) => proxy_protocol::read(stream).await,
                    Stream::Unix(stream) => proxy_protocol::read(stream).await,
                    Stream::Tls(stream) => proxy_protocol::read(stream).await,
                }?;
                *client = header.source.or(*client);
                encrypted = header.encrypted;
            }
            let counted = self.count(&term, *client)?;
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
            before = timeout(term.limits.header_time, before) => {
                before.map_err(|_| Ended::Late)??
            }
            // Nothing was asked yet.
            _ = stopped.changed() => return Ok(()),
        };
        let connection = Connection {
            peer: *client,
            encrypted,
        };
        serve(&term, stream, (self.service)(connection), stopped).await
    }
    fn count(&self, term: &Term, client: Peer) -> Result<Option<Counted>, Ended> {
        match (term.limits.connections_per_address, client) {
            (Some(limit), Some(client)) if !term.trusts(client) => {
                let counted = self.crowd.enter(client.ip(), limit);
                counted.map(Some).ok_or(Ended::Crowd)
            }
            _ => Ok(None),
        }
    }
}

/// Speaks HTTP on a connection until it ends.
async fn serve<S>(
    term: &Term,
    stream: Stream,
    service: S,
    mut stopped: watch::Receiver<()>,
) -> Result<(), Ended>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let exchanges = Arc::new(Exchanges::new());
    let patience = Patience {
        head: term.limits.header_time,
        idle: term.limits.idle_time,
        stall: term.limits.stall_time,
        rate: term.limits.min_rate,
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
        term.http
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
