//! A mirror that has followed a tree, and the tree, which has something new and is going to lie.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mirror_tool::sync::report::Outcome;
use mirror_tool::sync::{self, Options, Report};
use mirror_tool::verify;
use oci_mirror::digest::Algorithm;
use oci_mirror::http::files;
use oci_mirror::tree::state::State;
use oci_mirror::tree::{Tree, TreePath};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::bench::{MIB, noise, snapshot};
use crate::sync::master::Master;

/// A mirror that has followed a tree, and the tree, which has something new.
pub(super) struct Stage {
    name: &'static str,
    pub(super) master: Arc<Master>,
    server: Server,
    /// The tree as it is when it tells the truth.
    truth: Files,
    /// The mirror as it was.
    before: BTreeMap<PathBuf, (u64, i64, i64, Vec<u8>)>,
}

pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A layer that has pieces.
pub(super) fn large() -> Vec<u8> {
    noise(7, MIB + 1000)
}

impl Stage {
    pub(super) async fn new(name: &'static str) -> Self {
        let master = Arc::new(Master::new());
        master.publish(&[("old", "1", &[b"old"])]);
        let server = Server::start(&master.tree(), |_, _| None).await;
        let options = master.options("m", &[&server.url()]);
        let report = sync::run(options).await.unwrap();
        assert_eq!(report.outcome, Outcome::Followed, "{name}: {report:#?}");
        master.publish(&[("new", "1", &[b"new", &large()])]);
        let mut stage = Self {
            name,
            before: published_files(&master.mirror("m")),
            truth: Files::new(),
            master,
            server,
        };
        stage.truth = stage.save();
        stage
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.master.tree()
    }

    pub(super) fn mirror(&self) -> PathBuf {
        self.master.mirror("m")
    }

    /// Where a file of the tree is.
    pub(super) fn path(&self, path: &TreePath) -> PathBuf {
        path.under(&self.tree())
    }

    /// Changes the list, and the state so that it names the list.
    pub(super) fn relist(&self, edit: impl Fn(String) -> String) {
        let (_, path) = published(&self.tree());
        let path = self.path(&path);
        let list = fs::read_to_string(&path).unwrap();
        let edited = edit(list.clone());
        assert_ne!(edited, list, "{}: the lie is none", self.name);
        fs::write(path, &edited).unwrap();
        restate(&self.tree(), |state| {
            let list = state.list.as_mut().unwrap();
            list.digest = Algorithm::Sha256.digest(edited.as_bytes());
        });
    }

    pub(super) fn options(&self) -> Options {
        self.options_from(&self.server.url())
    }

    pub(super) fn options_from(&self, url: &str) -> Options {
        self.master.options("m", &[url])
    }

    pub(super) async fn refused(&self, outcome: Outcome, told: &str) {
        let report = sync::run(self.options()).await.unwrap();
        self.is_unchanged(&report, outcome, told);
    }

    /// The run has ended so, has said why in one line, and the mirror is what it was.
    #[track_caller]
    pub(super) fn is_unchanged(&self, report: &Report, outcome: Outcome, told: &str) {
        let name = self.name;
        assert_eq!(report.outcome, outcome, "{name}: {report:#?}");
        let error = report.error.as_deref().unwrap_or_default();
        assert!(error.contains(told), "{name}: {error}");
        assert!(
            !error.is_empty() && !error.contains(char::is_control),
            "{name}: {error:?}"
        );
        let after = published_files(&self.mirror());
        let paths = |files: &BTreeMap<PathBuf, _>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&after), paths(&self.before), "{name}");
        assert!(after == self.before, "{name}: a file has changed");
        let report = verify::run(&self.mirror()).unwrap();
        assert_eq!(report.damage, [], "{name}");
        assert!(!report.summary.interrupted, "{name}");
    }

    /// Told the truth, the mirror takes it.
    pub(super) async fn is_followed_once_it_is_true(&self) {
        self.restore(&self.truth);
        let report = sync::run(self.options()).await.unwrap();
        assert_eq!(
            report.outcome,
            Outcome::Followed,
            "{}: {report:#?}",
            self.name
        );
        self.is_the_same();
    }

    /// The mirror is what the tree is, to the byte.
    #[track_caller]
    pub(super) fn is_the_same(&self) {
        let content = |root: &Path| -> Files {
            let files = published_files(root).into_iter();
            files.map(|(path, (.., content))| (path, content)).collect()
        };
        let (mirror, tree) = (content(&self.mirror()), content(&self.tree()));
        let mut gone = mirror.keys().filter(|path| !tree.contains_key(*path));
        let report = verify::run(&self.mirror()).unwrap();
        assert_eq!(report.damage, [], "{}", self.name);
        assert_eq!(gone.next(), None, "{}", self.name);
        assert!(mirror == tree, "{}: a file is another", self.name);
    }

    /// The tree as it is.
    pub(super) fn save(&self) -> Files {
        let root = self.tree();
        let files = published_files(&root).into_iter();
        files.map(|(path, (.., content))| (path, content)).collect()
    }

    /// Makes the tree what it was.
    pub(super) fn restore(&self, files: &Files) {
        let root = self.tree();
        fs::remove_dir_all(&root).unwrap();
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }
}

/// What a tree consists of, without what is not part of it.
fn published_files(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, Vec<u8>)> {
    let below = |(path, file): (PathBuf, _)| (path.strip_prefix(root).unwrap().to_owned(), file);
    let files = snapshot(root).into_iter().map(below);
    files
        .filter(|(path, _)| !path.starts_with(".~tmp~"))
        .collect()
}

/// The state of a tree, and where the list is that it names.
pub(super) fn published(root: &Path) -> (State, TreePath) {
    let state = Tree::open(root).unwrap().state().unwrap();
    let module = state.list.as_ref().unwrap().module.clone();
    (state, TreePath::List(module))
}

/// Changes the state of a tree.
pub(super) fn restate(root: &Path, edit: impl FnOnce(&mut State)) {
    let mut state = Tree::open(root).unwrap().state().unwrap();
    edit(&mut state);
    fs::write(TreePath::State.under(root), state.to_bytes()).unwrap();
}

/// A tree served over HTTP by somebody who may give other answers than it has.
pub(super) struct Server {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Serves what `other` gives for a path, or else the tree. A connection in which it panics breaks off.
    pub(super) async fn start(
        root: &Path,
        other: impl Fn(&str, &Path) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (root, other) = (Arc::<Path>::from(root), Arc::new(other));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (root, other) = (Arc::clone(&root), Arc::clone(&other));
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (root, other) = (Arc::clone(&root), Arc::clone(&other));
                        async move {
                            let path = request.uri().path().trim_start_matches('/');
                            if let Some(content) = other(path, &root) {
                                let body = Full::new(Bytes::from(content));
                                let body = body.map_err(std::io::Error::other).boxed_unsync();
                                return Ok::<_, Infallible>(Response::new(body));
                            }
                            let tree = Tree::open(&root).unwrap();
                            let (method, fields) = (request.method(), request.headers());
                            let answer = files::respond(&tree, path, method, fields).await;
                            Ok(answer
                                .map(|body| body.map_err(std::io::Error::other).boxed_unsync()))
                        }
                    });
                    // Whoever has heard enough hangs up.
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
            _tasks: tasks,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
