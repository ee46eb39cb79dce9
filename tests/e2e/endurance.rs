//! What hostile and merely bad clients may not do: stop others' pulls, or fill memory and descriptors.
//!
//! Every test has a front end of its own, counts its descriptors and reads its memory from outside. No
//! limit on memory is tight; what a leak or a buffer per client would take is far beyond it.

use std::convert::Infallible;
use std::future::Ready;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use oci_mirror::http::Body;
use oci_mirror::http::server::{Limits, Server};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use support::peer::free_address;
use support::process::Process;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::network::{Tools, tree};

/// A front end with one blob that is larger than all buffers on the way.
struct Victim {
    _directory: TempDir,
    address: SocketAddr,
    process: Process,
}

/// Zeros: what they are does not matter here, and they take no space.
const LARGE: u64 = 256 << 20;
const LARGE_PATH: &str =
    "/tree/blobs/sha256/00/0000000000000000000000000000000000000000000000000000000000000000";

impl Victim {
    fn start() -> Self {
        Self::with("")
    }

    /// A front end whose configuration has these limits.
    fn with(limits: &str) -> Self {
        raise_descriptor_limit();
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("tree");
        copy_tree(tree(), &copy);
        let large = copy.join(LARGE_PATH.strip_prefix("/tree/").unwrap());
        std::fs::create_dir_all(large.parent().unwrap()).unwrap();
        std::fs::File::create(large)
            .unwrap()
            .set_len(LARGE)
            .unwrap();

        let address = free_address().unwrap();
        let config = directory.path().join("config.toml");
        let settings = format!("[crawler]\nenabled = false\n[limits]\n{limits}");
        std::fs::write(&config, settings).unwrap();
        let mut command = Tools::new(&copy, directory.path()).command(&[
            "serve",
            "--listen",
            &address.to_string(),
        ]);
        command.arg("--config").arg(&config);
        let log = directory.path().join("log");
        let mut process = Process::start(&mut command, &log).unwrap();
        process
            .wait_until(|| TcpStream::connect(address).is_ok())
            .unwrap();
        let victim = Self {
            _directory: directory,
            address,
            process,
        };
        victim.pull();
        victim
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// A whole pull's worth of requests: the API, a manifest, and the large blob to its last byte.
    #[track_caller]
    fn pull(&self) {
        for path in ["/v2/", "/v2/debian/manifests/12"] {
            let (status, _) = self.download(path);
            assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
        }
        assert_eq!(
            self.download(LARGE_PATH),
            ("HTTP/1.1 200 OK".to_owned(), LARGE)
        );
    }

    /// The status line, and how many bytes followed the head.
    fn download(&self, path: &str) -> (String, u64) {
        let mut stream = self.connect();
        stream.write_all(request(path, "close").as_bytes()).unwrap();
        download(&mut stream)
    }

    /// Resident memory in bytes.
    fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse::<u64>().unwrap() << 10
    }

    fn descriptors(&self) -> usize {
        let open = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(open).unwrap().count()
    }

    /// Waits until as few descriptors are open as there were.
    #[track_caller]
    fn await_descriptors(&self, before: usize) {
        // A few come and go by themselves: a look at the tree, the database.
        await_until("descriptors come back", || self.descriptors() <= before + 4);
    }
}

fn request(path: &str, connection: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n")
}

fn download(stream: &mut TcpStream) -> (String, u64) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let status = String::from_utf8_lossy(&head)
        .lines()
        .next()
        .map(str::to_owned);
    let length = std::io::copy(stream, &mut std::io::sink()).unwrap();
    (status.unwrap(), length)
}

/// Links every file of a tree into a new directory, to which files may then be added.
fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&source, &target);
        } else {
            std::fs::hard_link(source, target).unwrap();
        }
    }
}

fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

