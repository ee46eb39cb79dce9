//! Serve: a tree as a static mirror would hand it out, for trying things out and for tests.

use std::net::SocketAddr;
use std::path::Path;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use oci_mirror::http::files;
use oci_mirror::http::server::{Limits, ListenAddress, Server};
use oci_mirror::tree::Tree;
use tokio_util::sync::CancellationToken;

/// A mirror that is bound and not yet served.
#[derive(Debug)]
pub struct Mirror {
    tree: Tree,
    server: Server,
}

/// Opens the tree at `root` and binds `address`.
pub async fn bind(root: &Path, address: &ListenAddress) -> anyhow::Result<Mirror> {
    let tree = Tree::open(root)?;
    let server = Server::bind(std::slice::from_ref(address), Limits::default()).await?;
    Ok(Mirror { tree, server })
}

impl Mirror {
    /// The TCP addresses in use, with the ports the system chose.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.server.local_addresses()
    }

    /// Serves until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { tree, server } = self;
        let service = move |_| {
            let tree = tree.clone();
            service_fn(move |request: Request<Incoming>| {
                let tree = tree.clone();
                async move {
                    let path = request.uri().path().trim_start_matches('/');
                    let (method, headers) = (request.method(), request.headers());
                    Ok(files::respond(&tree, path, method, headers).await)
                }
            })
        };
        server.run(service, shutdown).await;
    }
}
