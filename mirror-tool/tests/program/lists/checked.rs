//! The file list against what there is: damage, and what a killed run has left.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use mirror_tool::verify;
use oci_mirror::tree::{TreePath, TreeWriter};

use super::{LIST, assert_sound, finish, mark_dirty, publish};

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
