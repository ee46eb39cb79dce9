//! The file list and the sizes of a tree, from writing them to checking them, on file systems that
//! refuse links and renames.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use mirror_tool::verify;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::manifest::Manifest;
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::list::{Entry, FileList, Kind};
use oci_mirror::tree::writer::{DIRTY, Image, TEMPORARY};
use oci_mirror::tree::{Tree, TreePath, TreeWriter};

const LIST: &str = "fullfiletimelist-containers";

/// Stages and publishes an image of one layer, and returns the digest of that.
fn publish(writer: &TreeWriter, repo: &str, tag: &str, layer: &[u8]) -> Digest {
    let put = |bytes: &[u8]| {
        let digest = Algorithm::Sha256.digest(bytes);
        if writer.holds(&digest).unwrap() != Some(bytes.len() as u64) {
            writer.stage_bytes(digest, bytes).unwrap();
        }
        digest
    };
    let (config, layer_digest) = (put(b"{}"), put(layer));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
        MediaType::OCI_MANIFEST,
        "application/vnd.oci.image.config.v1+json",
        layer.len()
    );
    Manifest::parse(manifest.clone().into_bytes().into(), None).unwrap();
    let digest = put(manifest.as_bytes());
    let image = Image {
        repo: repo.parse().unwrap(),
        tag: Some(tag.parse().unwrap()),
        root: Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64),
        reach: vec![config, layer_digest, digest],
        tag_referrers: None,
    };
    writer.publish(&[image]).unwrap();
    layer_digest
}

fn finish(writer: &TreeWriter) -> bool {
    writer.finish(Timestamp::UNIX_EPOCH).unwrap()
}

fn list(root: &Path) -> FileList {
    FileList::read(&fs::read(root.join(LIST)).unwrap()[..]).unwrap()
}

fn entry(root: &Path, path: &str) -> Entry {
    let list = list(root);
    let found = list
        .entries
        .iter()
        .find(|entry| entry.path.as_str() == path);
    found.unwrap_or_else(|| panic!("no {path}")).clone()
}

#[track_caller]
fn assert_sound(root: &Path) {
    let report = verify::run(root).unwrap();
    assert_eq!(report.damage, [], "{report}");
}

/// All there is below `root`, by path.
fn files(root: &Path) -> BTreeMap<String, Metadata> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            let path = path.strip_prefix(root).unwrap();
            found.insert(path.to_str().unwrap().to_owned(), metadata);
        }
    }
    found
}

/// What an untouched tree keeps: all inodes and times, but those of the temporary directory.
fn stamps(root: &Path) -> Vec<(String, u64, i64, i64, i64, i64)> {
    files(root)
        .into_iter()
        .filter(|(path, _)| !path.starts_with(TEMPORARY))
        .map(|(path, m)| {
            (
                path,
                m.ino(),
                m.mtime(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
            )
        })
        .collect()
}

fn mark_dirty(root: &Path) {
    fs::write(root.join(TEMPORARY).join(DIRTY), "").unwrap();
}

#[test]
fn the_list_has_every_file_and_directory_with_its_later_time() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let writer = TreeWriter::open(root).unwrap();
    let large = vec![7; (1 << 20) + 1];
    publish(&writer, "a", "1", &large);
    publish(&writer, "a-b/c", "1", b"small");
    fs::create_dir_all(root.join("blobs").join(TEMPORARY)).unwrap();
    fs::write(root.join("README"), "made by hand").unwrap();
    fs::write(root.join("zz"), "sorts last").unwrap();
    std::os::unix::fs::symlink("README", root.join("link")).unwrap();
    assert!(finish(&writer));

    let list = list(root);
    assert!(
        list.entries
            .is_sorted_by(|one, other| one.path < other.path)
    );
    let mut there = files(root);
    there.retain(|path, metadata| {
        !path.contains(TEMPORARY) && path != LIST && !metadata.is_symlink()
    });
    let listed: Vec<_> = list
        .entries
        .iter()
        .map(|entry| entry.path.as_str())
        .collect();
    assert_eq!(listed, there.keys().collect::<Vec<_>>());
    for entry in &list.entries {
        let metadata = &there[entry.path.as_str()];
        let is_directory = entry.kind == Kind::Directory;
        assert_eq!(
            (entry.size, is_directory),
            (metadata.size(), metadata.is_dir()),
            "{entry}"
        );
        // These two get their names when the list is made already.
        let time = metadata.mtime().max(metadata.ctime());
        match entry.path.as_str() {
            "state.json" | "DIRECTORY_SIZES.txt" => {
                assert!((time - 2..=time).contains(&entry.time), "{entry} {time}");
            }
            _ => assert_eq!(entry.time, time, "{entry}"),
        }
    }
    let sums: Vec<_> = list.sums.iter().map(|(path, _)| path.as_str()).collect();
    let pieces = TreePath::Pieces(Algorithm::Sha256.digest(&large)).to_string();
    assert_eq!(
        sums,
        [
            "DIRECTORY_SIZES.txt",
            &pieces,
            "repos/a-b/c/index.json",
            "repos/a-b/c/oci-layout",
            "repos/a/index.json",
            "repos/a/oci-layout"
        ]
    );
    for (path, sum) in &list.sums {
        let bytes = fs::read(root.join(path.as_str())).unwrap();
        assert_eq!(
            Algorithm::Sha256.digest(&bytes),
            Digest::Sha256(*sum),
            "{path}"
        );
    }
    let state = writer.tree().state().unwrap();
    let named = state.list.unwrap();
    let bytes = fs::read(root.join(LIST)).unwrap();
    assert_eq!(named.digest, Algorithm::Sha256.digest(&bytes));
    assert_eq!(named.module.to_string(), "containers");
    let sizes = fs::read_to_string(root.join("DIRECTORY_SIZES.txt")).unwrap();
    assert!(sizes.contains("\trepos/a-b/c\n"), "{sizes}");
}

