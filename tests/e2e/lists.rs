//! A mirror that knows a tree by its file list alone stays equal to it, through all a tree can do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use support::peer::docker_registry::DockerRegistry;
use support::peer::rsyncd::RsyncDaemon;
use support::process::run;
use tempfile::TempDir;

use crate::follower::{Follower, Outcome};
use crate::network::{program, verify};
use crate::upload::{Upload, small_image};

/// A file but for its place: bytes, time, mode, and the first of its names.
type File = (Vec<u8>, (i64, i64), u32, String);

/// All files of a tree that mirrors take.
fn files(root: &Path) -> BTreeMap<String, File> {
    let (mut pending, mut paths) = (vec![root.to_owned()], BTreeSet::new());
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                paths.insert(path);
            } else if !path.ends_with(".~tmp~") {
                pending.push(path);
            }
        }
    }
    let mut names = BTreeMap::new();
    let file = |path: PathBuf| {
        let metadata = fs::metadata(&path).unwrap();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let first = names.entry(metadata.ino()).or_insert(name.clone()).clone();
        let time = (metadata.mtime(), metadata.mtime_nsec());
        (
            name,
            (fs::read(&path).unwrap(), time, metadata.mode(), first),
        )
    };
    paths.into_iter().map(file).collect()
}

/// A source, the tree made of it, and a mirror that follows that.
struct Followed {
    directory: TempDir,
    registry: DockerRegistry,
    _rsyncd: RsyncDaemon,
    follower: Follower,
}

impl Followed {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let registry = DockerRegistry::start(&path("registry")).unwrap();
        fs::create_dir(path("tree")).unwrap();
        let rsyncd = RsyncDaemon::start("pub", &path("tree"), &path("rsyncd")).unwrap();
        let follower = Follower::of(&rsyncd.url(), "containers", &path("mirror"));
        Self {
            directory,
            registry,
            _rsyncd: rsyncd,
            follower,
        }
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn upload(&self, name: &str) -> Upload {
        Upload::to(&self.registry, name)
    }

    #[track_caller]
    fn mirror_tool(arguments: &[&str], tree: &Path) {
        let mut command = program("mirror-tool");
        run(command.args(arguments).arg("--tree").arg(tree))
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    #[track_caller]
    fn export(&self, names: &[&str]) {
        let sources = names
            .iter()
            .map(|name| format!("docker://{}", self.registry.reference(name)));
        let sources: Vec<String> = sources.collect();
        let mut arguments = vec!["export", "--plain-http", "--prune"];
        arguments.extend(sources.iter().map(String::as_str));
        Self::mirror_tool(&arguments, &self.tree());
    }

    /// Follows the tree; the mirror must then be sound and the same: what was transferred and deleted.
    #[track_caller]
    fn follow(&mut self) -> (BTreeSet<String>, BTreeSet<String>) {
        // Lists count in seconds: what was there a second ago is not new at the next run.
        thread::sleep(Duration::from_millis(1100));
        let outcome = self.follower.follow();
        let Outcome::Followed {
            transferred,
            deleted,
        } = outcome
        else {
            panic!("the list says that nothing has changed");
        };
        let mirror = self.directory.path().join("mirror");
        let (expected, found) = (files(&self.tree()), files(&mirror));
        let names = |files: &BTreeMap<String, File>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected));
        for (name, file) in &expected {
            assert!(found[name] == *file, "{name} is not the same");
        }
        run(&mut verify(&mirror)).unwrap_or_else(|error| panic!("{error:#}"));
        (transferred, deleted)
    }
}

/// Where the blob of a descriptor is.
fn blob(descriptor: &serde_json::Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap();
    let hex = digest.strip_prefix("sha256:").unwrap();
    format!("blobs/sha256/{}/{hex}", &hex[..2])
}