#[track_caller]
fn await_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn slowloris_stops_nobody_and_is_cut_off() {
    let victim = Victim::start();
    let before = victim.descriptors();
    let mut attackers: Vec<TcpStream> = (0..500).map(|_| victim.connect()).collect();
    // Byte by byte, a head that never ends.
    for byte in b"GET /v2/ HTTP/1.1\r\nX-A: b" {
        for attacker in &mut attackers {
            // Those given up already are of no interest.
            drop(attacker.write_all(&[*byte]));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    victim.pull();
    await_until("attackers are cut off", || {
        for attacker in &mut attackers {
            drop(attacker.write_all(b"x"));
        }
        victim.pull();
        victim.descriptors() <= before + 4
    });
}

#[test]
fn ten_thousand_idle_connections_stop_nobody() {
    const IDLE: usize = 10_000;
    let victim = Victim::with("idle-time = \"1h\"\n");
    let (descriptors, memory) = (victim.descriptors(), victim.memory());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let idle = runtime.block_on(async {
        let mut idle = Vec::with_capacity(IDLE);
        for number in 0..IDLE {
            // From many addresses: ports are not what runs out.
            let socket = TcpSocket::new_v4().unwrap();
            let from = Ipv4Addr::new(127, 1, 0, u8::try_from(number % 250).unwrap() + 1);
            socket.bind((from, 0).into()).unwrap();
            let mut stream = socket.connect(victim.address).await.unwrap();
            let asked = request("/healthz", "keep-alive");
            stream.write_all(asked.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            idle.push(stream);
        }
        idle
    });
    assert!(victim.descriptors() >= IDLE, "some were not kept");
    victim.pull();
    let grown = victim.memory().saturating_sub(memory);
    assert!(grown < IDLE as u64 * (48 << 10), "{grown} bytes more");
    drop(idle);
    victim.await_descriptors(descriptors);
    victim.pull();
}

#[test]
fn clients_that_hardly_read_take_no_memory() {
    const SLOW: u64 = 300;
    let victim = Victim::start();
    let (descriptors, memory) = (victim.descriptors(), victim.memory());
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| victim.connect()).collect();
    for stream in &mut slow {
        stream
            .write_all(request(LARGE_PATH, "close").as_bytes())
            .unwrap();
    }
    for _ in 0..5 {
        for stream in &mut slow {
            stream.read_exact(&mut [0]).unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    victim.pull();
    let grown = victim.memory().saturating_sub(memory);
    assert!(grown < SLOW * (160 << 10), "{grown} bytes more");
    drop(slow);
    victim.await_descriptors(descriptors);
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let victim = Victim::start();
    let (descriptors, memory) = (victim.descriptors(), victim.memory());
    for number in 0..2000 {
        let mut stream = victim.connect();
        let asked = request(LARGE_PATH, "keep-alive").repeat(1 + number % 3);
        stream.write_all(asked.as_bytes()).unwrap();
        if number % 4 == 0 {
            drop(stream.shutdown(Shutdown::Write));
        }
    }
    victim.pull();
    victim.await_descriptors(descriptors);
    let grown = victim.memory().saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

#[test]
fn a_download_outlives_the_call_to_stop() {
    let victim = Victim::start();
    let mut stream = victim.connect();
    stream
        .write_all(request(LARGE_PATH, "close").as_bytes())
        .unwrap();
    let mut beginning = [0; 17];
    stream.read_exact(&mut beginning).unwrap();
    let id = Pid::from_raw(victim.process.id().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    await_until("nobody else is let in", || {
        TcpStream::connect(victim.address).is_err()
    });
    assert_eq!(download(&mut stream).1, LARGE);
    await_until("the front end ends", || {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", victim.process.id()));
        status.map_or(true, |status| status.contains(") Z "))
    });
}

fn answer(_: Request<Incoming>) -> Ready<Result<Response<Body>, Infallible>> {
    std::future::ready(Ok(Response::new(Body::from("hello"))))
}

/// Beyond the limit one waits, and those who wait are served when others leave.
#[test]
fn a_flood_waits_at_the_limit() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let limits = Limits {
        connections: 8,
        ..Limits::default()
    };
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let server = runtime.block_on(Server::bind(&listen, limits)).unwrap();
    let address = server.local_addresses()[0];
    let shutdown = CancellationToken::new();
    let running = runtime.spawn(server.run(|_| service_fn(answer), shutdown.clone()));
    let mut open: Vec<TcpStream> = (0..8)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
            .write_all(request("/", "keep-alive").as_bytes())
            .unwrap();
    };
    // To the last byte, so that the next answer is not taken for this one.
    let is_answered = |stream: &mut TcpStream| {
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        answer.starts_with(b"HTTP/1.1 200")
    };
    for stream in &mut open {
        ask(stream);
        assert!(is_answered(stream));
    }
    let mut flood: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for stream in &mut flood {
        ask(stream);
    }
    // Those inside go on as before, and none of the others has an answer.
    for stream in &mut open {
        ask(stream);
        assert!(is_answered(stream));
    }
    for stream in &mut flood {
        stream.set_nonblocking(true).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
    }
    drop(open);
    for mut stream in flood {
        assert!(is_answered(&mut stream));
    }
    shutdown.cancel();
    runtime.block_on(running).unwrap();
}

/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(180);
