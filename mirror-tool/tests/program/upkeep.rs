//! Prune and repair against a registry on loopback that fails on demand.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mirror_tool::exit::Exit;
use mirror_tool::export::source::Source;
use mirror_tool::export::{self, Order};
use mirror_tool::{prune, serve, verify};
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::retry::Retry;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::writer::{DIRTY, TEMPORARY};
use oci_mirror::tree::{Catalog, RepoDir, Tree, TreePath, TreeWriter};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::fake_registry::{FakeRegistry, Fault};

const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Bench {
    registry: FakeRegistry,
    dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self {
            registry: FakeRegistry::start().await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn path(&self, path: &TreePath) -> PathBuf {
        path.under(&self.tree())
    }

    async fn export(&self, names: &[&str]) {
        let host = self.registry.address;
        let sources = names
            .iter()
            .map(|name| format!("{host}/{name}").parse::<Source>());
        let options = export::Options {
            tree: self.tree(),
            orders: sources.map(|source| Order::from(source.unwrap())).collect(),
            connection: connection(),
            ..export::Options::default()
        };
        let report = export::run(options).await.unwrap();
        assert_eq!(report.exit(), Exit::Fine, "{report:#?}");
    }

    /// Prunes as if it were `later`.
    #[track_caller]
    fn prune(&self, grace: Duration, later: Duration) -> prune::Report {
        prune::run(&self.options(grace, later)).unwrap()
    }

    fn options(&self, grace: Duration, later: Duration) -> prune::Options {
        prune::Options {
            tree: self.tree(),
            grace,
            dry_run: false,
            now: Some(Timestamp::now() + SignedDuration::try_from(later).unwrap()),
        }
    }

    async fn repair(&self, sources: &[&str]) -> verify::Report {
        let sources = sources.iter().map(|source| source.parse().unwrap());
        let options = verify::RepairOptions {
            tree: self.tree(),
            sources: sources.collect(),
            connection: connection(),
            credentials: Credentials::none(),
            shutdown: CancellationToken::new(),
        };
        verify::run_and_repair(options).await.unwrap()
    }

    #[track_caller]
    fn sound(&self) -> verify::Summary {
        let report = verify::run(&self.tree()).unwrap();
        assert_eq!(report.damage, [], "{report}");
        Catalog::load(&Tree::open(&self.tree()).unwrap(), None).unwrap();
        report.summary
    }

    fn registry(&self) -> String {
        format!("docker://{}", self.registry.address)
    }
}

fn connection() -> client::Options {
    client::Options {
        plain_http: true,
        read_timeout: Duration::from_secs(2),
        retry: Retry {
            retries: 1,
            first_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(20),
            max_retry_after: Duration::from_secs(2),
        },
        ..client::Options::default()
    }
}

fn sha256(content: &[u8]) -> Digest {
    Algorithm::Sha256.digest(content)
}

fn blob(content: &[u8]) -> TreePath {
    TreePath::Blob(sha256(content))
}

fn repo(name: &str) -> RepoDir {
    name.parse().unwrap()
}

/// Every file with its inode and time.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut files = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::metadata(&path).unwrap();
            let entry = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
            files.insert(path.clone(), entry);
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    files
}

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

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}

/// A tree with an image of a small and a large layer under two names, and the layers.
async fn sample() -> (Bench, Vec<u8>, Digest) {
    let bench = Bench::new().await;
    let large: Vec<u8> = (0..=250).cycle().take(3 * MIB).collect();
    let manifest = bench.registry.image("a", Some("1"), &[b"small", &large]);
    bench.registry.image("b/c", Some("1"), &[b"small", &large]);
    bench.export(&["a", "b/c"]).await;
    bench.sound();
    (bench, large, manifest)
}

