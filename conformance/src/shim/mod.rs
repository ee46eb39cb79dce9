//! A registry that can be pushed to, whose answers are those of `registry-proxy`.
//!
//! A mirror network is read-only, so the official suite cannot push what it then wants to read. The shim
//! stands before both: what writes goes to a docker-registry, and before the next question is let through
//! to `registry-proxy`, `mirror-tool export` brings the tree up to date.
//!
//! No tree has a blob that no manifest refers to. When one is asked for, the shim pushes a manifest that
//! does, exports that and asks again. What still is not in the tree, because docker-registry would not
//! take such a manifest, is answered by docker-registry, and counted.
//!
//! Additions are exported into the tree that is being served, as in real life. Something exported by its
//! digest stays in a tree for good, so after a deletion a new tree is made and served.

mod front_end;
mod pushed;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use oci_mirror::digest::Algorithm;
use oci_mirror::tree::TreeWriter;
use support::peer::docker_registry::DockerRegistry;
use support::process::{Failure, run};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

pub use front_end::FrontEnd;
use front_end::ours;
use pushed::{Change, Pushed, digests};

/// Who has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Questions answered by `registry-proxy`.
    pub by_front_end: usize,
    /// Questions for a blob that no manifest can be made to refer to, answered by docker-registry.
    pub by_registry: usize,
}

/// The running shim with both of its registries; stopped when dropped.
#[derive(Debug)]
pub struct Shim {
    address: SocketAddr,
    registries: Arc<Mutex<Registries>>,
    _server: JoinSet<()>,
}

impl Shim {
    /// Starts everything; `directory` takes trees, storage and logs, `programs` has ours.
    pub async fn start(programs: &Path, directory: &Path) -> Result<Self> {
        let registries = Arc::new(Mutex::new(Registries::start(programs, directory)?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&registries));
        let mut server = JoinSet::new();
        server.spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self {
            address,
            registries,
            _server: server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who has answered what was read so far.
    pub async fn answered(&self) -> Answered {
        self.registries.lock().await.answered
    }
}

async fn answer(State(registries): State<Arc<Mutex<Registries>>>, request: Request) -> Response {
    let outcome = async {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, MAX_BODY)
            .await
            .context("cannot read a request")?;
        let question = Question {
            method: head.method,
            uri: head.uri,
            fields: head.headers,
            body,
        };
        // One at a time: the suite asks so, and the tree must not change under a question.
        registries.lock().await.answer(&question).await
    };
    outcome.await.unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(format!("{error:#}\n")));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

struct Question {
    method: Method,
    uri: Uri,
    fields: HeaderMap,
    body: Bytes,
}

impl Question {
    fn reads(&self) -> bool {
        let read = self.method == Method::GET || self.method == Method::HEAD;
        // How far an upload has come is known to who takes it.
        read && !self.uri.path().contains("/blobs/uploads/")
    }

    /// Repository, kind and last part of a path of the API.
    fn subject(&self) -> Option<(&str, &str, &str)> {
        let (rest, last) = self.uri.path().strip_prefix("/v2/")?.rsplit_once('/')?;
        let (name, kind) = rest.rsplit_once('/')?;
        Some((name, kind, last))
    }
}

#[derive(Debug)]
struct Registries {
    programs: PathBuf,
    directory: PathBuf,
    registry: DockerRegistry,
    front_end: FrontEnd,
    pushed: BTreeMap<String, Pushed>,
    change: Option<Change>,
    trees: usize,
    answered: Answered,
    client: reqwest::Client,
}

impl Registries {
    fn start(programs: &Path, directory: &Path) -> Result<Self> {
        let registry = DockerRegistry::start(&directory.join("registry"))?;
        let tree = directory.join("tree-0");
        empty_tree(&tree)?;
        Ok(Self {
            programs: programs.to_path_buf(),
            directory: directory.to_path_buf(),
            registry,
            front_end: FrontEnd::start(programs, &tree, directory)?,
            pushed: BTreeMap::new(),
            change: None,
            trees: 1,
            answered: Answered::default(),
            client: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
        })
    }

    async fn answer(&mut self, question: &Question) -> Result<Response> {
        if !question.reads() {
            let url = self.registry.url();
            let response = self.forward(&url, question).await?;
            if response.status().is_success() {
                let digest = response.headers().get("docker-content-digest");
                let digest = digest.and_then(|digest| digest.to_str().ok());
                let digest = digest.map(str::to_owned);
                self.note(question, digest).await?;
            }
            return Ok(response);
        }
        self.catch_up()?;
        let mut response = self.forward(&self.front_end.url(), question).await?;
        if response.status() == StatusCode::NOT_FOUND
            && let Some((name, digest)) = self.unreferenced_blob(question)
        {
            if self.hold(name, digest).await? {
                self.catch_up()?;
                response = self.forward(&self.front_end.url(), question).await?;
            } else {
                let kept = self.forward(&self.registry.url(), question).await?;
                if kept.status() != StatusCode::NOT_FOUND {
                    self.answered.by_registry += 1;
                    return Ok(kept);
                }
            }
        }
        self.answered.by_front_end += 1;
        Ok(response)
    }

    /// The repository and digest of a blob that no manifest refers to, if that is what is asked for.
    fn unreferenced_blob<'a>(&self, question: &'a Question) -> Option<(&'a str, &'a str)> {
        let (name, kind, digest) = question.subject()?;
        let manifests = self.pushed.get(name).map(|pushed| &pushed.manifests);
        let mut manifests = manifests.into_iter().flatten();
        let referenced = manifests.any(|(own, below)| own == digest || below.contains(digest));
        (kind == "blobs" && !referenced).then_some((name, digest))
    }

