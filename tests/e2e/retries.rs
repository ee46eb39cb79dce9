//! Real clients that come back after a mirror has failed them.
//!
//! The mirror that is best for them was verified by a crawl and fails afterwards, each time in another way.
//! Docker and containerd come back to the front end, in the same pull or in the next; podman and skopeo do
//! not, so where they are named their bytes go through it.

mod relayed;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use support::layers::content;
use support::peer::containerd::Containerd;
use support::peer::docker_registry::DockerRegistry;
use support::peer::dockerd::Dockerd;
use support::peer::nginx;
use support::peer::rsyncd;
use support::peer::web_server::WebServer;
use support::process::run;
use tempfile::TempDir;

use crate::held_line::HeldLine;
use crate::http::Answer;
use crate::network::{AUSTRALIAN, FrontEnd, Tools, export, wait};
use crate::upload::{Upload, small_image};

/// One layer, of which much is under way when a mirror fails.
const IMAGE: &str = "app:1";
const NAME: &str = "app";
const TAG: &str = "1";

const RETRIES: &str = "[redirect]\nretry-window = \"2m\"\n";

/// A front end with two mirrors, of which the best for everybody here is about to fail.
struct Site {
    front_end: FrontEnd,
    failing: Option<WebServer>,
    line: HeldLine,
    well: WebServer,
    directory: TempDir,
}

/// What becomes of the best mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The files are gone.
    Missing,
    /// It answers 503.
    Unavailable,
    /// Connections end after a MiB.
    Cut,
    /// Nobody listens.
    Refused,
    /// A byte in the middle of each blob is another one.
    Corrupt,
    /// The second half of each blob is missing.
    Short,
}

/// A tree of one image that a client has soon unpacked: these tests pull dozens of times. Not to be written to.
fn tree() -> &'static Path {
    static TREE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, tree) = TREE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        let content: Vec<u8> = (0..).flat_map(content).take(8 << 20).collect();
        small_image(&Upload::to(&registry, NAME), TAG, &content);
        let tree = directory.path().join("tree");
        export(&tree, &[format!("docker://{}", registry.reference(NAME))]);
        (directory, tree)
    });
    tree
}

impl Site {
    fn start(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for copy in ["tree", "failing", "well"] {
            rsyncd::sync(tree(), path(copy), &[]).unwrap();
        }
        let failing = nginx::start(&path("failing"), &path("failing.state")).unwrap();
        let well = nginx::start(&path("well"), &path("well.state")).unwrap();
        let line = HeldLine::open(&failing.address().to_string());
        let tools = Tools::new(&path("tree"), directory.path());
        let url = format!("http://{}", line.address());
        tools.run(&[
            "mirror",
            "add",
            "failing",
            "--url",
            &url,
            "--netblock",
            "127.0.0.0/8",
        ]);
        tools.add_mirror("well", &well.url(), "AU");
        tools.crawl();
        Self {
            front_end: FrontEnd::with(settings, tools),
            failing: Some(failing),
            line,
            well,
            directory,
        }
    }

    fn fail(&mut self, fault: Fault) {
        let root = self.directory.path().join("failing");
        match fault {
            Fault::Missing => fs::remove_dir_all(root.join("blobs")).unwrap(),
            Fault::Corrupt => each_blob(&root, |path| {
                let mut bytes = fs::read(path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).unwrap();
            }),
            Fault::Short => each_blob(&root, |path| {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }),
            Fault::Cut => self.line.cut_after(1 << 20),
            Fault::Refused => drop(self.failing.take()),
            Fault::Unavailable => {
                let address = self.failing.take().unwrap().address();
                let state = self.directory.path().join("failing.state");
                let site = format!("server {{ listen {address}; return 503; }}");
                self.failing = Some(nginx::start_site(&site, address, &state).unwrap());
            }
        }
    }