type Harm = (&'static str, fn(&Bench, &[u8], Digest));

const HARMS: [Harm; 11] = [
    ("a byte of a small blob", |bench, _, _| {
        fs::write(bench.path(&blob(b"small")), b"smaII").unwrap();
    }),
    ("a byte of a large blob", |bench, large, _| {
        let mut wrong = large.to_vec();
        wrong[2 * MIB] ^= 1;
        fs::write(bench.path(&blob(large)), wrong).unwrap();
    }),
    ("a truncated blob", |bench, large, _| {
        fs::write(bench.path(&blob(large)), &large[..MIB]).unwrap();
    }),
    ("a blob that is nowhere", |bench, large, _| {
        fs::remove_file(bench.path(&blob(large))).unwrap();
        for name in ["a", "b/c"] {
            fs::remove_file(bench.path(&TreePath::Link(repo(name), sha256(large)))).unwrap();
        }
    }),
    ("a damaged manifest", |bench, _, manifest| {
        let path = bench.path(&TreePath::Blob(manifest));
        let mut bytes = fs::read(&path).unwrap();
        bytes[30] ^= 1;
        fs::write(path, bytes).unwrap();
    }),
    (
        "a manifest and a layer below it",
        |bench, large, manifest| {
            for name in ["a", "b/c"] {
                fs::remove_file(bench.path(&TreePath::Link(repo(name), sha256(large)))).unwrap();
            }
            fs::remove_file(bench.path(&TreePath::Link(repo("a"), manifest))).unwrap();
            fs::remove_file(bench.path(&TreePath::Blob(manifest))).unwrap();
            fs::remove_file(bench.path(&blob(large))).unwrap();
        },
    ),
    ("a missing link", |bench, large, _| {
        fs::remove_file(bench.path(&TreePath::Link(repo("b/c"), sha256(large)))).unwrap();
    }),
    ("a link of its own that is wrong", |bench, _, _| {
        let link = bench.path(&TreePath::Link(repo("a"), sha256(b"small")));
        fs::remove_file(&link).unwrap();
        fs::write(link, "wrong").unwrap();
    }),
    ("missing pieces", |bench, large, _| {
        fs::remove_file(bench.path(&TreePath::Pieces(sha256(large)))).unwrap();
    }),
    ("wrong pieces", |bench, large, _| {
        fs::write(bench.path(&TreePath::Pieces(sha256(large))), [0; 96]).unwrap();
    }),
    ("a missing layout", |bench, _, _| {
        fs::remove_file(bench.path(&TreePath::Layout(repo("b/c")))).unwrap();
    }),
];

/// Does all kinds of harm, each to a fresh copy, and repairs them from the same sources.
async fn repaired_from(sources: impl Fn(&Bench) -> Vec<String>) {
    let (bench, large, manifest) = sample().await;
    let good = bench.dir.path().join("good");
    copy(&bench.tree(), &good);
    for (name, harm) in HARMS {
        fs::remove_dir_all(bench.tree()).unwrap();
        copy(&good, &bench.tree());
        harm(&bench, &large, manifest);
        assert_ne!(verify::run(&bench.tree()).unwrap().damage, [], "{name}");
        let sources = sources(&bench);
        let sources: Vec<_> = sources.iter().map(String::as_str).collect();
        let report = bench.repair(&sources).await;
        assert_eq!(report.damage, [], "{name}: {report}");
        assert_eq!(report.unrepaired, [], "{name}: {report}");
        assert_ne!(report.repaired, [], "{name}");
        assert_eq!(report.exit(), Exit::Fine, "{name}");
        bench.sound();
        let inode = |path: &TreePath| fs::metadata(bench.path(path)).unwrap().ino();
        for name in ["a", "b/c"] {
            for digest in [sha256(&large), sha256(b"small")] {
                let link = TreePath::Link(repo(name), digest);
                assert_eq!(inode(&link), inode(&TreePath::Blob(digest)), "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_repaired_from_a_registry_asked_by_each_repositorys_name() {
    repaired_from(|bench| vec![bench.registry()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_repaired_from_one_repository_of_a_registry() {
    repaired_from(|bench| vec![format!("{}/a", bench.registry())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_repaired_from_a_layout() {
    repaired_from(|bench| {
        vec![format!(
            "oci:{}",
            bench.dir.path().join("good/repos/a").display()
        )]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_repaired_from_another_tree_behind_one_that_lies() {
    let other = tempfile::tempdir().unwrap();
    let (mirror, lying) = (other.path().join("mirror"), other.path().join("lying"));
    let (bench, ..) = sample().await;
    for copied in [&mirror, &lying] {
        copy(&bench.tree(), copied);
    }
    // Wrong at the right length, all of it.
    let mut pending = vec![lying.join("blobs")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let length = fs::metadata(&path).unwrap().len();
            fs::write(path, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
        }
    }
    let shutdown = CancellationToken::new();
    let mut servers = tokio::task::JoinSet::new();
    let mut urls = vec!["oci:/no/such/layout".to_owned()];
    for tree in [&lying, &mirror] {
        let server = serve::bind(tree, &"127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        urls.push(format!("http://{}/", server.local_addresses()[0]));
        servers.spawn(server.run(shutdown.clone()));
    }
    repaired_from(|_| urls.clone()).await;
    shutdown.cancel();
    servers.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_stays_damage_and_says_why() {
    let (bench, large, manifest) = sample().await;
    fs::write(bench.path(&blob(b"small")), b"smaII").unwrap();
    let path = format!("/v2/a/blobs/{}", sha256(b"small"));
    bench.registry.fail(&path, Fault::WrongByte);
    fs::write(bench.path(&TreePath::Index(repo("b/c"))), "{").unwrap();
    let source = format!("{}/a", bench.registry());
    let report = bench.repair(&[&source]).await;
    assert_eq!(report.exit(), Exit::Damage);
    let problems: Vec<_> = report
        .unrepaired
        .iter()
        .map(|it| it.problem.as_str())
        .collect();
    assert!(
        matches!(problems[..], [problem] if problem.contains(&source) && problem.contains("wrong content")),
        "{problems:#?}"
    );
    let index = TreePath::Index(repo("b/c")).to_string();
    let stays = report.damage.iter().find(|it| it.path == index).unwrap();
    assert!(stays.problem.contains("export it again"), "{stays}");
    // The rest is not touched, and what is wrong is still there to be looked at.
    assert_eq!(fs::read(bench.path(&blob(b"small"))).unwrap(), b"smaII");
    for digest in [sha256(&large), manifest] {
        assert!(bench.path(&TreePath::Blob(digest)).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_was_killed_at_its_end_is_finished_by_the_next() {
    let (bench, ..) = sample().await;
    let source = bench.registry();
    let temporary = bench.tree().join(TEMPORARY);
    fs::write(temporary.join(DIRTY), "").unwrap();
    fs::write(temporary.join(".growing-killed"), "").unwrap();
    fs::remove_file(bench.tree().join("DIRECTORY_SIZES.txt")).unwrap();
    let at_work = TreeWriter::open(&bench.tree()).unwrap();
    assert!(bench.repair(&[&source]).await.summary.interrupted);
    drop(at_work);
    fs::write(temporary.join(".growing-killed"), "").unwrap();
    let report = bench.repair(&[&source]).await;
    assert_eq!(report.damage, [], "{report}");
    assert!(!report.summary.interrupted);
    assert!(bench.tree().join("DIRECTORY_SIZES.txt").exists());
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tree_still_has_under_another_name_is_not_fetched() {
    let (bench, large, _) = sample().await;
    fs::remove_file(bench.path(&blob(&large))).unwrap();
    bench.registry.take_log();
    let report = bench.repair(&[&bench.registry()]).await;
    assert_eq!(report.damage, [], "{report}");
    assert_eq!(bench.registry.take_log(), [] as [&str; 0]);
    bench.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_repairs_and_says_so_as_an_object() {
    let (bench, large, _) = sample().await;
    fs::write(bench.path(&blob(&large)), b"cut").unwrap();
    let before = snapshot(&bench.tree());
    let run = |repair: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
        command
            .args(["verify", "--json", "--plain-http", "--tree"])
            .arg(bench.tree())
            .args(repair)
            .env("HOME", bench.dir.path())
            .stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let output = run(&[]).await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        before == snapshot(&bench.tree()),
        "verify changes something"
    );
    let output = run(&["--repair", &bench.registry()]).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: verify::Report = serde_json::from_slice(&output.stdout).unwrap();
    let paths: Vec<_> = report.repaired.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, [blob(&large).to_string()]);
    bench.sound();
}
