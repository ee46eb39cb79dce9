//! Mirrors of mirrors: what `mirror-tool sync` has made is followed by everything that follows a tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use support::peer::docker_registry::DockerRegistry;
use support::peer::rsyncd::{self, RsyncDaemon};
use support::peer::{free_address, web_server::WebServer};
use support::process::{Process, program as peer, run};
use tempfile::TempDir;

use crate::follower::{Follower, Outcome};
use crate::network::{export, program, verify};
use crate::site_config::{Server, site_config};
use crate::upload::{Upload, small_image};

/// What mirrors must agree on: each file with its size, its time if it came from elsewhere, and the first of its
/// names.
type Files = BTreeMap<String, (u64, i64, String)>;

const LIST: &str = "fullfiletimelist-containers";

/// The files of a tree, without what is not yet part of it.
fn files(root: &Path) -> Files {
    let (mut pending, mut found) = (vec![root.to_owned()], BTreeMap::new());
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with(".~tmp~") {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), metadata);
            }
        }
    }
    let mut first = BTreeMap::new();
    for (name, metadata) in &found {
        first.entry(metadata.ino()).or_insert_with(|| name.clone());
    }
    let facts = |name: &str, metadata: &fs::Metadata| {
        // These are written on the spot, or have no time in the list.
        let is_own = name.ends_with("/oci-layout")
            || ["state.json", "DIRECTORY_SIZES.txt", LIST].contains(&name);
        let time = if is_own { 0 } else { metadata.mtime() };
        (metadata.len(), time, first[&metadata.ino()].clone())
    };
    found
        .iter()
        .map(|(name, metadata)| (name.clone(), facts(name, metadata)))
        .collect()
}

/// The files of a tree that makes its list, with the times the list gives: of the last link, not of the content.
fn listed(root: &Path) -> Files {
    let mut files = files(root);
    let list = fs::read_to_string(root.join(LIST)).unwrap();
    for line in list.lines() {
        let [time, "f", _size, name] = line.split('\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        match files.get_mut(name) {
            Some((_, own, _)) if *own != 0 => *own = time.parse().unwrap(),
            _ => {}
        }
    }
    files
}

/// Fails with what is not the same.
#[track_caller]
fn are_same(found: &Files, expected: &Files) {
    let differing: Vec<_> = found
        .keys()
        .chain(expected.keys())
        .filter(|name| found.get(*name) != expected.get(*name))
        .map(|name| (name, found.get(name), expected.get(name)))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

/// A tree that others follow.
struct Source {
    directory: TempDir,
    registry: DockerRegistry,
}

impl Source {
    /// Five repositories that share what they consist of.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        let source = Self {
            directory,
            registry,
        };
        for name in Self::NAMES {
            for tag in ["1", "2", "3"] {
                source.image(name, tag, tag);
            }
        }
        // What is linked a second later has another time in the list than its content.
        source.export(&Self::NAMES[..1]);
        let_a_second_pass();
        source.export(&Self::NAMES);
        source
    }

    const NAMES: [&str; 5] = ["app", "shares/app", "shares/a", "shares/b", "shares/c"];

    fn image(&self, name: &str, tag: &str, content: &str) {
        small_image(&Upload::to(&self.registry, name), tag, content.as_bytes());
    }

    #[track_caller]
    fn export(&self, names: &[&str]) {
        let reference = |name: &&str| format!("docker://{}", self.registry.reference(name));
        let sources: Vec<String> = names.iter().map(reference).collect();
        export(&self.tree(), &sources);
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("containers")
    }
}

/// A directory of a mirror, in which its tree has the name its list has.
struct Mirror(TempDir);

