//! A tree that others follow, and servers for it that say what was asked of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use mirror_tool::prune;
use mirror_tool::sync::{self, Filter, Options, Report};
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::http::files;
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{Tree, TreePath, TreeWriter};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A tree that others follow, and room for theirs.
pub(crate) struct Master {
    pub(crate) dir: TempDir,
}

impl Master {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.path().join("master")
    }

    /// Where a mirror of this name is.
    pub(crate) fn mirror(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Publishes images of these layers, all with one new state; returns the digests of their manifests.
    pub(crate) fn publish(&self, images: &[(&str, &str, &[&[u8]])]) -> Vec<Digest> {
        let writer = TreeWriter::open(&self.tree()).unwrap();
        let images: Vec<Image> = images
            .iter()
            .map(|(repo, tag, layers)| image(&writer, repo, tag, layers))
            .collect();
        writer.publish(&images).unwrap();
        writer.finish(Timestamp::now()).unwrap();
        images.iter().map(|image| image.root.digest).collect()
    }

    /// Takes tags away, and all that nothing needs then.
    pub(crate) fn remove(&self, repo: &str, gone: impl Fn(&str) -> bool) {
        let writer = TreeWriter::open(&self.tree()).unwrap();
        let keep = |entry: &Descriptor| !entry.ref_name().is_some_and(&gone);
        writer.retain(&repo.parse().unwrap(), keep).unwrap();
        writer.finish(Timestamp::now()).unwrap();
        drop(writer);
        let options = prune::Options {
            tree: self.tree(),
            grace: Duration::ZERO,
            dry_run: false,
            now: Some(Timestamp::now()),
        };
        let report = prune::run(&options).unwrap();
        assert_eq!(report.damaged.len(), 0);
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.tree().display())
    }

    /// A run of the mirror of this name that follows these.
    pub(crate) fn options(&self, name: &str, from: &[&str]) -> Options {
        Options {
            from: from.iter().map(|url| url.parse().unwrap()).collect(),
            tree: self.mirror(name),
            filter: Filter::default(),
            grace: Duration::from_secs(24 * 3600),
            bandwidth: None,
            jobs: NonZeroUsize::new(4).unwrap(),
            retries: 1,
            accept_shrink: false,
            accept_older: false,
            check: false,
            max_entries: 100_000,
            static_v2: None,
            report: None,
            tls_ca: None,
            dry_run: false,
            now: None,
            shutdown: CancellationToken::new(),
        }
    }

    /// Lets the mirror `m` follow this tree from the disk.
    pub(crate) async fn sync(&self) -> Report {
        sync::run(self.options("m", &[&self.url()])).await.unwrap()
    }
}

/// Stages an image.
fn image(writer: &TreeWriter, repo: &str, tag: &str, layers: &[&[u8]]) -> Image {
    let mut reach = Vec::new();
    let mut descriptor = |content: &[u8], media_type: &str| {
        let digest = Algorithm::Sha256.digest(content);
        writer.stage_bytes(digest, content).unwrap();
        reach.push(digest);
        format!(
            r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#,
            content.len()
        )
    };
    let config = format!(r#"{{"architecture":"amd64","os":"linux","tag":"{repo}:{tag}"}}"#);
    let config = descriptor(
        config.as_bytes(),
        "application/vnd.oci.image.config.v1+json",
    );
    let layers: Vec<String> = layers
        .iter()
        .map(|layer| descriptor(layer, "application/vnd.oci.image.layer.v1.tar"))
        .collect();
    let media_type = MediaType::OCI_MANIFEST;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    );
    let digest = Algorithm::Sha256.digest(manifest.as_bytes());
    writer.stage_bytes(digest, manifest.as_bytes()).unwrap();
    reach.push(digest);
    Image {
        repo: repo.parse().unwrap(),
        tag: Some(tag.parse().unwrap()),
        root: Descriptor::new(media_type, digest, manifest.len() as u64),
        reach,
        tag_referrers: None,
    }
}

/// A tree served over HTTP, and what was asked of it.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Served {
    pub(crate) async fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (shared, root) = (Arc::clone(&log), root.to_owned());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (log, root) = (Arc::clone(&shared), root.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (log, root) = (Arc::clone(&log), root.clone());
                        async move {
                            let path = request.uri().path().trim_start_matches('/');
                            let (method, headers) = (request.method(), request.headers());
                            let range = headers.get("range").map(|it| it.to_str().unwrap());
                            let line = format!("{method} {path} {}", range.unwrap_or("-"));
                            log.lock().unwrap().push(line);
                            let tree = Tree::open(&root).unwrap();
                            Ok::<_, Infallible>(files::respond(&tree, path, method, headers).await)
                        }
                    });
                    // A client that is killed is not our failure.
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(socket), service)
                            .await,
                    );
                });
            }
        });
        Self {
            address,
            log,
            _server: server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since this was last called.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// A front end that takes check-ins, or does not.
pub(crate) struct FrontEnd {
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<Vec<String>>>,
    status: Arc<AtomicU16>,
    _server: JoinSet<()>,
}

impl FrontEnd {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let status = Arc::new(AtomicU16::new(200));
        let (log, answer) = (Arc::clone(&told), Arc::clone(&status));
        let mut server = JoinSet::new();
        server.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                    async move {
                        let line = format!("{} {}", request.method(), request.uri().path());
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let body = String::from_utf8(body.to_vec()).unwrap();
                        log.lock().unwrap().push(format!("{line} {body}"));
                        let said = r#"{"status":"recorded","presence":"taken","crawl":"none"}"#;
                        let mut response = Response::new(Full::new(Bytes::from(said)));
                        let status = answer.load(Ordering::Relaxed);
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                        Ok::<_, Infallible>(response)
                    }
                });
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(socket), service)
                        .await,
                );
            }
        });
        Self {
            address,
            told,
            status,
            _server: server,
        }
    }

    /// From now on it answers with this status.
    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// What it was told since this was last called.
    pub(crate) fn take_told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

/// Passes connections on, and counts their bytes.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    bytes: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    _server: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bytes: Arc<AtomicU64> = Arc::default();
        let connections: Arc<AtomicU64> = Arc::default();
        let (count, opened) = (Arc::clone(&bytes), Arc::clone(&connections));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let count = Arc::clone(&count);
                opened.fetch_add(1, Ordering::Relaxed);
                passing.spawn(async move {
                    let mut there = TcpStream::connect(target).await.unwrap();
                    let passed = tokio::io::copy_bidirectional(&mut client, &mut there).await;
                    let (up, down) = passed.unwrap_or_default();
                    count.fetch_add(up + down, Ordering::Relaxed);
                });
            }
        });
        Self {
            address,
            bytes,
            connections,
            _server: server,
        }
    }

    /// Bytes of the connections that have come to their end, both ways, and how many there were.
    pub(crate) fn counted(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.bytes), of(&self.connections))
    }
}

/// The path of a file of a tree that links to a blob.
pub(crate) fn link(root: &Path, repo: &str, digest: Digest) -> PathBuf {
    TreePath::Link(repo.parse().unwrap(), digest).under(root)
}

pub(crate) fn blob(root: &Path, digest: Digest) -> PathBuf {
    TreePath::Blob(digest).under(root)
}