    /// Asks for the largest layer; the answer, and the host it leads to.
    fn ask(&self, fields: &[(&'static str, &str)]) -> (Answer, Goes) {
        let (layer, _) = self.front_end.largest_layer(NAME, TAG);
        self.ask_for(&layer, fields)
    }

    fn ask_for(&self, path: &str, fields: &[(&'static str, &str)]) -> (Answer, Goes) {
        let answer = self.front_end.get(path, fields);
        let location = answer.field("location");
        let goes = if location.is_empty() {
            Goes::Here
        } else if location.starts_with(&self.well.url()) {
            Goes::Well
        } else {
            assert!(location.contains(&self.line.address().to_string()));
            Goes::Failing
        };
        (answer, goes)
    }

    fn goes(&self, fields: &[(&'static str, &str)]) -> Goes {
        self.ask(fields).1
    }

    /// The value of a line of the metrics.
    fn metric(&self, line: &str) -> u64 {
        let metrics = self.front_end.get("/metrics", &[]).text();
        let value = metrics.lines().find_map(|it| it.strip_prefix(line));
        let value = value.unwrap_or_else(|| panic!("no {line} in {metrics}"));
        value.trim().parse().unwrap()
    }
}

/// Where a client is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    Failing,
    Well,
    Here,
}

fn each_blob(root: &Path, change: impl Fn(&Path)) {
    let folders = fs::read_dir(root.join("blobs/sha256")).unwrap();
    for folder in folders {
        for blob in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path: PathBuf = blob.unwrap().path();
            // Files are linked in other places of a tree: what is changed is a copy.
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            change(&path);
        }
    }
}

/// Lets `pull` try as often as it may; it must not succeed sooner, or the mirror has not failed it.
#[track_caller]
fn survives(site: &Site, fault: Fault, pulls: usize, pull: impl Fn() -> anyhow::Result<()>) {
    for _ in 1..pulls {
        assert!(pull().is_err(), "{fault:?} has gone unnoticed");
    }
    pull().unwrap_or_else(|error| panic!("{fault:?}: {error:#}"));
    assert!(site.metric("registry_proxy_retries_total{answer=\"mirror\"} ") > 0);
    assert!(site.metric("registry_proxy_suspects_total ") > 0);
}

#[test]
fn docker_survives_in_one_pull_what_it_notices_and_else_in_the_next() {
    for (fault, pulls) in [
        (Fault::Missing, 1),
        (Fault::Unavailable, 1),
        (Fault::Cut, 1),
        (Fault::Refused, 1),
        (Fault::Corrupt, 2),
        (Fault::Short, 2),
    ] {
        let mut site = Site::start(RETRIES);
        let docker = Dockerd::start(&site.directory.path().join("docker")).unwrap();
        site.fail(fault);
        let reference = site.front_end.reference(IMAGE);
        survives(&site, fault, pulls, || docker.pull(&reference).map(drop));
    }
}

/// Whether a transfer is under way, or was and is kept.
fn is_loading(containerd: &Containerd) -> bool {
    let mut client = containerd.client().unwrap();
    let active = run(client.args(["content", "active"])).unwrap().stdout;
    active.contains("layer-")
}

#[test]
fn containerd_survives_a_cut_in_one_pull_and_all_else_in_the_next() {
    for (fault, pulls) in [
        (Fault::Cut, 1),
        (Fault::Missing, 2),
        (Fault::Unavailable, 2),
        (Fault::Refused, 2),
        (Fault::Corrupt, 2),
        (Fault::Short, 2),
    ] {
        let mut site = Site::start(RETRIES);
        let containerd = Containerd::start(&site.directory.path().join("containerd")).unwrap();
        site.fail(fault);
        let reference = site.front_end.reference(IMAGE);
        survives(&site, fault, pulls, || {
            // It goes on with the wrong bytes, and asks nobody, until it has cleaned up behind the last pull.
            wait(|| !is_loading(&containerd));
            containerd.pull(&reference).map(drop)
        });
    }
}

#[test]
fn the_third_request_gets_the_bytes_from_here_and_the_fourth_is_somebody_else() {
    let site = Site::start(RETRIES);
    assert_eq!(site.goes(&[]), Goes::Failing);
    let (answer, goes) = site.ask(&[]);
    assert_eq!(goes, Goes::Well);
    let links: Vec<_> = answer.headers.get_all("link").iter().collect();
    assert!(
        links[0]
            .to_str()
            .unwrap()
            .starts_with(&format!("<{}/", site.well.url()))
    );
    assert!(
        links[1]
            .to_str()
            .unwrap()
            .contains(&site.line.address().to_string())
    );
    let (answer, goes) = site.ask(&[]);
    let (_, length) = site.front_end.largest_layer(NAME, TAG);
    assert_eq!((goes, answer.body.len() as u64), (Goes::Here, length));
    // Both mirrors have failed this network by now, so the better one is tried again.
    assert_eq!(site.goes(&[]), Goes::Failing);
    assert_eq!(
        site.metric("registry_proxy_retries_total{answer=\"mirror\"} "),
        1
    );
    assert_eq!(
        site.metric("registry_proxy_retries_total{answer=\"origin\"} "),
        1
    );
    assert_eq!(site.metric("registry_proxy_suspects_total "), 2);
}

#[test]
fn a_resumed_range_gets_another_mirror_even_if_nothing_is_remembered() {
    let site = Site::start(RETRIES);
    let rest = [("range", "bytes=1000000-")];
    assert_eq!(site.goes(&rest), Goes::Well);
    let (answer, goes) = site.ask(&rest);
    assert_eq!((goes, answer.status.as_u16()), (Goes::Here, 206));
    assert!(answer.field("content-range").starts_with("bytes 1000000-"));
    let other = [("x-forwarded-for", "198.51.100.7")];
    let (first, second) = (site.goes(&other), site.goes(&[other[0], rest[0]]));
    assert_ne!(first, second);
    assert_ne!(second, Goes::Here);
}

#[test]
fn chunks_that_are_fetched_beside_each_other_are_no_retries_but_the_rest_of_one_is() {
    let site = Site::start(RETRIES);
    let chunk = |range| [("user-agent", "containerd/v2.1.4"), ("range", range)];
    for range in [
        "bytes=0-",
        "bytes=524288-",
        "bytes=262144-",
        "bytes=786432-",
        "bytes=1048576-",
    ] {
        assert_eq!(site.goes(&chunk(range)), Goes::Failing, "{range}");
    }
    assert_eq!(site.metric("registry_proxy_suspects_total "), 0);
    // What it has when the mirror is gone; from there on in chunks again.
    for range in ["bytes=300001-", "bytes=824289-", "bytes=562145-"] {
        let (answer, goes) = site.ask(&chunk(range));
        assert_eq!(goes, Goes::Well, "{range} {:?}", answer.status);
    }
    assert_eq!(site.metric("registry_proxy_suspects_total "), 1);
    assert_eq!(
        site.metric("registry_proxy_retries_total{answer=\"mirror\"} "),
        1
    );
    // A mirror that refuses a chunk is asked for the very same.
    assert_eq!(site.goes(&chunk("bytes=562145-")), Goes::Here);
}

#[test]
fn what_the_tree_has_lost_is_asked_of_one_mirror_after_the_other() {
    let site = Site::start(RETRIES);
    let (layer, _) = site.front_end.largest_layer(NAME, TAG);
    let path = format!("/v2/{NAME}/manifests/{TAG}");
    let image = site.front_end.get(&path, &[]).json();
    let config = image["config"]["digest"].as_str().unwrap();
    let config = format!("/v2/{NAME}/blobs/{config}");
    assert_eq!(site.ask_for(&config, &[]).1, Goes::Here, "it is small");
    fs::remove_dir_all(site.directory.path().join("tree/blobs")).unwrap();
    let goes = |path: &str, fields: &[_]| site.ask_for(path, fields).1;
    for expected in [Goes::Failing, Goes::Well, Goes::Failing] {
        assert_eq!(goes(&config, &[]), expected);
    }
    let other = [("x-forwarded-for", "198.51.100.7")];
    let parts = |range| [other[0], ("range", range)];
    let (some, more) = (parts("bytes=1-2,5-6"), parts("bytes=11-12,15-16"));
    let first = goes(&layer, &some);
    assert_ne!(first, Goes::Here);
    assert_eq!(goes(&layer, &more), first);
    let second = goes(&layer, &some);
    assert!(second != first && second != Goes::Here);
    assert_eq!(goes(&layer, &parts("bytes=21-22,25-26")), second);
}

#[test]
fn what_is_no_second_request_for_the_whole_is_no_retry() {
    let site = Site::start(RETRIES);
    let path = site.front_end.largest_layer(NAME, TAG).0;
    let etag = format!("\"{}\"", path.rsplit('/').next().unwrap());
    for _ in 0..3 {
        assert_eq!(site.goes(&[("range", "bytes=0-99")]), Goes::Failing);
        assert_eq!(site.goes(&[("range", "bytes=-99")]), Goes::Failing);
        assert_eq!(site.goes(&[("range", "bytes=1-2,5-6")]), Goes::Here);
        let known = site.front_end.get(&path, &[("if-none-match", &etag)]);
        assert_eq!(known.status.as_u16(), 304);
        let metalink = [("accept", "application/metalink4+xml")];
        assert!(
            site.front_end
                .get(&path, &metalink)
                .text()
                .contains("<metalink")
        );
    }
    // A range of other content is a request for the whole.
    let other = [("range", "bytes=5-"), ("if-range", "\"other\"")];
    assert_eq!(site.goes(&other), Goes::Failing);
    assert_eq!(site.goes(&other), Goes::Well);
    // Where the client was failed, it is not sent for parts either.
    assert_eq!(site.goes(&[("range", "bytes=0-99")]), Goes::Well);
}

#[test]
fn another_network_is_not_affected() {
    let site = Site::start(RETRIES);
    let other = [("x-forwarded-for", AUSTRALIAN)];
    let neighbour = [("x-forwarded-for", "127.0.0.200")];
    assert_eq!(site.goes(&[]), Goes::Failing);
    assert_eq!(site.goes(&neighbour), Goes::Well);
    assert_eq!(site.goes(&other), Goes::Well, "which is in Australia");
    assert_eq!(site.goes(&other), Goes::Failing);
    assert_eq!(site.goes(&[]), Goes::Here);
}

#[test]
fn off_means_off() {
    let site = Site::start("[redirect]\nretry-window = \"0s\"\n");
    for _ in 0..5 {
        assert_eq!(site.goes(&[]), Goes::Failing);
        assert_eq!(site.goes(&[("range", "bytes=1000000-")]), Goes::Failing);
    }
    assert_eq!(site.metric("registry_proxy_suspects_total "), 0);
}
