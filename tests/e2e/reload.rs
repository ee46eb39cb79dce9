//! What a running front end makes of a tree and a database that change under it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::TreePath;
use rusqlite::Connection;
use serde_json::{Value, json};
use support::peer::authority::Authority;
use support::peer::{free_address, nginx, rsyncd};
use support::process::{Process, run};
use tempfile::TempDir;

use crate::network::{Tools, program};

/// Large enough to be left to a mirror.
const LAYER: usize = 100_000;

fn layer(seed: &str) -> String {
    seed.repeat(LAYER / seed.len() + 1)
}

/// A tree with one image, `app:1`, and what a front end of it needs.
struct Bench {
    directory: TempDir,
    tree: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let bench = Self { directory, tree };
        bench.export("app", "1", "first");
        bench
    }

    /// Exports an image whose one layer is made of `seed`; the digest of the layer.
    fn export(&self, name: &str, tag: &str, seed: &str) -> Digest {
        self.export_into(&self.tree, name, tag, seed)
    }

    fn export_into(&self, tree: &Path, name: &str, tag: &str, seed: &str) -> Digest {
        let layout = self.directory.path().join("layout");
        let layer = layer(seed);
        let put = |content: &[u8]| {
            let digest = Algorithm::Sha256.digest(content);
            let path = layout.join("blobs/sha256");
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(digest.hex().to_string()), content).unwrap();
            digest
        };
        let layer_digest = put(layer.as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": put(b"{}"), "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len()}],
        })
        .to_string();
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": put(manifest.as_bytes()),
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }]});
        std::fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
        let mut command = program("mirror-tool");
        command.args(["export", "--dest-name", name, "--tree"]);
        let source = format!("oci:{}:{tag}", layout.display());
        run(command.arg(tree).arg(source)).unwrap_or_else(|error| panic!("{error:#}"));
        layer_digest
    }

    fn tools(&self) -> Tools {
        Tools::new(&self.tree, self.directory.path())
    }

    fn start(&self) -> FrontEnd {
        self.start_at(free_address().unwrap())
    }

    fn start_at(&self, address: SocketAddr) -> FrontEnd {
        let config = self.directory.path().join("config.toml");
        // Everything is asked for again and again here, which is no retry.
        let settings = "[crawler]\nenabled = false\n[redirect]\nretry-window = \"0s\"\n";
        std::fs::write(&config, settings).unwrap();
        let text = address.to_string();
        let mut command = self.tools().command(&["serve", "--listen", &text]);
        let log = self.directory.path().join("front-end.log");
        let mut process = Process::start(command.arg("--config").arg(config), &log).unwrap();
        process
            .wait_until(|| TcpStream::connect(address).is_ok())
            .unwrap();
        FrontEnd { address, process }
    }
}

struct FrontEnd {
    address: SocketAddr,
    process: Process,
}

/// A whole answer: its status and its body.
type Answer = (u16, Vec<u8>);

/// Asks once; `None` if no whole answer came.
fn ask(address: SocketAddr, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(HANGS)).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let body = answer.split_off(end);
    let head = String::from_utf8(answer).ok()?.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|it| it.strip_prefix("content-length: "));
    let is_whole = length?.parse() == Ok(body.len());
    let status = head.split(' ').nth(1)?.parse().ok()?;
    is_whole.then_some((status, body))
}

impl FrontEnd {
    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        ask(self.address, path).unwrap_or_else(|| panic!("no whole answer to {path}"))
    }

    fn status(&self, path: &str) -> u16 {
        self.get(path).0
    }

    /// The digest of the layer of an image.
    fn layer(&self, name: &str, tag: &str) -> Value {
        let (_, body) = self.get(&format!("/v2/{name}/manifests/{tag}"));
        let manifest: Value = serde_json::from_slice(&body).unwrap_or_default();
        manifest["layers"][0]["digest"].clone()
    }
}

/// Only to end a hang.
const HANGS: Duration = Duration::from_secs(120);

#[track_caller]
fn wait(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < HANGS, "it did not come to pass");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Keeps asking while `events` happen. Every answer must be whole and have the status expected; returns
/// how many there were.
fn while_asked(address: SocketAddr, paths: &[(String, u16)], events: impl FnOnce()) -> usize {
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let asking: Vec<_> = paths
            .iter()
            .map(|(path, expected)| {
                let (done, answered) = (&done, &answered);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let status = ask(address, path).map(|(status, _)| status);
                        assert_eq!(status, Some(*expected), "{path}");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // The threads end whatever becomes of the events.
        let end = Raise(&done);
        events();
        drop(end);
        for thread in asking {
            thread.join().unwrap();
        }
    });
    answered.into_inner()
}

struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn blob(name: &str, digest: &Digest) -> String {
    format!("/v2/{name}/blobs/{digest}")
}

#[test]
fn reloads_lose_no_request() {
    let bench = Bench::new();
    let layer = bench.export("app", "1", "first");
    let front_end = bench.start();
    let paths = [
        ("/v2/app/manifests/1".to_owned(), 200),
        ("/v2/app/tags/list".to_owned(), 200),
        ("/v2/_catalog".to_owned(), 200),
        ("/readyz".to_owned(), 200),
        (blob("app", &layer), 200),
    ];
    let answered = while_asked(front_end.address, &paths, || {
        for turn in 0..6 {
            let name = format!("new/app{turn}");
            // A tag that moves, an image that is new, and a mirror that is.
            let moved = bench.export("moving", "1", &format!("turn {turn} "));
            bench.export(&name, "1", "second");
            let url = format!("http://127.0.0.{}:1/", turn + 10);
            bench.tools().add_mirror(&format!("m{turn}"), &url, "DE");
            wait(|| front_end.layer("moving", "1") == moved.to_string());
            wait(|| front_end.status(&format!("/v2/{name}/manifests/1")) == 200);
        }
    });
    assert!(answered > 0);
}

#[test]
fn killed_and_started_again_under_load_it_answers_as_before() {
    let bench = Bench::new();
    let layer = bench.export("app", "1", "first");
    let mut front_end = bench.start();
    let address = front_end.address;
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _end = Raise(&done);
        for path in ["/v2/app/manifests/1".to_owned(), blob("app", &layer)] {
            let (done, answered) = (&done, &answered);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // Cut off or refused while there is no server, but never anything else.
                    if let Some((status, _)) = ask(address, &path) {
                        assert_eq!(status, 200, "{path}");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for turn in 0..3 {
            let before = answered.load(Ordering::Relaxed);
            wait(|| answered.load(Ordering::Relaxed) > before + 10);
            front_end.process.kill();
            bench.export("app", "2", &format!("while it was away {turn}"));
            front_end = bench.start_at(address);
            assert_eq!(front_end.status("/v2/app/manifests/2"), 200);
        }
    });
}

#[test]
fn mirrors_are_kept_whatever_becomes_of_their_database() {
    let bench = Bench::new();
    let layer = bench.export("app", "1", "first");
    let path = |name: &str| bench.directory.path().join(name);
    rsyncd::sync(&bench.tree, path("mirror"), &[]).unwrap();
    let nginx = nginx::start(&path("mirror"), &path("nginx.state")).unwrap();
    bench.tools().add_mirror("m", &nginx.url(), "DE");
    bench.tools().crawl();
    let database = path("mirrors.db");
    let front_end = bench.start();
    assert_eq!(front_end.status(&blob("app", &layer)), 302);
    // All of it into the one file, which is to be put back later.
    let open = Connection::open(&database).unwrap();
    open.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        .unwrap();
    drop(open);
    let good = std::fs::read(&database).unwrap();
    let replace = |bytes: &[u8]| {
        std::fs::write(path("new.db"), bytes).unwrap();
        std::fs::rename(path("new.db"), &database).unwrap();
    };
    let mut corrupt = good.clone();
    for byte in &mut corrupt[4096..] {
        *byte = 0x5a;
    }
    let mut turn = 0;
    // A reload in between shows that the tree goes on, and that the mirrors were kept through it.
    let mut reload = |what: &str| {
        turn += 1;
        let moved = bench.export("moving", "1", &format!("turn {turn} "));
        wait(|| front_end.layer("moving", "1") == moved.to_string());
        assert_eq!(front_end.status(&blob("app", &layer)), 302, "{what}");
    };

    reload("nothing is wrong");
    let lock = Connection::open(&database).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    reload("it is locked");
    drop(lock);
    for (what, bytes) in [
        ("it is empty", &[][..]),
        ("it is cut short", &good[..good.len() / 2]),
        ("it is corrupt", &corrupt),
        ("it is something else", b"this is not a database"),
    ] {
        replace(bytes);
        reload(what);
    }
    std::fs::remove_file(&database).unwrap();
    reload("it is gone");
    replace(&good);
    reload("it is back");
    // The same file, while it is open.
    std::fs::write(&database, &corrupt).unwrap();
    reload("it was overwritten");

    replace(&good);
    bench.tools().run(&["mirror", "disable", "m"]);
    wait(|| front_end.status(&blob("app", &layer)) == 200);
}

