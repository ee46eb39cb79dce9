//! Repair, from whoever has what is lost.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mirror_tool::exit::Exit;
use mirror_tool::{serve, verify};
use oci_mirror::digest::Digest;
use oci_mirror::tree::writer::{DIRTY, TEMPORARY};
use oci_mirror::tree::{TreePath, TreeWriter};
use tokio_util::sync::CancellationToken;

use super::{Bench, MIB, blob, repo, sha256, snapshot};
use crate::fake_registry::Fault;

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
