//! A front end for those who mean it harm: what it serves meanwhile, and what it takes for that.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::peer::free_address;
use support::process::Process;
use tempfile::TempDir;

use crate::network::{Tools, tree};

/// A front end with one blob that is larger than all buffers on the way.
pub(crate) struct Victim {
    _directory: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

/// Zeros: what they are does not matter here, and they take no space.
pub(crate) const LARGE: u64 = 256 << 20;
pub(crate) const LARGE_PATH: &str =
    "/tree/blobs/sha256/00/0000000000000000000000000000000000000000000000000000000000000000";

impl Victim {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// A front end whose configuration has these limits.
    pub(crate) fn with(limits: &str) -> Self {
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

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// A whole pull's worth of requests: the API, a manifest, and the large blob to its last byte.
    #[track_caller]
    pub(crate) fn pull(&self) {
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
    pub(crate) fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse::<u64>().unwrap() << 10
    }

    pub(crate) fn descriptors(&self) -> usize {
        let open = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(open).unwrap().count()
    }

    /// Waits until as few descriptors are open as there were.
    #[track_caller]
    pub(crate) fn await_descriptors(&self, before: usize) {
        // A few come and go by themselves: a look at the tree, the database.
        await_until("descriptors come back", || self.descriptors() <= before + 4);
    }
}

pub(crate) fn request(path: &str, connection: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n")
}

pub(crate) fn download(stream: &mut TcpStream) -> (String, u64) {
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
pub(crate) fn await_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Only to end a test that hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);