#[test]
fn state_json_is_the_last_file_of_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish(&writer, "a", "1", b"one");
    finish(&writer);
    let last = list(dir.path()).entries.pop().unwrap();
    assert_eq!(last.path.as_str(), "state.json");
    assert_sound(dir.path());
}

#[test]
fn a_finish_with_nothing_to_say_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let writer = TreeWriter::open(root).unwrap();
    publish(&writer, "a", "1", &vec![1; 3 << 20]);
    assert!(finish(&writer));
    let before = stamps(root);
    publish(&writer, "a", "1", &vec![1; 3 << 20]);
    assert!(!writer.finish(Timestamp::now()).unwrap());
    // As after a crash between the new state and the end of the mark.
    mark_dirty(root);
    drop(writer);
    let writer = TreeWriter::open(root).unwrap();
    assert!(!writer.finish(Timestamp::now()).unwrap());
    assert_eq!(stamps(root), before);
    assert!(!root.join(TEMPORARY).join(DIRTY).exists());
}

#[test]
fn a_new_name_for_old_content_is_noted_before_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish(&writer, "a", "1", b"one");
    finish(&writer);
    publish(&writer, "b", "1", b"one");
    assert!(dir.path().join(TEMPORARY).join(DIRTY).exists());
    assert!(finish(&writer));
    assert_sound(dir.path());
}

#[test]
fn a_tree_of_an_older_version_gets_its_list() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let writer = TreeWriter::open(root).unwrap();
    publish(&writer, "a", "1", b"one");
    finish(&writer);
    let mut state = writer.tree().state().unwrap();
    state.list = None;
    fs::write(root.join("state.json"), state.to_bytes()).unwrap();
    fs::remove_file(root.join(LIST)).unwrap();
    fs::remove_file(root.join("DIRECTORY_SIZES.txt")).unwrap();
    assert_sound(root);
    assert!(finish(&writer));
    assert_eq!(writer.tree().state().unwrap().serial, 2);
    assert_sound(root);
    assert!(!finish(&writer));
}

#[test]
fn an_index_that_changed_is_never_older_than_its_list() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let writer = TreeWriter::open(root).unwrap();
    publish(&writer, "a", "1", b"one");
    publish(&writer, "b", "1", b"one");
    finish(&writer);
    let before = (
        entry(root, "repos/a/index.json"),
        entry(root, "repos/b/index.json"),
    );
    publish(&writer, "a", "1", b"two");
    // Mirrors that run now see neither the old list changed nor, later, what is older than their run.
    std::thread::sleep(Duration::from_millis(2100));
    assert!(finish(&writer));
    let made = fs::metadata(root.join(LIST)).unwrap().mtime();
    let after = (
        entry(root, "repos/a/index.json"),
        entry(root, "repos/b/index.json"),
    );
    assert_eq!(before.0.size, after.0.size);
    assert!(after.0.time >= made - 1, "{} {made}", after.0);
    assert_eq!(before.1, after.1);
    assert_sound(root);
}