#[test]
fn crawling_begins_when_the_configuration_and_its_authorities_say_so() {
    let bench = Bench::new();
    let layer = bench.export("app", "1", "first");
    let path = |name: &str| bench.directory.path().join(name);
    rsyncd::sync(&bench.tree, path("mirror"), &[]).unwrap();
    let nginx = nginx::start(&path("mirror"), &path("nginx.state")).unwrap();
    bench.tools().add_mirror("m", &nginx.url(), "DE");
    let authority = Authority::new(&path("authority")).unwrap();
    let mut front_end = bench.start();
    assert_eq!(front_end.status(&blob("app", &layer)), 200);

    let configure = |settings: &str| {
        std::fs::write(path("new.toml"), settings).unwrap();
        std::fs::rename(path("new.toml"), path("config.toml")).unwrap();
    };
    let always = "[redirect]\nretry-window = \"0s\"\n[crawler]\n";
    configure(&format!(
        "{always}authorities = [\"{}\"]\n",
        path("ca.pem").display()
    ));
    let log = path("front-end.log");
    let says = |text: &str| std::fs::read_to_string(&log).unwrap().contains(text);
    front_end
        .process
        .wait_until(|| says("crawls go on as they did"))
        .unwrap();
    assert_eq!(front_end.status(&blob("app", &layer)), 200);
    std::fs::copy(authority.certificate(), path("ca.pem")).unwrap();
    wait(|| front_end.status(&blob("app", &layer)) == 302);
    assert!(says("the configuration is up to date"));
}

#[test]
fn a_tree_that_is_away_for_a_while_costs_no_manifest() {
    let bench = Bench::new();
    let front_end = bench.start();
    let away = bench.directory.path().join("away");
    let manifest = [
        ("/v2/app/manifests/1".to_owned(), 200),
        ("/v2/app/tags/list".to_owned(), 200),
    ];
    let answered = while_asked(front_end.address, &manifest, || {
        // A copy is put back: the open directory would lead to one that was only renamed.
        rsyncd::sync(&bench.tree, &away, &[]).unwrap();
        std::fs::remove_dir_all(&bench.tree).unwrap();
        thread::sleep(Duration::from_secs(3));
        std::fs::rename(&away, &bench.tree).unwrap();
        bench.export("app", "2", "second");
        wait(|| front_end.status("/v2/app/manifests/2") == 200);
    });
    assert!(answered > 0);
}

#[test]
fn a_tree_that_is_replaced_as_a_whole_costs_no_request() {
    let bench = Bench::new();
    let layer = bench.export("app", "1", "first");
    let front_end = bench.start();
    let path = |name: &str| bench.directory.path().join(name);
    let paths = [
        ("/v2/app/manifests/1".to_owned(), 200),
        (blob("app", &layer), 200),
        (format!("/tree/{}", TreePath::Blob(layer)), 200),
    ];
    for turn in 0..3 {
        rsyncd::sync(&bench.tree, path("new"), &[]).unwrap();
        while_asked(front_end.address, &paths, || {
            exchange(&path("new"), &bench.tree);
            std::fs::remove_dir_all(path("new")).unwrap();
            let moved = bench.export("moving", "1", &format!("turn {turn} "));
            wait(|| front_end.layer("moving", "1") == moved.to_string());
        });
    }
}

/// Two directories take each other's names at once.
fn exchange(one: &Path, other: &Path) {
    let (here, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
    rustix::fs::renameat_with(here, one, here, other, flags).unwrap();
}

#[test]
fn an_index_that_comes_after_its_state_is_taken_up() {
    let bench = Bench::new();
    bench.export("moving", "1", "before");
    let front_end = bench.start();
    let ready = front_end.get("/readyz");

    // A sync in the wrong order: everything is new but the index.
    let next = bench.directory.path().join("next");
    rsyncd::sync(&bench.tree, &next, &[]).unwrap();
    let index = "repos/moving/index.json";
    let old = std::fs::read(next.join(index)).unwrap();
    let moved = bench.export_into(&next, "moving", "1", "after");
    let kept = bench.directory.path().join("kept");
    std::fs::rename(next.join(index), &kept).unwrap();
    std::fs::write(next.join(index), old).unwrap();
    exchange(&next, &bench.tree);
    wait(|| front_end.get("/readyz") != ready);
    assert_ne!(front_end.layer("moving", "1"), moved.to_string());
    std::fs::rename(kept, bench.tree.join(index)).unwrap();
    wait(|| front_end.layer("moving", "1") == moved.to_string());
}
