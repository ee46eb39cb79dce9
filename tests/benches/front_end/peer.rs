//! The servers: each a process of its own, this program in another role or nginx.

use std::convert::Infallible;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use oci_mirror::http::server::{Limits, Server};
use oci_mirror::tree::{Catalog, Tree};
use registry_proxy::checkin::Desk;
use registry_proxy::client_address::TrustedProxies;
use registry_proxy::config::Config;
use registry_proxy::dispatch::Shared;
use registry_proxy::geo::Geo;
use registry_proxy::observe::{Observer, Redirects, access, statistics};
use registry_proxy::snapshot::{Policy, Snapshot};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use super::{LARGE, SMALL, network};

/// A server in a process of its own; ends with this value.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Child,
    /// A server ends when this is closed, whatever becomes of us.
    _lifeline: Option<ChildStdin>,
    pub(crate) address: SocketAddr,
    _directory: Option<TempDir>,
}

impl Peer {
    /// Starts this program as a server, and waits until it is ready.
    pub(crate) fn start(role: &[&str]) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().context("a server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .with_context(|| format!("{role:?} did not start"))?;
        Ok(Self {
            _lifeline: process.stdin.take(),
            process,
            address,
            _directory: None,
        })
    }

    /// Starts nginx with a file of 2 KB, as fast as it can be, and with the blobs of a tree. Files that are seldom asked
    /// for twice it serves best without remembering them.
    pub(crate) fn nginx(tree: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        // The workers may run as another user.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        fs::write(path.join("2k"), vec![b'x'; 2048])?;
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let (root, tree) = (path.display(), tree.display());
        fs::write(
            path.join("nginx.conf"),
            format!(
                "daemon off; worker_processes auto; pid {root}/pid; error_log {root}/error.log;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{ access_log off; sendfile on; tcp_nopush on; open_file_cache max=100;\n\
                 keepalive_requests 1000000000; keepalive_timeout 1h;\n\
                 server {{ listen 127.0.0.1:{port}; root {root};\n\
                 location /blobs/ {{ root {tree}; open_file_cache off; }} }} }}\n"
            ),
        )?;
        let process = Command::new("nginx")
            .args(["-e", "stderr", "-c"])
            .arg(path.join("nginx.conf"))
            .spawn()
            .context("nginx is not installed")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let peer = Self {
            process,
            _lifeline: None,
            address,
            _directory: Some(directory),
        };
        for _ in 0..1000 {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(peer);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("nginx does not listen on {address}")
    }

    /// The CPU time it has used so far, with that of its children, in seconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let mut ticks = 0.0;
        for process in self.processes()? {
            let fields = stat(process)?;
            // User and system time, the 14th and 15th field of all.
            for field in &fields[11..13] {
                ticks += field.parse::<f64>()?;
            }
        }
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// The memory it has in use, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.process.id()))?;
        let pages = statm
            .split(' ')
            .nth(1)
            .context("statm has no second field")?;
        Ok(pages.parse::<u64>()? * PAGE)
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let own = self.process.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let mut all = vec![own];
        for child in children.split_whitespace() {
            all.push(child.parse()?);
        }
        Ok(all)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's workers end with their master only if it is asked to end, not if it is killed.
        let id = self.process.id().to_string();
        drop(Command::new("kill").arg(id).status());
        drop(self.process.wait());
    }
}

/// Ticks in which Linux tells CPU times, on every architecture there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The fields of `/proc/PID/stat` after the name of the program, which may hold anything.
fn stat(process: u32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = text.rsplit_once(") ").context("stat has no name")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// Runs as the server that `role` names, until standard input is closed.
pub(crate) fn serve(role: &[String]) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        drop(std::io::stdin().read_line(&mut String::new()));
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let role: Vec<&str> = role.iter().map(String::as_str).collect();
    let redirect = Fixed {
        status: StatusCode::FOUND,
        body: Bytes::new(),
        head_time: None,
        fields: HeaderMap::new(),
    };
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    match role[..] {
        ["fixed-redirect"] => runtime.block_on(redirect.serve(address)),
        ["full-redirect"] => {
            let fields = full_fields();
            runtime.block_on(Fixed { fields, ..redirect }.serve(address))
        }
        ["timed-redirect"] => {
            let head_time = Some(Limits::default().header_time);
            runtime.block_on(
                Fixed {
                    head_time,
                    ..redirect
                }
                .serve(address),
            )
        }
        ["redirect-per-core"] => redirect.serve_per_core(),
        ["fixed-body"] => {
            let body = vec![b'x'; 3072].into();
            let status = StatusCode::OK;
            runtime.block_on(
                Fixed {
                    status,
                    body,
                    ..redirect
                }
                .serve(address),
            )
        }
        ["front-end", tree] => runtime.block_on(front_end(Path::new(tree), Duration::ZERO)),
        ["front-end-with-memory", tree] => {
            runtime.block_on(front_end(Path::new(tree), RETRY_WINDOW))
        }
        _ => anyhow::bail!("no such server: {role:?}"),
    }
}