#[test]
fn a_list_written_by_hand_is_damage_until_it_is_written_anew() {
    type Edit = fn(&Path);
    let append: Edit = |path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(b"# by hand\n").unwrap();
    };
    let remove: Edit = |path| fs::remove_file(path).unwrap();
    let empty: Edit = |path| fs::write(path, "").unwrap();
    for name in [LIST, "DIRECTORY_SIZES.txt"] {
        for edit in [append, remove, empty] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            let writer = TreeWriter::open(root).unwrap();
            publish(&writer, "a", "1", b"one");
            finish(&writer);
            edit(&root.join(name));
            let report = verify::run(root).unwrap();
            assert!(!report.damage.is_empty());
            for damage in &report.damage {
                assert_eq!(damage.path, name);
                assert!(damage.problem.contains("writes it anew"), "{damage}");
            }
            writer.mark_stale().unwrap();
            assert!(finish(&writer));
            assert_sound(root);
        }
    }
}

#[test]
fn a_tree_that_is_not_as_its_list_says_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let writer = TreeWriter::open(root).unwrap();
    publish(&writer, "a", "1", b"one");
    fs::create_dir(root.join("gone")).unwrap();
    finish(&writer);
    fs::remove_dir(root.join("gone")).unwrap();
    fs::create_dir(root.join("new")).unwrap();
    fs::write(
        root.join("repos/a/oci-layout"),
        "{ \"imageLayoutVersion\": \"1.0.0\" }",
    )
    .unwrap();
    let found: Vec<_> = verify::run(root)
        .unwrap()
        .damage
        .into_iter()
        .map(|damage| damage.path)
        .collect();
    assert_eq!(
        found,
        ["DIRECTORY_SIZES.txt", "gone", "new", "repos/a/oci-layout"]
    );
    // Until a writer is done, no list is expected to fit.
    mark_dirty(root);
    assert_sound(root);
    writer.mark_stale().unwrap();
    assert!(finish(&writer));
    assert_sound(root);
}

#[test]
fn a_run_killed_between_list_and_state_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let writer = TreeWriter::open(root).unwrap();
    publish(&writer, "a", "1", b"one");
    finish(&writer);
    let state = fs::read(root.join("state.json")).unwrap();
    publish(&writer, "b", "1", b"two");
    finish(&writer);
    fs::write(root.join("state.json"), state).unwrap();
    mark_dirty(root);
    assert_sound(root);
    drop(writer);
    let writer = TreeWriter::open(root).unwrap();
    assert!(finish(&writer));
    assert_eq!(writer.tree().state().unwrap().serial, 2);
    assert_sound(root);
}

#[test]
fn a_tree_can_be_given_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let writer = TreeWriter::open(root).unwrap();
    publish(&writer, "a", "1", b"one");
    finish(&writer);
    drop(writer);
    let writer = TreeWriter::open(root)
        .unwrap()
        .with_module("fedora".parse().unwrap());
    assert!(finish(&writer));
    assert!(!finish(&writer));
    assert!(!root.join(LIST).exists());
    assert_sound(root);
    drop(writer);
    // It keeps the name without being told again.
    let writer = TreeWriter::open(root).unwrap();
    publish(&writer, "a", "2", b"two");
    assert!(finish(&writer));
    assert!(root.join("fullfiletimelist-fedora").exists());
    assert_sound(root);
}

