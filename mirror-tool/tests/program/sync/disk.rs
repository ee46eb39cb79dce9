//! A disk that is full, or that may not be written to.

use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use super::*;

/// A tree of two large images, and a disk that has room for them and hardly more.
fn two_images_and_hardly_more_room() -> (Master, Master, SmallDisk) {
    let master = Master::new();
    let small = Master::new();
    let disk = SmallDisk::mount(small.dir.path().to_owned(), "12m");
    for tag in ["1", "2"] {
        let large = noise(u64::from(tag.as_bytes()[0]), 5 * MIB);
        master.publish(&[("a", tag, &[&large])]);
    }
    (master, small, disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_changes_nothing_and_what_had_its_grace_makes_room() {
    let (master, small, disk) = two_images_and_hardly_more_room();
    let options = |hours: i64| Options {
        now: Some(Timestamp::now() + hours.hours()),
        ..small.options("m", &[&master.url()])
    };
    assert_outcome(&run(options(0)).await, Outcome::Followed);
    let mirror = small.mirror("m");
    master.remove("a", |tag| tag == "1");
    assert_outcome(&run(options(1)).await, Outcome::Followed);
    master.publish(&[("a", "3", &[&noise(3, 5 * MIB)])]);
    let before = content(&mirror);
    let report = run(options(2)).await;
    assert_outcome(&report, Outcome::Failed);
    assert_eq!(content(&mirror), before);
    let report = run(options(26)).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_old_files_for_pulls_lead_to_is_not_removed_to_make_room() {
    let (master, small, disk) = two_images_and_hardly_more_room();
    let options = |hours: i64| Options {
        now: Some(Timestamp::now() + hours.hours()),
        static_v2: Some(small.mirror("m.v2")),
        ..small.options("m", &[&master.url()])
    };
    assert_outcome(&run(options(0)).await, Outcome::Followed);
    // From now on they cannot be made anew.
    let made = small.mirror("m.v2/a/_made");
    fs::remove_file(&made).unwrap();
    fs::create_dir(&made).unwrap();
    master.remove("a", |tag| tag == "1");
    assert_outcome(&run(options(1)).await, Outcome::Partial);
    master.publish(&[("a", "3", &[&noise(3, 5 * MIB)])]);
    let before = content(&small.mirror("m"));
    assert_outcome(&run(options(26)).await, Outcome::Failed);
    assert_eq!(content(&small.mirror("m")), before);
    fs::remove_dir(&made).unwrap();
    assert_outcome(&run(options(26)).await, Outcome::Followed);
    assert_eq!(content(&small.mirror("m")), content(&master.tree()));
    drop(disk);
}

/// Nothing that was there is gone or changed, and a server can read it, though the run did not come to its end.
#[track_caller]
fn assert_nothing_lost(mirror: &Path, before: &BTreeMap<PathBuf, Vec<u8>>, context: &str) {
    let after = content(mirror);
    let is_document = |path: &PathBuf| path.ends_with("index.json");
    for (path, bytes) in before.iter().filter(|(path, _)| !is_document(path)) {
        let shown = path.display();
        assert!(after.get(path) == Some(bytes), "{context}: {shown}");
    }
    let report = verify::run(mirror).unwrap();
    assert_eq!(report.damage, [], "{context}: {report}");
    Catalog::load(&Tree::open(mirror).unwrap(), None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_while_names_are_given_loses_nothing_and_the_next_run_completes() {
    let master = Master::new();
    let small = Master::new();
    let disk = SmallDisk::mount(small.dir.path().to_owned(), "12m");
    // On such a disk, a link takes as much room as a file.
    let leave_room_for = |names: u64| {
        let found = rustix::fs::statvfs(small.dir.path()).unwrap();
        let names = found.f_files - found.f_ffree + names;
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,nr_inodes={names}")]);
        assert!(mount.arg(small.dir.path()).status().unwrap().success());
    };
    let layers: Vec<Vec<u8>> = (0..100).map(|seed| noise(seed, 100)).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    master.publish(&[("a", "1", &layers)]);
    let options = || small.options("m", &[&master.url()]);
    assert_outcome(&run(options()).await, Outcome::Followed);
    let mirror = small.mirror("m");
    let before = content(&mirror);
    // A few files, and a hundred links.
    master.publish(&[("a", "2", &[b"new"]), ("b", "1", &layers)]);
    leave_room_for(60);
    let report = run(options()).await;
    assert_outcome(&report, Outcome::Failed);
    assert_eq!(report.exit(), Exit::Failed);
    let error = report.error.unwrap();
    assert!(error.contains("No space left"), "{error}");
    assert!(report.partly_new && mirror.join(".~tmp~/dirty").exists());
    assert!(blob(&mirror, digest(b"new")).exists(), "no name was given");
    assert_nothing_lost(&mirror, &before, "full");
    leave_room_for(1000);
    assert_outcome(&run(options()).await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_may_only_be_read_is_left_alone() {
    let master = Master::new();
    let small = Master::new();
    let disk = SmallDisk::mount(small.dir.path().to_owned(), "12m");
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-o", how]).arg(small.dir.path());
        assert!(mount.status().unwrap().success());
    };
    master.publish(&[("a", "1", &[b"a"])]);
    let options = || small.options("m", &[&master.url()]);
    assert_outcome(&run(options()).await, Outcome::Followed);
    master.publish(&[("a", "2", &[b"b"])]);
    let mirror = small.mirror("m");
    let before = snapshot(&mirror);
    remount("remount,ro");
    let report = run(options()).await;
    remount("remount,rw");
    assert_outcome(&report, Outcome::Failed);
    assert_eq!(report.exit(), Exit::Failed);
    let error = report.error.unwrap();
    let is_named = error.contains(mirror.to_str().unwrap());
    assert!(
        is_named && error.contains("Read-only file system"),
        "{error}"
    );
    assert!(!report.partly_new && before == snapshot(&mirror));
    assert_outcome(&run(options()).await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    drop(disk);
}

/// An account that owns what is not given to anybody else.
const NOBODY: u32 = 65534;

#[track_caller]
fn follow_as_nobody(master: &Master) -> Output {
    // By a descriptor, since that account may not get to where it was built.
    let program = fs::File::open(env!("CARGO_BIN_EXE_mirror-tool")).unwrap();
    rustix::io::fcntl_setfd(&program, rustix::io::FdFlags::empty()).unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(["sync", "--from", &master.url(), "--tree"]);
    command.arg(master.mirror("m")).uid(NOBODY).gid(NOBODY);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_somebody_elses_is_named_and_nothing_is_lost() {
    for denied in [
        "",
        ".~tmp~",
        ".~tmp~/sync",
        "blobs/sha256",
        "repos",
        "repos/a",
        "repos/a/blobs/sha256",
    ] {
        let master = Master::new();
        let own = |owner: u32, path: &Path| {
            let mut chown = Command::new("chown");
            chown.arg("-R").arg(format!("{owner}:{owner}")).arg(path);
            assert!(chown.status().unwrap().success());
        };
        fs::set_permissions(master.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        master.publish(&[("a", "1", &[b"a"])]);
        let mirror = master.mirror("m");
        fs::create_dir(&mirror).unwrap();
        own(NOBODY, &mirror);
        let output = follow_as_nobody(&master);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let before = content(&mirror);

        master.publish(&[("a", "2", &[b"b"]), ("b", "1", &[b"c"])]);
        std::os::unix::fs::chown(mirror.join(denied), Some(0), Some(0)).unwrap();
        let output = follow_as_nobody(&master);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{denied:?}: {said}");
        let named = mirror.join(denied).display().to_string();
        let is_named = said.contains(named.trim_end_matches('/'));
        assert!(
            is_named && said.contains("Permission denied"),
            "{denied:?}: {said}"
        );
        assert_nothing_lost(&mirror, &before, denied);

        own(NOBODY, &mirror);
        let output = follow_as_nobody(&master);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{denied:?}: {said}");
        assert_eq!(content(&mirror), content(&master.tree()), "{denied:?}");
        assert_sound(&mirror);
    }
}
