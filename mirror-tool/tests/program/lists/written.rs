//! The file list as it is written at the end of a run.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::list::Kind;
use oci_mirror::tree::writer::{DIRTY, TEMPORARY};
use oci_mirror::tree::{TreePath, TreeWriter};

use super::{LIST, assert_sound, entry, files, finish, list, mark_dirty, publish, stamps};

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
