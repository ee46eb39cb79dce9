//! The mirrors: one process with the tree in memory, on as many ports as there are mirrors.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_RANGE, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What makes this program the server.
pub(crate) const COMMAND: &str = "serve-the-mirrors";

/// The other process; it ends with this one's value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) ports: Vec<u16>,
}

impl Server {
    pub(crate) fn start(root: &Path, hosts: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            .arg(root)
            .arg(hosts.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ports = line.split_whitespace().map(str::parse);
        let ports = ports.collect::<Result<Vec<u16>, _>>()?;
        anyhow::ensure!(ports.len() == hosts, "the mirrors do not run");
        Ok(Self { child, ports })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Serves until it is killed.
pub(crate) fn serve(root: &Path, hosts: usize) -> anyhow::Result<()> {
    let mut files = HashMap::new();
    let mut pending = vec![root.join("blobs"), root.join("state.json")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        } else {
            let name = path
                .strip_prefix(root)?
                .to_str()
                .context("a strange name")?;
            files.insert(format!("/{name}"), Bytes::from(fs::read(&path)?));
        }
    }
    tokio::runtime::Runtime::new()?.block_on(answer_all(Arc::new(files), hosts))
}

type Files = HashMap<String, Bytes>;

async fn answer_all(files: Arc<Files>, hosts: usize) -> anyhow::Result<()> {
    let mut servers = JoinSet::new();
    let mut ports = Vec::new();
    for _ in 0..hosts {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ports.push(listener.local_addr()?.port().to_string());
        servers.spawn(listen(listener, Arc::clone(&files)));
    }
    writeln!(std::io::stdout(), "{}", ports.join(" "))?;
    servers.join_all().await;
    Ok(())
}

async fn listen(listener: TcpListener, files: Arc<Files>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let files = Arc::clone(&files);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &files);
                async move { Ok::<_, Infallible>(response) }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            // Whoever asked may leave as he likes.
            drop(serving.await);
        });
        while connections.try_join_next().is_some() {}
    }
}

fn answer(request: &Request<Incoming>, files: &Files) -> Response<Full<Bytes>> {
    let Some(file) = files.get(request.uri().path()) else {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let range = request.headers().get(RANGE).and_then(|range| {
        let range = range.to_str().ok()?.strip_prefix("bytes=")?;
        let (from, to) = range.split_once('-')?;
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        (from <= to && to < file.len()).then_some((from, to))
    });
    match range {
        Some((from, to)) if *request.method() == Method::GET => {
            let mut response = Response::new(Full::new(file.slice(from..=to)));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {from}-{to}/{}", file.len());
            if let Ok(range) = range.parse() {
                response.headers_mut().insert(CONTENT_RANGE, range);
            }
            response
        }
        // The length stays, the body of an answer to `HEAD` is not sent.
        _ => Response::new(Full::new(file.clone())),
    }
}
