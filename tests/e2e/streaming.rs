//! Parts of files over real sockets, compared byte for byte with what is on disk.
//!
//! Sizes lie around those at which the server changes its ways: what it copies, what it hands to the
//! kernel, and how much at a time. No file has a zero byte, which is what a slip of that would send.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use oci_mirror::digest::Algorithm;
use oci_mirror::http::files;
use oci_mirror::http::server::{Limits, ListenAddress, Server};
use oci_mirror::tree::{Tree, TreePath};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const COPIED: usize = 64 << 10;
const WINDOW: usize = 256 << 10;
const SIZES: [usize; 12] = [
    1,
    100,
    COPIED - 1,
    COPIED,
    COPIED + 1,
    WINDOW - 1,
    WINDOW,
    WINDOW + 1,
    2 * WINDOW,
    2 * WINDOW + 1,
    (1 << 20) + 17,
    3 << 20,
];

/// A server of a tree that holds one blob of each size.
struct Site {
    _directory: TempDir,
    address: SocketAddr,
    socket: PathBuf,
    blobs: Vec<Blob>,
}

struct Blob {
    path: String,
    file: PathBuf,
    content: Vec<u8>,
}

impl Site {
    fn start(sizes: &[usize]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let blobs = sizes.iter().map(|size| {
            let content = content(*size);
            let path = TreePath::Blob(Algorithm::Sha256.digest(&content));
            let file = path.under(directory.path());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &content).unwrap();
            Blob {
                path: format!("/{path}"),
                file,
                content,
            }
        });
        let blobs = blobs.collect();
        let socket = directory.path().join("socket");
        let tree = Arc::new(Tree::open(directory.path()).unwrap());
        let listen = [
            "127.0.0.1:0".parse().unwrap(),
            ListenAddress::Unix(socket.clone()),
        ];
        let (sender, receiver) = std::sync::mpsc::channel();
        // On a busy machine a client is no attacker only because it takes its time.
        let limits = Limits {
            header_time: DEADLINE,
            stall_time: DEADLINE,
            ..Limits::default()
        };
        // Serves as long as the tests run.
        thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let server = Server::bind(&listen, limits).await.unwrap();
                sender.send(server.local_addresses()[0]).unwrap();
                let service = move |_| {
                    let tree = Arc::clone(&tree);
                    service_fn(move |request: http::Request<Incoming>| {
                        let tree = Arc::clone(&tree);
                        async move {
                            let path = request.uri().path().trim_start_matches('/');
                            let (method, headers) = (request.method(), request.headers());
                            Ok::<_, Infallible>(files::respond(&tree, path, method, headers).await)
                        }
                    })
                };
                server.run(service, CancellationToken::new()).await;
            });
        });
        Self {
            address: receiver.recv().unwrap(),
            _directory: directory,
            socket,
            blobs,
        }
    }

    fn tcp(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn unix(&self) -> Client<UnixStream> {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(BufReader::new(stream))
    }
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| Site::start(&SIZES))
}

/// Bytes that differ from one place to the next, none of them zero.
fn content(size: usize) -> Vec<u8> {
    let mut state = size as u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).unwrap() | 1
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A request for a blob, or for something short that is not there.
#[derive(Debug, Clone)]
struct Ask {
    blob: Option<usize>,
    range: Option<(usize, Option<usize>)>,
    is_head: bool,
}

impl Ask {
    fn blob(blob: usize) -> Self {
        Self {
            blob: Some(blob),
            range: None,
            is_head: false,
        }
    }

    fn text(&self, site: &Site) -> String {
        let method = if self.is_head { "HEAD" } else { "GET" };
        let path = self.blob.map_or("/absent", |blob| &site.blobs[blob].path);
        let range = match self.range {
            Some((first, Some(last))) => format!("Range: bytes={first}-{last}\r\n"),
            Some((first, None)) => format!("Range: bytes={first}-\r\n"),
            None => String::new(),
        };
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{range}\r\n")
    }

    fn expected<'a>(&self, site: &'a Site) -> (u16, &'a [u8]) {
        let Some(blob) = self.blob else {
            return (404, b"no such file in the tree\n");
        };
        let content = site.blobs[blob].content.as_slice();
        match self.range {
            // Only what is read has ranges.
            _ if self.is_head => (200, content),
            None => (200, content),
            Some((first, _)) if first >= content.len() => (416, b""),
            Some((first, None)) => (206, &content[first..]),
            Some((first, Some(last))) => (206, &content[first..content.len().min(last + 1)]),
        }
    }
}

/// One connection, which knows as much of HTTP as is needed.
struct Client<S>(BufReader<S>);

