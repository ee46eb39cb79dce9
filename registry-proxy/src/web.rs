//! Everything that is not the registry API: the tree as a mirror would serve it, and the health of
//! the process.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use oci_mirror::http::{Body, files};

use crate::checkin;
use crate::dispatch::Shared;
use crate::observe::metrics::{self, Metrics};

/// The routes beside `/v2/`.
pub fn router(shared: Arc<Shared>) -> Router {
    let desk = checkin::router(&shared.desk);
    Router::new()
        .route("/", get(about))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/tree/{*path}", any(tree))
        .fallback(nothing)
        .with_state(shared)
        .merge(desk)
}

async fn about() -> &'static str {
    concat!(
        "This is a container registry backed by a network of mirrors.\n",
        "Pull from it:    podman pull <this host>/NAME:TAG\n",
        "Mirror it from:  /tree/\n",
    )
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match &*shared.snapshot.load() {
        Some(snapshot) => (
            StatusCode::OK,
            format!("ready: serial {}\n", snapshot.catalog.state().serial),
        ),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: no tree could be read\n".to_owned(),
        ),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response<axum::body::Body> {
    let page = Metrics::new(Arc::clone(&shared.observer), Arc::clone(&shared.snapshot));
    match page.render() {
        Ok(text) => ([(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Any other path, and targets that are none: `*` of `OPTIONS`, the host of `CONNECT`.
async fn nothing(method: Method) -> Response<axum::body::Body> {
    if method == Method::GET || method == Method::HEAD {
        let message = "nothing here: the registry API is under /v2/\n";
        return files::text(StatusCode::NOT_FOUND, message).map(axum::body::Body::new);
    }
    files::not_allowed().map(axum::body::Body::new)
}

async fn tree(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
    _request: Request,
) -> Response<axum::body::Body> {
    let response = file(&shared, &path, &method, &headers).await;
    response.map(axum::body::Body::new)
}

/// Answers for a file below `/tree/`.
pub async fn file(
    shared: &Shared,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Response<Body> {
    let snapshot = shared.snapshot.load_full();
    let mut response = match snapshot.as_deref() {
        Some(snapshot) => files::respond(&snapshot.tree, path, method, headers).await,
        None => files::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "no tree could be read yet\n",
        ),
    };
    // A browser must not take a blob for a page of ours.
    response.headers_mut().insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}