impl Mirror {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("containers")
    }

    /// Follows a tree; the mirror must then be sound.
    #[track_caller]
    fn sync(&self, from: &str, more: &[&str]) {
        let mut command = program("mirror-tool");
        command
            .args(["sync", "--from", from, "--tree"])
            .arg(self.tree())
            .args(more);
        run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
        self.is_sound();
    }

    #[track_caller]
    fn is_sound(&self) {
        run(&mut verify(&self.tree())).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// A daemon with the modules that are printed for a tree, beside one of nothing.
#[track_caller]
fn daemon(tree: &Path) -> (RsyncDaemon, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    let printed = site_config("rsyncd", tree, &[]);
    open_to_all(tree.parent().unwrap());
    let settings = format!("lock file = {}\n{printed}", path("lock").display());
    let address = free_address().unwrap();
    let daemon =
        RsyncDaemon::start_with(&settings, address, "other", &path("empty"), &path("state"));
    (daemon.unwrap(), directory)
}

/// Temporary directories start out closed, and a daemon gives up root.
fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

fn module(daemon: &RsyncDaemon, name: &str) -> String {
    format!("rsync://{}/{name}", daemon.address())
}

fn nginx(mirror: &Mirror) -> WebServer {
    let printed = site_config("nginx", &mirror.tree(), &[]);
    Server::Nginx.start(&printed, &mirror.0.path().join("nginx"))
}

/// Lists count in seconds: what was there a second ago is not new at the next run.
fn let_a_second_pass() {
    thread::sleep(Duration::from_millis(1100));
}

#[test]
fn tiers_of_mirrors_have_what_the_first_tree_has() {
    let source = Source::new();
    let (first, _state) = daemon(&source.tree());
    // The first tier follows by rsync, the second over HTTP.
    let (tier1, tier2) = (Mirror::new(), Mirror::new());
    let sync = |more: &[&str]| {
        tier1.sync(&module(&first, "containers"), more);
        let web = nginx(&tier1);
        tier2.sync(&web.url(), more);
    };
    sync(&[]);
    // Everything else follows the last of them.
    let (last, _state) = daemon(&tier2.tree());
    let (quick, plain) = (Mirror::new(), Mirror::new());
    let mut follower = Follower::of(
        &module(&last, "above/containers"),
        "containers",
        &quick.tree(),
    );
    let mut follow = || {
        let_a_second_pass();
        let Outcome::Followed { deleted, .. } = follower.follow() else {
            panic!("the list says that nothing has changed");
        };
        quick.is_sound();
        deleted
    };
    let copy = || {
        let from = module(&last, "containers");
        rsyncd::sync(from, plain.tree(), &["--delay-updates", "--mkpath"]).unwrap();
    };
    copy();
    plain.is_sound();
    follow();
    let expected = listed(&source.tree());
    assert!(
        fs::metadata(blob_of(&source.tree(), "app"))
            .unwrap()
            .nlink()
            > 5
    );
    // rsync brings the time of the content; over HTTP there is but the time in the list.
    are_same(&files(&tier1.tree()), &files(&source.tree()));
    for mirror in [&tier2, &quick, &plain] {
        are_same(&files(&mirror.tree()), &expected);
    }

    // A tag moves, and what it stood for goes: at once where it is made, in a day at those who follow.
    let_a_second_pass();
    let old = files(&source.tree());
    for name in Source::NAMES {
        source.image(name, "2", "two");
    }
    source.export(&Source::NAMES);
    let mut prune = program("mirror-tool");
    run(prune
        .args(["prune", "--grace", "0s", "--tree"])
        .arg(source.tree()))
    .unwrap();
    sync(&[]);
    let expected = files(&source.tree());
    let gone: BTreeSet<&String> = old
        .keys()
        .filter(|name| !expected.contains_key(*name))
        .collect();
    assert!(gone.len() >= 3, "{gone:?}");
    for mirror in [&tier1, &tier2] {
        let mut kept = files(&mirror.tree());
        for name in &gone {
            assert!(kept.remove(*name).is_some(), "{name} is gone already");
        }
        assert_eq!(names_and_sizes(&kept), names_and_sizes(&expected));
        let state = |tree: &Path| fs::read(tree.join("state.json")).unwrap();
        assert_eq!(
            state(&mirror.tree()),
            state(&source.tree()),
            "the same tree has the same state"
        );
    }
    let deleted = follow();
    for name in &gone {
        assert!(deleted.contains(*name), "{name} is listed");
    }
    let same = |mirror: &Mirror| {
        assert_eq!(
            names_and_sizes(&files(&mirror.tree())),
            names_and_sizes(&expected)
        );
    };
    same(&quick);
    // Plain rsync does not read the list: it takes what is kept too, until that goes.
    copy();
    let kept = files(&plain.tree());
    assert!(expected.keys().all(|name| kept.contains_key(name)));
    sync(&["--grace", "0s"]);
    copy();
    plain.is_sound();
    for mirror in [&tier1, &tier2, &plain] {
        same(mirror);
    }
}

fn names_and_sizes(files: &Files) -> BTreeMap<&String, u64> {
    files
        .iter()
        .map(|(name, (size, ..))| (name, *size))
        .collect()
}

/// Where the first manifest of a repository is.
fn blob_of(tree: &Path, name: &str) -> PathBuf {
    let index = fs::read(tree.join("repos").join(name).join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let hex = index["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "");
    tree.join(format!("blobs/sha256/{}/{hex}", &hex[..2]))
}

#[test]
fn a_plain_rsync_that_was_killed_shows_nothing_unfinished_and_ends_well() {
    let source = Source::new();
    source.image("app", "large", &"large".repeat(2_000_000));
    source.export(&Source::NAMES);
    let (first, _state) = daemon(&source.tree());
    let mirror = Mirror::new();
    let mut slow = peer("rsync").unwrap();
    slow.args(["-aH", "--delay-updates", "--delete-delay", "--bwlimit=2m"]);
    slow.arg(module(&first, "containers/")).arg(mirror.tree());
    let log = mirror.0.path().join("rsync.log");
    let mut process = Process::start(&mut slow, &log).unwrap();
    let began = Instant::now();
    while unfinished(&mirror.tree()).is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{}",
            process.log().unwrap()
        );
        thread::sleep(Duration::from_millis(20));
    }
    process.kill();
    let left = unfinished(&mirror.tree());
    assert!(!left.is_empty());
    let web = nginx(&mirror);
    for path in &left {
        let answer = crate::http::get(&format!("{}/{path}", web.url()), &[]);
        assert_eq!(answer.status.as_u16(), 404, "{path}");
    }

    rsyncd::sync(
        module(&first, "containers"),
        mirror.tree(),
        &["--delay-updates"],
    )
    .unwrap();
    mirror.is_sound();
    are_same(&files(&mirror.tree()), &files(&source.tree()));
    assert_eq!(unfinished(&mirror.tree()), Vec::<String>::new());
}

/// What lies in directories of rsync's for what it has not finished.
fn unfinished(root: &Path) -> Vec<String> {
    let (mut pending, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(directory) = pending.pop() {
        // They come and go.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path
                .parent()
                .is_some_and(|parent| parent.ends_with(".~tmp~"))
            {
                found.push(
                    path.strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    found
}