impl<S: Read + Write> Client<S> {
    fn send(&mut self, request: &str) {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// The status and length in the head of a response.
    fn head(&mut self) -> (u16, usize) {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).map(str::parse);
        let status = status.unwrap_or_else(|| panic!("no status in {line:?}"));
        let mut length = 0;
        loop {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0);
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => return (status.unwrap(), length),
            }
        }
    }

    #[track_caller]
    fn receive(&mut self, ask: &Ask, site: &Site) {
        let (status, expected) = ask.expected(site);
        assert_eq!(self.head(), (status, expected.len()), "{ask:?}");
        if !ask.is_head {
            let mut body = vec![0; expected.len()];
            self.0.read_exact(&mut body).unwrap();
            assert_same(&body, expected);
        }
    }

    #[track_caller]
    fn converse(&mut self, asks: &[Ask], is_pipelined: bool, site: &Site) {
        if is_pipelined {
            let all: String = asks.iter().map(|ask| ask.text(site)).collect();
            self.send(&all);
        }
        for ask in asks {
            if !is_pipelined {
                self.send(&ask.text(site));
            }
            self.receive(ask, site);
        }
    }
}

/// Names the first difference; the bytes themselves would fill pages.
#[track_caller]
fn assert_same(found: &[u8], expected: &[u8]) {
    if found != expected {
        let difference = found.iter().zip(expected).position(|(a, b)| a != b);
        panic!(
            "{} bytes for {}, different from {difference:?} on",
            found.len(),
            expected.len()
        );
    }
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let blob = prop::option::weighted(0.85, 0..SIZES.len());
    let ask = (
        blob,
        any::<(u32, u32)>(),
        0..4_u8,
        prop::bool::weighted(0.15),
    );
    let ask = ask.prop_map(|(blob, (first, length), form, is_head)| {
        let size = blob.map_or(1, |blob| SIZES[blob]);
        // One in a while begins beyond the end.
        let first = first as usize % (size + size.div_ceil(16));
        let range = match form {
            0 => None,
            1 => Some((first, None)),
            _ => Some((first, Some(first + length as usize % size))),
        };
        Ask {
            blob,
            range: range.filter(|_| blob.is_some()),
            is_head,
        }
    });
    vec(ask, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_requests_on_one_connection_are_answered_from_the_disk(
        asks in asks(),
        is_pipelined in any::<bool>(),
        is_unix in any::<bool>(),
    ) {
        if is_unix {
            site().unix().converse(&asks, is_pipelined, site());
        } else {
            site().tcp().converse(&asks, is_pipelined, site());
        }
    }
}

#[test]
fn http_1_0_is_answered_whole() {
    let site = site();
    for blob in &site.blobs {
        let mut client = site.tcp();
        client.send(&format!("GET {} HTTP/1.0\r\n\r\n", blob.path));
        assert_eq!(client.head(), (200, blob.content.len()));
        let mut body = Vec::new();
        client.0.read_to_end(&mut body).unwrap();
        assert_same(&body, &blob.content);
    }
}

#[test]
fn http_2_is_answered_with_the_same_bytes() {
    let site = site();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .unwrap();
    let gets = site.blobs.iter().map(async |blob| {
        let url = format!("http://{}{}", site.address, blob.path);
        let response = client.get(url).send().await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        assert_same(&response.bytes().await.unwrap(), &blob.content);
    });
    runtime.block_on(futures_util::future::join_all(gets));
}

#[test]
fn two_hundred_downloads_at_once_are_all_right() {
    let site = site();
    thread::scope(|scope| {
        for number in 0..200 {
            let mut asks = vec![Ask::blob(SIZES.len() - 1), Ask::blob(number % SIZES.len())];
            asks.rotate_left(number % 2);
            scope.spawn(move || site.tcp().converse(&asks, number % 3 == 0, site));
        }
    });
}

#[test]
fn clients_that_leave_disturb_nobody() {
    let site = site();
    let (large, length) = (Ask::blob(SIZES.len() - 1), SIZES[SIZES.len() - 1]);
    let mut staying = site.tcp();
    for taken in (0..length).step_by(length / 50) {
        let mut leaving = site.tcp();
        leaving.send(&large.text(site).repeat(3));
        leaving.0.read_exact(&mut vec![0; taken]).unwrap();
        drop(leaving);
        staying.converse(std::slice::from_ref(&large), false, site);
    }
}

#[test]
fn a_file_cut_short_while_it_is_sent_breaks_the_response_off() {
    // More than the buffers of both ends take, and cut at the end of a page: what lies beyond the cut
    // on a page that is on its way is the kernel's to change.
    let (length, cut) = (96 << 20, 48 << 20);
    let site = Site::start(&[length]);
    let blob = &site.blobs[0];
    let mut client = site.tcp();
    client.send(&Ask::blob(0).text(&site));
    assert_eq!(client.head(), (200, length));
    let mut body = vec![0; 1 << 20];
    client.0.read_exact(&mut body).unwrap();
    let file = OpenOptions::new().write(true).open(&blob.file).unwrap();
    file.set_len(cut).unwrap();
    // A reset after the last byte is as good an end as a close.
    drop(client.0.read_to_end(&mut body));
    assert!(body.len() as u64 <= cut, "{} bytes", body.len());
    assert_same(&body, &blob.content[..body.len()]);
}

/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(120);