/// A file system of its own, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` if this user may not mount.
    fn tmpfs(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        let mount = mount
            .args(["-t", "tmpfs", "-o", "size=64m,mode=0755", "tmpfs"])
            .arg(path);
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn any_directory_of_a_tree_may_be_a_mount_of_its_own() {
    for mounted in [
        &["repos"][..],
        &["blobs"],
        &["pieces", "repos/b"],
        &["blobs", "repos"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let mounts: Option<Vec<Mount>> = mounted
            .iter()
            .map(|name| Mount::tmpfs(&root.join(name)))
            .collect();
        let Some(_mounts) = mounts else {
            eprintln!("not allowed to mount a tmpfs: renames across file systems are not tested");
            return;
        };
        let writer = TreeWriter::open(root).unwrap();
        let layer = publish(&writer, "a", "1", &vec![1; 2 << 20]);
        publish(&writer, "b", "1", &vec![1; 2 << 20]);
        assert!(finish(&writer));
        assert_sound(root);
        publish(&writer, "b", "1", b"moved");
        assert!(finish(&writer));
        // What was damaged is replaced, also where links are copies.
        for name in ["a", "b"] {
            let link = TreePath::Link(name.parse().unwrap(), layer).under(root);
            fs::write(link, "cut").unwrap();
        }
        fs::write(TreePath::Blob(layer).under(root), "cut").unwrap();
        publish(&writer, "a", "1", &vec![1; 2 << 20]);
        publish(&writer, "b", "2", &vec![1; 2 << 20]);
        // A link of `b` is replaced only with the blob, which is whole by now.
        let link = TreePath::Link("b".parse().unwrap(), layer).under(root);
        fs::remove_file(&link).unwrap();
        publish(&writer, "b", "2", &vec![1; 2 << 20]);
        writer.mark_stale().unwrap();
        finish(&writer);
        assert_sound(root);
        let litter: Vec<_> = files(root)
            .into_keys()
            .filter(|path| path != TEMPORARY && path.contains(TEMPORARY))
            .collect();
        assert!(litter.is_empty(), "{litter:?}");
    }
}

#[test]
fn what_a_killed_run_left_beside_its_targets_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    drop(TreeWriter::open(root).unwrap());
    let beside = root.join("repos/a").join(TEMPORARY);
    fs::create_dir_all(&beside).unwrap();
    fs::write(beside.join(".growing-x1y2z3"), "half").unwrap();
    let theirs = root.join("blobs").join(TEMPORARY);
    fs::create_dir_all(&theirs).unwrap();
    fs::write(theirs.join("0123"), "rsync's").unwrap();
    mark_dirty(root);
    drop(TreeWriter::open(root).unwrap());
    assert!(!beside.exists());
    assert!(theirs.join("0123").exists());
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// ext4 allows a file 65,000 names.
#[test]
fn content_with_all_the_links_it_may_have_is_copied_and_said_so_once() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = dir.path().join("tree");
    let spare = dir.path().join("links");
    fs::create_dir(&spare).unwrap();
    let writer = TreeWriter::open(&root).unwrap();
    let layer = publish(&writer, "a", "1", b"popular");
    let config = Algorithm::Sha256.digest(b"{}");
    let mut is_limited = true;
    for digest in [layer, config] {
        let blob = TreePath::Blob(digest).under(&root);
        let refused = (0..70_000).find_map(|number| {
            fs::hard_link(&blob, spare.join(format!("{digest}-{number}"))).err()
        });
        match refused {
            Some(error) => assert_eq!(error.kind(), std::io::ErrorKind::TooManyLinks),
            None => is_limited = false,
        }
    }
    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || to.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || publish(&writer, "b", "1", b"popular"));
    finish(&writer);
    assert_sound(&root);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let said = log.matches("keeping copies").count();
    let inode = |path: TreePath| fs::metadata(path.under(&root)).unwrap().ino();
    for digest in [layer, config] {
        let link = TreePath::Link("b".parse().unwrap(), digest);
        let is_copy = inode(link) != inode(TreePath::Blob(digest));
        assert_eq!(is_copy, is_limited);
    }
    assert_eq!(said, usize::from(is_limited), "{log}");
    if !is_limited {
        eprintln!("this file system allows more than 70,000 links: copies are not tested");
    }
    assert!(Tree::open(&root).is_ok());
}

#[test]
fn a_damaged_pieces_file_is_found_however_often_the_list_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let layer = publish(&writer, "a", "1", &vec![7; (1 << 20) + 1]);
    finish(&writer);
    let pieces = TreePath::Pieces(layer).under(dir.path());
    let mut bytes = fs::read(&pieces).unwrap();
    bytes[0] ^= 1;
    fs::write(&pieces, bytes).unwrap();
    for tag in ["2", "3"] {
        publish(&writer, "a", tag, tag.as_bytes());
        assert!(finish(&writer));
        let report = verify::run(dir.path()).unwrap();
        let [damage] = report.damage.as_slice() else {
            panic!("{report}");
        };
        assert_eq!(damage.path, TreePath::Pieces(layer).to_string());
        assert!(damage.problem.contains("the blob"), "{damage}");
    }
}
