//! Crawls of real mirrors: listings by rsync, and who is told of what.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::tree::catalog::{Blob, BlobId};
use oci_mirror::tree::{Catalog, Tree, TreePath};
use registry_proxy::config;
use registry_proxy::crawler::guard::Policy;
use registry_proxy::crawler::listing::{self, Listing};
use registry_proxy::db::{Crawl, Database, Outcome, Scope};
use registry_proxy::network::{BaseUrl, NewHost};
use registry_proxy::notify::{Notice, Notifier};
use reqwest::Method;
use serde_json::Value;
use support::peer::rsyncd::RsyncDaemon;
use support::peer::{free_address, nginx, rsyncd};
use tempfile::TempDir;

use crate::http;
use crate::network::tree;

/// A copy of the tree that can be spoilt.
struct Copy {
    directory: TempDir,
    catalog: Catalog,
}

impl Copy {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        rsyncd::sync(
            tree(),
            directory.path().join("pub/containers"),
            &["--mkpath"],
        )
        .unwrap();
        Self {
            directory,
            catalog: Catalog::load(&Tree::open(tree()).unwrap(), None).unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A daemon whose module has the tree at `containers`.
    fn daemon(&self, settings: &str) -> RsyncDaemon {
        let (address, state) = (free_address().unwrap(), self.path("rsyncd"));
        RsyncDaemon::start_with(settings, address, "pub", &self.path("pub"), &state).unwrap()
    }

    fn blobs(&self) -> Vec<(u32, &Blob)> {
        let ids = (0..).map(BlobId).take(self.catalog.blobs().len());
        ids.map(|id| (id.0, self.catalog.blob(id))).collect()
    }

    fn file(&self, blob: &Blob) -> PathBuf {
        TreePath::Blob(blob.digest).under(&self.path("pub/containers"))
    }

    fn list(&self, url: &str, limit: Duration) -> Result<Listing, listing::Error> {
        let url: BaseUrl = url.parse().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + limit;
            let program = Path::new("/usr/bin/rsync");
            listing::list(program, &url, Policy::Any, &self.catalog, deadline).await
        })
    }

    /// What a daemon that is not to be understood is held against.
    #[track_caller]
    fn refusal(&self, url: &str) -> String {
        self.list(url, PATIENCE).unwrap_err().to_string()
    }
}

/// Long enough for a machine that is compiling; it only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn numbers(blobs: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    blobs.into_iter().collect()
}

#[test]
fn a_listing_says_what_the_web_server_says() {
    let copy = Copy::new();
    let blobs = copy.blobs();
    fs::remove_file(copy.file(blobs[1].1)).unwrap();
    // A new file: the old one is also linked from a repository.
    fs::remove_file(copy.file(blobs[3].1)).unwrap();
    fs::write(copy.file(blobs[3].1), "short").unwrap();
    fs::write(copy.path("pub/containers/blobs/of somebody else\n"), "x").unwrap();
    // As sync programs leave them.
    fs::write(copy.file(blobs[0].1).with_extension("part"), "x").unwrap();

    let web = nginx::start(&copy.path("pub"), &copy.path("nginx")).unwrap();
    let (mut right, mut other) = (BTreeSet::new(), BTreeSet::new());
    for (number, blob) in &blobs {
        let path = TreePath::Blob(blob.digest);
        let url = format!("{}/containers/{path}", web.url());
        let answer = http::send(Method::HEAD, &url, &[]);
        if answer.status == 200 {
            let is_right = answer.field("content-length") == blob.size.to_string();
            let found = if is_right { &mut right } else { &mut other };
            found.insert(*number);
        }
    }
    assert_eq!(
        (right.len(), other.len()),
        (blobs.len() - 2, 1),
        "one is gone and one is short"
    );

    let daemon = copy.daemon("");
    // By name, which is looked up here and not by rsync.
    let by_name = daemon.url().replace("127.0.0.1", "localhost");
    for base in [daemon.url(), by_name] {
        let listing = copy.list(&format!("{base}/containers"), PATIENCE).unwrap();
        assert_eq!(numbers(listing.right), right);
        assert_eq!(numbers(listing.other), other);
    }
    let log = daemon.log().unwrap();
    assert!(log.contains("pub/containers/blobs/"), "{log}");
    assert!(!log.contains("send "), "nothing is transferred: {log}");
}

#[test]
fn a_daemon_that_refuses_or_has_no_tree_there_tells_nothing() {
    let copy = Copy::new();
    let daemon = copy.daemon("");
    let base = daemon.url();
    let refusal = copy.refusal(&format!("{base}/elsewhere"));
    assert!(refusal.contains("exit status: 23"), "{refusal}");
    assert!(refusal.contains("elsewhere"), "{refusal}");
    let refusal = copy.refusal(&base.replace("/pub", "/unknown"));
    assert!(refusal.contains("@ERROR: Unknown module"), "{refusal}");
    drop(daemon);
    let refusal = copy.refusal(&base);
    assert!(refusal.contains("exit status: 10"), "{refusal}");

    for (settings, said) in [
        ("hosts deny = *", "@ERROR: access denied"),
        ("max connections = -1", "@ERROR"),
        // It is not asked for at a terminal either.
        ("auth users = somebody", "@ERROR: auth failed"),
    ] {
        let daemon = copy.daemon(settings);
        let refusal = copy.refusal(&format!("{}/containers", daemon.url()));
        assert!(refusal.contains(said), "{settings}: {refusal}");
    }
}

