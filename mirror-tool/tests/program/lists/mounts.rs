//! Trees on file systems that refuse links and renames.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use oci_mirror::digest::Algorithm;
use oci_mirror::tree::writer::TEMPORARY;
use oci_mirror::tree::{Tree, TreePath, TreeWriter};

use super::{assert_sound, files, finish, mark_dirty, publish};

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