/// The least that hyper can do: always the same answer.
#[derive(Debug, Clone)]
struct Fixed {
    status: StatusCode,
    body: Bytes,
    /// The limit on the time to send a head, which costs a timer for each request.
    head_time: Option<Duration>,
    /// What else stands in the head.
    fields: HeaderMap,
}

impl Fixed {
    async fn serve(self, address: SocketAddr) -> anyhow::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1024)?;
        announce(listener.local_addr()?);
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = self.clone();
            let service =
                service_fn(move |_| std::future::ready(Ok::<_, Infallible>(answer.response())));
            connections.spawn(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(self.head_time)
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    }

    /// A runtime of one thread for each core, which the kernel hands connections to.
    fn serve_per_core(self) -> anyhow::Result<()> {
        let reserved = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = reserved.local_addr()?;
        drop(reserved);
        let cores = std::thread::available_parallelism()?.get();
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                let answer = self.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?;
                    runtime.block_on(answer.serve(address))
                })
            })
            .collect();
        for thread in threads {
            if let Ok(ended) = thread.join() {
                ended?;
            }
        }
        Ok(())
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        if self.status.is_redirection() {
            fields.insert(LOCATION, HeaderValue::from_static(MIRROR));
        } else {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        for (name, value) in &self.fields {
            fields.append(name, value.clone());
        }
        response
    }
}

/// What a redirect of ours says beside `Location`: as many fields, as long.
fn full_fields() -> HeaderMap {
    let mut fields = HeaderMap::new();
    let mut add = |name: &'static str, length| {
        let value = HeaderValue::try_from("x".repeat(length));
        fields.append(
            HeaderName::from_static(name),
            value.expect("letters make a value"),
        );
    };
    for (name, length) in [
        ("vary", 6),
        ("cache-control", 8),
        ("docker-content-digest", 71),
        ("etag", 73),
        ("digest", 52),
        ("repr-digest", 54),
        ("docker-distribution-api-version", 12),
    ] {
        add(name, length);
    }
    for _ in 0..7 {
        add("link", 160);
    }
    fields
}

const MIRROR: &str = "https://mirror1.example.org/pub/containers/blobs/sha256/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Shorter than the time until a request is sent again, so that none is a retry; what is remembered of it
/// costs the same.
const RETRY_WINDOW: Duration = Duration::from_secs(1);

/// Our own server, as it is, over a made-up network; without a window, since clients here ask for the same
/// blobs again and again.
async fn front_end(tree: &Path, retry_window: Duration) -> anyhow::Result<()> {
    let tree = Tree::open(tree)?;
    let catalog = Arc::new(Catalog::load(&tree, None)?);
    let shape = if catalog.state().totals.tags == SMALL.manifests as u64 {
        SMALL
    } else {
        LARGE
    };
    let network = network::network(&shape)?;
    let trusted = TrustedProxies::new(vec!["127.0.0.0/8".parse()?]);
    let snapshot = Snapshot {
        tree,
        redirects: Redirects::following(&network, None),
        network: Arc::new(network),
        presence: Arc::new(network::presence(&shape, &catalog)),
        catalog,
        geo: Arc::new(Geo::builtin()?),
        pieces: Arc::default(),
        policy: Policy {
            min_size: 64 << 10,
            min_mirrors: 5,
            retry_window,
            ..Policy::default()
        },
        remembered: Arc::default(),
        trusted: trusted.clone(),
        access: access::Log::default(),
        loaded: Timestamp::now(),
    };
    let limits = Limits::default();
    let server = Server::bind(&["127.0.0.1:0".parse()?], limits).await?;
    let address = server.local_addresses();
    let snapshot = Arc::new(ArcSwapOption::from_pointee(snapshot));
    let shared = Shared {
        desk: Arc::new(Desk::new(&Config::default(), Arc::clone(&snapshot))),
        snapshot,
        trusted: Arc::new(ArcSwap::from_pointee(trusted)),
        fallback: "localhost".parse()?,
        observer: Arc::new(Observer::new(statistics::queue(None).0)),
    };
    announce(*address.first().context("nothing is listened on")?);
    Arc::new(shared)
        .serve(server, CancellationToken::new())
        .await;
    Ok(())
}

fn announce(address: SocketAddr) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    drop(writeln!(stdout, "{address}"));
    drop(stdout.flush());
}