#[test]
fn what_the_daemon_cannot_read_or_does_not_follow_is_not_taken_for_missing() {
    let copy = Copy::new();
    let (number, blob) = copy.blobs()[0];
    let daemon = copy.daemon("uid = nobody\ngid = nogroup");
    let url = format!("{}/containers", daemon.url());
    let directory = copy.file(blob).parent().unwrap().to_owned();

    let closed = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode));
    closed(0o700).unwrap();
    let refusal = copy.refusal(&url);
    assert!(refusal.contains("exit status: 23"), "{refusal}");
    closed(0o755).unwrap();
    assert!(copy.list(&url, PATIENCE).unwrap().right.contains(number));

    // A blob that is a link is there for a web server, and its length is not listed.
    let moved = copy.path("moved");
    fs::rename(copy.file(blob), &moved).unwrap();
    symlink(&moved, copy.file(blob)).unwrap();
    let listing = copy.list(&url, PATIENCE).unwrap();
    assert!(listing.other.contains(number) && !listing.right.contains(number));

    // And so is a directory of blobs on another disk.
    let disk = copy.path("disk");
    fs::rename(&directory, &disk).unwrap();
    symlink(&disk, &directory).unwrap();
    let refusal = copy.refusal(&url);
    assert!(refusal.contains("links"), "{refusal}");
}

#[test]
fn a_daemon_that_never_comes_to_an_end_is_left() {
    let copy = Copy::new();
    let endless = b"a word of welcome\n".repeat(1000);
    for (greeting, then) in [(&b""[..], &b""[..]), (b"@RSYNCD: 31.0\n", &endless)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rsync://{}/pub", listener.local_addr().unwrap());
        thread::scope(|scope| {
            let talk = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut result = stream.write_all(greeting);
                // Until rsync is gone; where there is nothing to say, until it has closed its side.
                while result.is_ok() && !then.is_empty() {
                    result = stream.write_all(then);
                }
                std::io::copy(&mut stream, &mut std::io::sink()).ok();
            });
            let result = copy.list(&url, Duration::from_secs(3));
            assert!(
                matches!(result, Err(listing::Error::TimeOver)),
                "{result:?}"
            );
            talk.join().unwrap();
        });
    }
}

#[test]
fn a_mirror_that_is_lost_and_returns_is_told_of_twice_by_command_and_webhook() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (address, posted, file) = (free_address().unwrap(), path("posted"), path("told"));
    // The body is read where it is handed on.
    let site = format!(
        "log_format body escape=none '$request_body';
         server {{
             listen {address};
             access_log \"{}\" body;
             location = /notices {{ proxy_pass http://{address}/taken; }}
             location = /taken {{ access_log off; return 204; }}
         }}",
        posted.display()
    );
    let _web = nginx::start_site(&site, address, &path("nginx")).unwrap();
    let config = config::Notify {
        command: vec![
            "tee".to_owned(),
            "-a".to_owned(),
            file.display().to_string(),
        ],
        webhook: format!("http://{address}/notices").parse().ok(),
        authorities: Vec::new(),
    };

    let mut database = Database::open(&path("mirrors.db")).unwrap();
    let host: NewHost =
        serde_json::from_str(r#"{"name": "heidelberg", "urls": ["https://m.example/t"]}"#).unwrap();
    let id = database.add_host(&host).unwrap();
    let catalog = Catalog::load(&Tree::open(tree()).unwrap(), None).unwrap();
    let failed = || Outcome::Failed("it is \u{1b}[2J silent".to_owned());
    let finished = Outcome::Finished {
        scope: Scope::Whole,
        verdicts: Vec::new(),
        evidence: Vec::new(),
    };
    let outcomes = std::iter::repeat_with(failed).take(4).chain([finished]);
    let site = "uni".parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (notifier, delivery) = Notifier::start(&config);
        for outcome in outcomes {
            let crawl = Crawl::new(Timestamp::UNIX_EPOCH, outcome);
            let recorded = database.record_crawl(id, &crawl, &catalog).unwrap();
            for notice in Notice::of(&recorded.unwrap(), &site, &[], crawl.at) {
                notifier.tell(notice);
            }
        }
        delivery.finish(Duration::from_secs(70)).await;
    });

    for told in [file, posted] {
        let text = fs::read_to_string(&told).unwrap();
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let lines = text.lines().filter(|line| !line.is_empty());
        let notices: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let events: Vec<_> = notices.iter().map(|notice| &notice["event"]).collect();
        assert_eq!(events, ["disabled", "returned"], "{}", told.display());
        assert_eq!(notices[0]["mirror"], "heidelberg");
        assert_eq!(notices[0]["site"], "uni");
        let reason = notices[0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("4 crawls in a row failed"), "{reason}");
    }
}