    /// Pushes a manifest that refers to a blob; whether docker-registry has the one and takes the other.
    async fn hold(&mut self, name: &str, digest: &str) -> Result<bool> {
        let url = format!("{}/v2/{name}", self.registry.url());
        let blob = self
            .client
            .head(format!("{url}/blobs/{digest}"))
            .send()
            .await?;
        let size = blob.headers().get(header::CONTENT_LENGTH);
        let size: Option<u64> = size.and_then(|size| size.to_str().ok()?.parse().ok());
        let Some(size) = size.filter(|_| blob.status().is_success()) else {
            return Ok(false);
        };
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type, "layers": [],
            "config": {"mediaType": "application/octet-stream", "digest": digest, "size": size},
        });
        let manifest = manifest.to_string();
        let holder = Algorithm::Sha256.digest(manifest.as_bytes()).to_string();
        let put = self.client.put(format!("{url}/manifests/{holder}"));
        let put = put.header(header::CONTENT_TYPE, media_type).body(manifest);
        if !put.send().await?.status().is_success() {
            return Ok(false);
        }
        let pushed = self.pushed.entry(name.to_owned()).or_default();
        let below = BTreeSet::from([digest.to_owned()]);
        pushed.manifests.insert(holder.clone(), below);
        pushed.by_digest.insert(holder.clone());
        pushed.holders.insert(digest.to_owned(), holder);
        self.change = self.change.max(Some(Change::Added));
        Ok(true)
    }

    /// Remembers what a successful write has changed.
    async fn note(&mut self, question: &Question, digest: Option<String>) -> Result<()> {
        let Some((name, kind, reference)) = question.subject() else {
            return Ok(());
        };
        let pushed = self.pushed.entry(name.to_owned()).or_default();
        match (kind, &question.method) {
            ("manifests", &Method::PUT) => {
                let digest = digest.unwrap_or_else(|| reference.to_owned());
                if reference.contains(':') {
                    pushed.by_digest.insert(digest.clone());
                } else {
                    pushed.tags.insert(reference.to_owned(), digest.clone());
                }
                pushed.manifests.insert(digest, digests(&question.body));
                self.change = self.change.max(Some(Change::Added));
            }
            ("manifests", &Method::DELETE) => {
                pushed.forget(reference);
                self.change = Some(Change::Removed);
            }
            ("blobs", &Method::DELETE) => {
                let Some(holder) = pushed.holders.remove(reference) else {
                    return Ok(());
                };
                pushed.forget(&holder);
                self.change = Some(Change::Removed);
                let url = format!("{}/v2/{name}/manifests/{holder}", self.registry.url());
                self.client.delete(url).send().await?.error_for_status()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes the front end serve what the docker-registry has.
    fn catch_up(&mut self) -> Result<()> {
        let Some(change) = self.change.take() else {
            return Ok(());
        };
        if change == Change::Added {
            self.export(self.front_end.tree())?;
            return self.front_end.wait_until_current();
        }
        let tree = self.directory.join(format!("tree-{}", self.trees));
        self.trees += 1;
        empty_tree(&tree)?;
        self.export(&tree)?;
        self.front_end = FrontEnd::start(&self.programs, &tree, &self.directory)?;
        Ok(())
    }

    fn export(&self, tree: &Path) -> Result<()> {
        let mut sources = Vec::new();
        for (name, pushed) in &self.pushed {
            let name = self.registry.reference(name);
            if !pushed.tags.is_empty() {
                sources.push(format!("docker://{name}"));
            }
            let by_digest = pushed.by_digest.iter();
            sources.extend(by_digest.map(|digest| format!("docker://{name}@{digest}")));
        }
        if sources.is_empty() {
            return Ok(());
        }
        let mut command = ours(&self.programs, "mirror-tool");
        command
            .args(["export", "--plain-http", "--tree"])
            .arg(tree)
            .args(sources);
        match run(&mut command) {
            Ok(_) => Ok(()),
            // Some of it could not be exported; the suite will find what is missing.
            Err(error) => match error.downcast_ref::<Failure>() {
                Some(failure) if failure.status.code() == Some(4) => Ok(()),
                _ => Err(error),
            },
        }
    }

    async fn forward(&self, base: &str, question: &Question) -> Result<Response> {
        let path = question.uri.path_and_query().map_or("/", |it| it.as_str());
        let mut fields = question.fields.clone();
        for hop in [
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::CONTENT_LENGTH,
        ] {
            fields.remove(hop);
        }
        let request = self
            .client
            .request(question.method.clone(), format!("{base}{path}"));
        // `Host` goes along, so that what is absolute in the answer leads back here.
        let request = request.headers(fields).body(question.body.clone());
        let answer = request.send().await.context("cannot ask a registry")?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        for hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
            response.headers_mut().remove(hop);
        }
        *response.body_mut() = answer
            .bytes()
            .await
            .context("cannot read an answer")?
            .into();
        Ok(response)
    }
}

fn empty_tree(root: &Path) -> Result<()> {
    let writer = TreeWriter::open(root)?;
    writer.finish(jiff::Timestamp::UNIX_EPOCH)?;
    Ok(())
}

/// Larger than any manifest or blob of the suite.
const MAX_BODY: usize = 64 << 20;
