//! Prune: what goes, when, and what stays.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use mirror_tool::exit::Exit;
use mirror_tool::prune;
use oci_mirror::digest::Digest;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::{TreePath, TreeWriter};

use super::{Bench, DAY, MIB, blob, repo, sha256, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_moved_tag_leaves_goes_after_the_grace_and_not_before() {
    let bench = Bench::new().await;
    let large = vec![7; 3 * MIB];
    let old = bench
        .registry
        .image("a", Some("1"), &[b"base", b"old", &large]);
    bench.registry.image("b", Some("1"), &[b"base"]);
    bench.export(&["a", "b"]).await;
    bench.registry.image("a", Some("1"), &[b"base", b"new"]);
    bench.export(&["a"]).await;

    let early = bench.prune(7 * DAY, 6 * DAY);
    assert_eq!((early.removed.len(), early.exit()), (0, Exit::Fine));
    assert!(early.kept.bytes > 3 * MIB as u64, "{early:#?}");
    let before = snapshot(&bench.tree());

    let mut options = bench.options(7 * DAY, 8 * DAY);
    options.dry_run = true;
    let announced = prune::run(&options).unwrap();
    assert!(
        before == snapshot(&bench.tree()),
        "a dry run changes something"
    );

    let report = bench.prune(7 * DAY, 8 * DAY);
    assert_eq!(report.removed, announced.removed);
    assert_eq!(
        (report.freed, announced.freed),
        (early.kept.bytes, report.freed)
    );
    for content in [&b"old"[..], &large] {
        assert!(!bench.path(&blob(content)).exists());
    }
    assert!(!bench.path(&TreePath::Pieces(sha256(&large))).exists());
    assert!(!bench.path(&TreePath::Blob(old)).exists());
    for content in [&b"base"[..], b"new"] {
        assert!(bench.path(&blob(content)).exists());
    }
    let summary = bench.sound();
    assert_eq!((summary.unreferenced, summary.tags), (0, 2));
    assert!(
        !bench.tree().join("pieces/sha256").exists(),
        "empty directories stay"
    );
    // Manifests go before what they name, links before blobs.
    let kinds: Vec<_> = report
        .removed
        .iter()
        .map(|it| it.digest == Some(old))
        .collect();
    assert!(kinds[0], "{report:#?}");

    let before = snapshot(&bench.tree());
    let again = bench.prune(Duration::ZERO, Duration::ZERO);
    assert_eq!(again.removed, []);
    assert!(
        before == snapshot(&bench.tree()),
        "pruning nothing changes something"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_repository_does_not_keep_its_litter_for_ever() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"old"]);
    bench.export(&["a"]).await;
    bench.registry.image("a", Some("1"), &[b"new"]);
    bench.export(&["a"]).await;
    assert_eq!(bench.prune(7 * DAY, Duration::ZERO).removed, []);
    // The index is written again later; what was unneeded before stays unneeded since then.
    let index = bench.path(&TreePath::Index(repo("a")));
    let later = std::time::SystemTime::now() + 6 * DAY;
    fs::File::options()
        .append(true)
        .open(index)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert!(!bench.prune(7 * DAY, 8 * DAY).removed.is_empty());
    assert_eq!(bench.sound().unreferenced, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_again_is_forgotten() {
    let bench = Bench::new().await;
    let tag = "1".parse().unwrap();
    bench.registry.image("a", Some("1"), &[b"first"]);
    bench.export(&["a"]).await;
    let index = bench.path(&TreePath::Index(repo("a")));
    let first = fs::read(&index).unwrap();
    bench.registry.image("a", Some("1"), &[b"second"]);
    bench.export(&["a"]).await;
    let second = fs::read(&index).unwrap();
    assert_eq!(bench.prune(7 * DAY, Duration::ZERO).kept.files, 4);
    fs::write(&index, &first).unwrap();
    assert_eq!(bench.prune(7 * DAY, DAY).kept.files, 4);
    fs::write(&index, &second).unwrap();
    let later = std::time::SystemTime::now() + 2 * DAY;
    fs::File::options()
        .append(true)
        .open(&index)
        .unwrap()
        .set_modified(later)
        .unwrap();
    // Unneeded for the second time since the second day.
    assert_eq!(bench.prune(7 * DAY, 8 * DAY).removed, []);
    assert!(!bench.prune(7 * DAY, 10 * DAY).removed.is_empty());
    let held = RepoIndex::from_bytes(&second)
        .unwrap()
        .target(&tag)
        .cloned()
        .unwrap();
    assert!(bench.path(&TreePath::Blob(held.digest)).exists());
    bench.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_needed_between_two_prunes_has_its_whole_grace_again() {
    let bench = Bench::new().await;
    for layer in [&b"first"[..], b"second"] {
        bench.registry.image("a", Some("1"), &[layer]);
        bench.export(&["a"]).await;
    }
    assert_eq!(bench.prune(7 * DAY, Duration::ZERO).kept.files, 4);
    // No prune sees that the first is needed again.
    for layer in [&b"first"[..], b"second"] {
        bench.registry.image("a", Some("1"), &[layer]);
        bench.export(&["a"]).await;
    }
    let later = std::time::SystemTime::now() + 6 * DAY;
    fs::File::options()
        .append(true)
        .open(bench.path(&TreePath::Index(repo("a"))))
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert_eq!(bench.prune(7 * DAY, 8 * DAY).removed, []);
    assert_eq!(bench.prune(7 * DAY, 14 * DAY).removed.len(), 4);
    assert_eq!(bench.sound().unreferenced, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_put_back_makes_nothing_older() {
    let bench = Bench::new().await;
    for layer in [&b"first"[..], b"second"] {
        bench.registry.image("a", Some("1"), &[layer]);
        bench.export(&["a"]).await;
    }
    for grace in [7 * DAY, Duration::ZERO] {
        let put_back = prune::Options {
            now: Some(Timestamp::UNIX_EPOCH),
            ..bench.options(grace, Duration::ZERO)
        };
        let report = prune::run(&put_back).unwrap();
        assert_eq!((&report.removed[..], report.kept.files), (&[][..], 4));
    }
    assert_eq!(bench.prune(7 * DAY, 6 * DAY).removed, []);
    assert_eq!(bench.prune(7 * DAY, 8 * DAY).removed.len(), 4);
    bench.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_place_of_what_was_remembered_is_started_over() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"old"]);
    bench.export(&["a"]).await;
    bench.registry.image("a", Some("1"), &[b"new"]);
    bench.export(&["a"]).await;
    let remembered = bench.tree().join(".~tmp~/unreferenced");
    fs::write(&remembered, b"\xff garbage").unwrap();
    assert_eq!(bench.prune(7 * DAY, Duration::ZERO).removed, []);
    assert!(
        fs::read(&remembered)
            .unwrap()
            .starts_with(b"unreferenced 1\n")
    );
    assert!(!bench.prune(7 * DAY, 8 * DAY).removed.is_empty());
    assert!(!remembered.exists());
    bench.sound();
}

/// Takes all entries out of a repository, as an export that removes tags does.
fn empty(bench: &Bench, name: &str) {
    let index = bench.path(&TreePath::Index(repo(name)));
    fs::write(index, RepoIndex::default().to_bytes()).unwrap();
    let writer = TreeWriter::open(&bench.tree()).unwrap();
    fs::write(bench.tree().join(".~tmp~/dirty"), "").unwrap();
    writer.finish(Timestamp::now()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_repository_goes_whole_and_those_below_it_stay() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"shared", b"own"]);
    bench.registry.image("a/b", Some("1"), &[b"shared"]);
    bench.export(&["a", "a/b"]).await;
    empty(&bench, "a");
    assert_eq!(bench.prune(7 * DAY, 6 * DAY).removed, []);
    let report = bench.prune(7 * DAY, 8 * DAY);
    assert!(
        report
            .removed
            .iter()
            .any(|it| it.path == "repos/a/index.json")
    );
    assert!(!bench.tree().join("repos/a/blobs").exists());
    assert!(!bench.tree().join("repos/a/oci-layout").exists());
    assert!(bench.path(&blob(b"shared")).exists() && !bench.path(&blob(b"own")).exists());
    let summary = bench.sound();
    assert_eq!((summary.repositories, summary.unreferenced), (1, 0));

    empty(&bench, "a/b");
    bench.prune(Duration::ZERO, Duration::ZERO);
    assert_eq!(fs::read_dir(bench.tree().join("repos")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(bench.tree().join("blobs")).unwrap().count(), 0);
    assert_eq!(bench.sound().repositories, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_repository_keeps_all_it_links() {
    let damages: [fn(&Bench, Digest); 3] = [
        |bench, _| fs::write(bench.path(&TreePath::Index(repo("a"))), "{").unwrap(),
        |bench, manifest| {
            let path = bench.path(&TreePath::Blob(manifest));
            let mut bytes = fs::read(&path).unwrap();
            bytes[20] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |bench, _| fs::remove_file(bench.path(&blob(b"new"))).unwrap(),
    ];
    for damage in damages {
        let bench = Bench::new().await;
        for name in ["a", "b"] {
            bench
                .registry
                .image(name, Some("1"), &[b"old", name.as_bytes()]);
        }
        bench.export(&["a", "b"]).await;
        let manifest = bench.registry.image("a", Some("1"), &[b"new"]);
        bench.registry.image("b", Some("1"), &[b"newer"]);
        bench.export(&["a", "b"]).await;
        damage(&bench, manifest);
        let report = bench.prune(Duration::ZERO, Duration::ZERO);
        assert_eq!(report.exit(), Exit::Damage);
        let named: Vec<_> = report
            .damaged
            .iter()
            .map(|it| it.repository.as_deref())
            .collect();
        assert_eq!(named, [Some("a")]);
        assert!(
            report
                .removed
                .iter()
                .all(|it| it.repository.as_deref() != Some("a"))
        );
        assert!(bench.path(&blob(b"old")).exists() && bench.path(&blob(b"a")).exists());
        assert!(!bench.path(&blob(b"b")).exists(), "the rest is pruned");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_repository_is_no_reason_to_remove_what_it_needed() {
    let bench = Bench::new().await;
    for name in ["a", "b"] {
        bench.registry.image(name, Some("1"), &[name.as_bytes()]);
    }
    bench.export(&["a", "b"]).await;
    fs::remove_dir_all(bench.tree().join("repos/a")).unwrap();
    fs::remove_file(bench.path(&TreePath::Index(repo("b")))).unwrap();
    let report = bench.prune(Duration::ZERO, Duration::ZERO);
    assert_eq!((report.removed.len(), report.exit()), (0, Exit::Damage));
    assert!(bench.path(&blob(b"a")).exists() && bench.path(&blob(b"b")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_directory_does_not_become_a_tree() {
    let bench = Bench::new().await;
    for dir in [bench.tree(), bench.dir.path().to_owned()] {
        let options = prune::Options {
            tree: dir.clone(),
            ..prune::Options::default()
        };
        assert!(prune::run(&options).is_err());
        assert!(!dir.join(".~tmp~").exists());
    }
}
