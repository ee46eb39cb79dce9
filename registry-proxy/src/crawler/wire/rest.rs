//! One connection to a mirror at a time, and no waiting between requests.
//!
//! A connection is back in the pool only a moment after the last byte was read over it. For whoever asks within
//! that moment the pool opens another one, and keeps it even if the first comes back before it is made. So a
//! new connection is put off until the one there was has had the time to come back, and whoever got that one
//! wants no other.

use std::error::Error;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

/// How long a connection has to come back. It is waited for only if it does not.
const REST: Duration = Duration::from_millis(50);

tokio::task_local! {
    /// Whether there is a connection that may come back; known to whoever waits for an answer, and not to
    /// what the pool goes on with behind his back.
    static MAY_COME_BACK: bool;
}

/// Sends something, over the connection there is if one may come back.
pub(super) async fn over<F: Future>(may_come_back: bool, sending: F) -> F::Output {
    MAY_COME_BACK.scope(may_come_back, sending).await
}

/// Puts off the making of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneAtATime;

impl<S> Layer<S> for OneAtATime {
    type Service = PutOff<S>;

    fn layer(&self, connect: S) -> PutOff<S> {
        PutOff { connect }
    }
}

/// Makes connections, if they are still wanted then.
#[derive(Debug, Clone)]
pub(super) struct PutOff<S> {
    connect: S,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, T> Service<T> for PutOff<S>
where
    S: Service<T, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    T: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connect.poll_ready(context)
    }

    fn call(&mut self, to: T) -> Self::Future {
        // The one that said it is ready is the one to be called.
        let next = self.connect.clone();
        let mut connect = mem::replace(&mut self.connect, next);
        Box::pin(async move {
            if MAY_COME_BACK.try_with(|may| *may).unwrap_or_default() {
                tokio::time::sleep(REST).await;
                MAY_COME_BACK.try_with(|_| ()).map_err(|_| NotWanted)?;
            }
            connect.call(to).await
        })
    }
}

/// The connection there was has come back.
#[derive(Debug, thiserror::Error)]
#[error("no other connection is wanted")]
struct NotWanted;
