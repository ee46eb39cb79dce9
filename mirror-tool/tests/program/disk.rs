//! A disk that is full, or that may not be written to, when something is to be brought or taken away: what
//! can be done is done, the error names the file, and nothing is lost.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use mirror_tool::exit::Exit;
use mirror_tool::{export, prune, verify};
use oci_mirror::tree::{Catalog, Tree, TreePath};

use crate::bench::{Bench, MIB, noise, snapshot};

/// A bench on a disk of its own: one repository is needed, another has lost its only tag.
async fn bench() -> (Bench, SmallDisk) {
    let bench = Bench::new().await;
    let disk = SmallDisk::mount(bench.dir.path().to_owned(), "12m");
    bench.registry.image("a", Some("1"), &[b"needed"]);
    bench.registry.image("b", Some("1"), &[&noise(1, 2 * MIB)]);
    bench.sound(&bench.export(&["/a", "/b"]).await);
    let index = TreePath::Index("b".parse().unwrap()).under(&bench.tree());
    fs::write(index, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    (bench, disk)
}

fn options(bench: &Bench) -> prune::Options {
    prune::Options {
        tree: bench.tree(),
        grace: Duration::ZERO,
        dry_run: false,
        now: Some(Timestamp::now()),
    }
}

#[track_caller]
fn assert_sound(tree: &Path, repositories: u64) {
    let report = verify::run(tree).unwrap();
    assert_eq!(report.damage, [], "{report}");
    assert_eq!(report.summary.repositories, repositories);
    assert!(!report.summary.interrupted);
    Catalog::load(&Tree::open(tree).unwrap(), None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_makes_room_on_a_full_disk() {
    let (bench, _disk) = bench().await;
    let mut junk = fs::File::create(bench.dir.path().join("junk")).unwrap();
    while junk.write_all(&[0; 512]).is_ok() {}
    let report = prune::run(&options(&bench)).unwrap();
    assert!(report.freed > 2 * MIB as u64, "{report:#?}");
    assert!(!bench.tree().join("repos/b").exists());
    assert_sound(&bench.tree(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_may_only_be_read_is_an_error_that_names_the_file() {
    let (bench, _disk) = bench().await;
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        let status = mount.args(["-o", how]).arg(bench.dir.path()).status();
        assert!(status.unwrap().success());
    };
    let before = snapshot(&bench.tree());
    remount("remount,ro");
    let dry_run = prune::Options {
        dry_run: true,
        ..options(&bench)
    };
    assert_eq!(prune::run(&dry_run).unwrap().removed.len(), 9);
    let error = prune::run(&options(&bench)).unwrap_err();
    remount("remount,rw");
    let error = format!("{error:#}");
    assert!(
        error.contains("/tree/") && error.contains("Read-only file system"),
        "{error}"
    );
    assert!(before == snapshot(&bench.tree()));
    prune::run(&options(&bench)).unwrap();
    assert_sound(&bench.tree(), 1);
}

/// A small file system of its own, unmounted whatever happens.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(path: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "this test must be allowed to mount a tmpfs; run it as root"
        );
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_run_and_leaves_a_sound_tree() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("0-small"), &[b"layer"]);
    let disk = SmallDisk::mount(bench.tree(), "12m");
    bench.sound(&bench.export(&["/a"]).await);
    for number in 0..4_u64 {
        let layer = noise(200 + number, 5 * MIB);
        bench
            .registry
            .image("a", Some(&format!("{number}")), &[&layer]);
    }
    let mut options = bench.options(&["/a"]);
    options.jobs = 1;
    let report = export::run(options).await.unwrap();
    assert!(report.totals.failed >= 2, "{report:#?}");
    assert_eq!(report.exit(), Exit::Partial);
    let errors: Vec<_> = report
        .failures()
        .map(|image| image.error.clone().unwrap())
        .collect();
    assert!(
        errors.iter().any(|error| error.contains("No space left")),
        "{errors:#?}"
    );
    let verified = verify::run(&bench.tree()).unwrap();
    assert_eq!(verified.damage, [], "{verified}");
    drop(disk);
}
