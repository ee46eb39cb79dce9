use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::*;
use crate::descriptor::Descriptor;
use crate::digest::Algorithm;
use crate::media_type::MediaType;
use crate::tree::path::RepoDir;
use crate::tree::state::Totals;

fn publish_one(writer: &TreeWriter, tag: &str, content: &[u8]) -> Digest {
    let digest = Algorithm::Sha256.digest(content);
    writer.stage_bytes(digest, content).unwrap();
    let root = Descriptor::new(MediaType::OCI_MANIFEST, digest, content.len() as u64);
    let image = Image {
        repo: "a/b".parse().unwrap(),
        tag: Some(tag.parse().unwrap()),
        root,
        reach: vec![digest],
        tag_referrers: None,
    };
    writer.publish(&[image]).unwrap();
    digest
}

#[test]
fn published_content_is_linked_readable_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let digest = publish_one(&writer, "1", b"one");
    assert!(writer.finish(Timestamp::UNIX_EPOCH).unwrap());
    let blob = TreePath::Blob(digest).under(dir.path());
    let link = TreePath::Link("a/b".parse().unwrap(), digest).under(dir.path());
    let (blob, link) = (fs::metadata(blob).unwrap(), fs::metadata(link).unwrap());
    assert_eq!(
        (blob.ino(), blob.nlink(), blob.mode() & 0o777),
        (link.ino(), 2, 0o644)
    );
    let state = writer.tree().state().unwrap();
    assert_eq!(
        state.totals,
        Totals {
            repositories: 1,
            tags: 1,
            blobs: 1,
            bytes: 3
        }
    );
    assert_eq!(state.serial, 1);
}

#[test]
fn publishing_the_same_again_changes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish_one(&writer, "1", b"one");
    writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    let index = TreePath::Index("a/b".parse().unwrap()).under(dir.path());
    let before = fs::metadata(&index).unwrap();
    publish_one(&writer, "1", b"one");
    assert!(!writer.finish(Timestamp::now()).unwrap());
    let after = fs::metadata(&index).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
}

#[test]
fn the_serial_grows_even_when_the_clock_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish_one(&writer, "1", b"one");
    writer.finish(Timestamp::now()).unwrap();
    publish_one(&writer, "1", b"two");
    writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(writer.tree().state().unwrap().serial, 2);
}

#[test]
fn a_run_killed_before_its_state_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish_one(&writer, "1", b"one");
    writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    publish_one(&writer, "2", b"two");
    fs::write(dir.path().join(TEMPORARY).join("half"), "x").unwrap();
    drop(writer);
    let writer = TreeWriter::open(dir.path()).unwrap();
    assert!(writer.finish(Timestamp::UNIX_EPOCH).unwrap());
    assert_eq!(writer.tree().state().unwrap().totals.tags, 2);
    assert_eq!(fs::read_dir(dir.path().join(TEMPORARY)).unwrap().count(), 0);
}

#[test]
fn a_state_never_counts_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish_one(&writer, "1", b"one");
    publish_one(&writer, "2", b"two");
    writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    let repo: RepoDir = "a/b".parse().unwrap();
    let gone = writer.retain(&repo, |entry| entry.ref_name() == Some("2"));
    assert_eq!(gone.unwrap().len(), 1);
    // As if the run were cut off here.
    let state = writer.tree().state().unwrap();
    assert_eq!((state.totals.tags, state.serial), (1, 2));
    assert!(writer.finish(Timestamp::UNIX_EPOCH).unwrap());
    assert_eq!(writer.tree().state().unwrap().serial, 3);
}

#[test]
fn a_second_writer_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let _first = TreeWriter::open(dir.path()).unwrap();
    assert!(matches!(
        TreeWriter::open(dir.path()),
        Err(Error::Locked { .. })
    ));
}

#[test]
fn what_is_staged_can_be_read_at_every_moment_of_publishing() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let contents: Vec<Vec<u8>> = (0..60_u8).map(|number| vec![number; 100]).collect();
    let digests: Vec<Digest> = contents
        .iter()
        .map(|content| Algorithm::Sha256.digest(content))
        .collect();
    for (content, digest) in contents.iter().zip(&digests) {
        writer.stage_bytes(*digest, content).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for digest in &digests {
                    assert_eq!(writer.holds(digest).unwrap(), Some(100));
                    assert_eq!(writer.read(digest, 100).unwrap().len(), 100);
                }
            }
        });
        for (number, digest) in digests.iter().enumerate() {
            let root = Descriptor::new(MediaType::OCI_MANIFEST, *digest, 100);
            let tag = format!("t{number}").parse().ok();
            let image = Image {
                repo: "a".parse().unwrap(),
                tag,
                root,
                reach: vec![*digest],
                tag_referrers: None,
            };
            writer.publish(&[image]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn damaged_content_is_replaced_under_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let digest = publish_one(&writer, "1", b"whole");
    let link = TreePath::Link("a/b".parse().unwrap(), digest).under(dir.path());
    fs::write(&link, b"cut").unwrap();
    publish_one(&writer, "1", b"whole");
    for path in [link, TreePath::Blob(digest).under(dir.path())] {
        assert_eq!(fs::read(path).unwrap(), b"whole");
    }
}

#[test]
fn one_damaged_index_does_not_hold_the_state_back() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish_one(&writer, "1", b"one");
    writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    fs::create_dir(dir.path().join("repos/z")).unwrap();
    fs::write(dir.path().join("repos/z/index.json"), "{").unwrap();
    publish_one(&writer, "2", b"two");
    assert!(writer.finish(Timestamp::UNIX_EPOCH).unwrap());
    assert_eq!(writer.tree().state().unwrap().totals.tags, 2);
}

#[test]
fn foreign_things_among_the_temporary_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(TEMPORARY).join("theirs")).unwrap();
    drop(TreeWriter::open(dir.path()).unwrap());
    assert!(dir.path().join(TEMPORARY).join("theirs").exists());

    let linked = dir.path().join("linked");
    fs::create_dir(&linked).unwrap();
    fs::write(dir.path().join(TEMPORARY).join("file"), "").unwrap();
    std::os::unix::fs::symlink(dir.path().join(TEMPORARY), linked.join(TEMPORARY)).unwrap();
    assert!(TreeWriter::open(&linked).is_err());
    assert!(dir.path().join(TEMPORARY).join("file").exists());
}

#[test]
fn wrong_content_never_gets_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let digest = Algorithm::Sha256.digest(b"right");
    for (bytes, size) in [
        (&b"wrong"[..], 5),
        (b"righ", 5),
        (b"rightly", 5),
        (b"right", 6),
    ] {
        let mut blob = writer.stage(digest, size).unwrap();
        let result = blob.write(bytes).and_then(|()| blob.finish());
        assert!(result.unwrap_err().is_wrong_content());
    }
    assert_eq!(writer.holds(&digest).unwrap(), None);
    assert_eq!(fs::read_dir(dir.path().join(TEMPORARY)).unwrap().count(), 0);
}

#[test]
fn a_tree_of_another_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state.json"), r#"{"format":9}"#).unwrap();
    assert!(TreeWriter::open(dir.path()).is_err());
    assert!(!dir.path().join(TEMPORARY).exists());
}