#[test]
fn a_mirror_that_follows_the_list_is_the_tree_after_each_run() {
    let mut followed = Followed::start();
    let app = followed.upload("app");
    let one = small_image(&app, "1", b"number one");
    let two = small_image(&app, "2", b"number two");
    followed.export(&["app"]);
    let (transferred, deleted) = followed.follow();
    assert!(transferred.contains("state.json") && transferred.contains(&blob(&one)));
    assert_eq!(deleted, BTreeSet::new());

    // A run that finds nothing new leaves nothing to follow.
    followed.export(&["app"]);
    assert_eq!(followed.follower.follow(), Outcome::Unchanged);

    // New content, and new names for old content: those count as new, so that rsync links them.
    let three = small_image(&app, "3", b"number three");
    small_image(&followed.upload("shares/app"), "1", b"number one");
    followed.export(&["app", "shares/app"]);
    let (transferred, _) = followed.follow();
    for (image, is_new) in [(&one, true), (&two, false), (&three, true)] {
        assert_eq!(
            transferred.contains(&blob(image)),
            is_new,
            "{transferred:#?}"
        );
    }

    // A tag that moves, in an index that keeps its size: only its time tells.
    let index = followed.tree().join("repos/app/index.json");
    let size = fs::metadata(&index).unwrap().size();
    let moved = small_image(&app, "2", b"number 2.0");
    followed.export(&["app", "shares/app"]);
    assert_eq!(fs::metadata(&index).unwrap().size(), size);
    let (transferred, deleted) = followed.follow();
    assert!(transferred.contains("repos/app/index.json"));
    assert_eq!(deleted, BTreeSet::new(), "it may still be pulled");

    // A tag that leaves, and a prune that also takes what the moved tag has left.
    app.delete(moved["digest"].as_str().unwrap());
    followed.export(&["app", "shares/app"]);
    followed.follow();
    Followed::mirror_tool(&["prune", "--grace", "0s"], &followed.tree());
    let (_, deleted) = followed.follow();
    for (image, is_gone) in [(&one, false), (&two, true), (&three, false), (&moved, true)] {
        assert_eq!(deleted.contains(&blob(image)), is_gone, "{deleted:#?}");
    }
}

#[test]
fn what_is_not_for_everybody_is_left_out_until_it_is() {
    let mut followed = Followed::start();
    let public = small_image(&followed.upload("app"), "1", b"public");
    let hidden = small_image(&followed.upload("hidden/app"), "1", b"hidden");
    followed.export(&["app", "hidden/app"]);
    followed.follow();

    // The daemon cannot read it any more, and the list says so.
    let (tree, manifest) = (followed.tree(), blob(&hidden));
    let is_hidden = |path: &str| path.starts_with("repos/hidden") || path == manifest;
    let set_mode = |path: &str, mode: u32| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(tree.join(path), permissions).unwrap();
    };
    let path = tree.join("fullfiletimelist-containers");
    let list = fs::read_to_string(&path).unwrap();
    let mut marked = BTreeSet::new();
    let mark = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
        [time, kind, size, path] if is_hidden(path) => {
            marked.insert(path.to_owned());
            let mark = if kind == "d" { '*' } else { '-' };
            format!("{time}\t{kind}{mark}\t{size}\t{path}\n")
        }
        _ => format!("{line}\n"),
    };
    let restricted: String = list.lines().map(mark).collect();
    for path in ["repos/hidden/app/index.json", &manifest] {
        set_mode(path, 0o600);
    }
    fs::write(&path, restricted).unwrap();
    let Outcome::Followed {
        transferred,
        deleted,
    } = followed.follower.follow()
    else {
        panic!("the list says that nothing has changed");
    };
    assert_eq!(deleted, marked);
    assert!(marked.len() > 5, "{marked:?}");
    assert!(transferred.is_disjoint(&marked), "{transferred:#?}");
    let mirror = followed.directory.path().join("mirror");
    assert!(mirror.join(blob(&public)).exists());
    assert!(!mirror.join("repos/hidden").exists());

    // Whoever lets everybody in changes each file under all of its names, and the next list says so.
    for path in &marked {
        let is_directory = tree.join(path).is_dir();
        set_mode(path, if is_directory { 0o755 } else { 0o644 });
    }
    small_image(&followed.upload("hidden/app"), "2", b"more");
    followed.export(&["app", "hidden/app"]);
    let (transferred, _) = followed.follow();
    assert!(transferred.is_superset(&marked), "{transferred:#?}");
}
