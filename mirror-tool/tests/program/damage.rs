//! Damage: in a tree, where it is found, named and made up for; and in a layout, from which it is not copied.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use mirror_tool::exit::Exit;
use mirror_tool::export::report::Status;
use mirror_tool::{export, verify};
use oci_mirror::digest::Algorithm;
use oci_mirror::tree::TreePath;

use crate::bench::{Bench, MIB, noise, only};

#[tokio::test(flavor = "multi_thread")]
async fn an_export_beside_it_is_no_damage_to_verify() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("first"), &[b"first"]);
    bench.sound(&bench.export(&["/a"]).await);
    let done = AtomicBool::new(false);
    let tree = bench.tree();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let verified = verify::run(&tree).unwrap();
                assert_eq!(verified.damage, [], "{verified}");
                looks += 1;
            }
            looks
        });
        let handle = tokio::runtime::Handle::current();
        for round in 0..15_u8 {
            for name in ["a", "b", "c"] {
                let layer = noise(u64::from(round), 200_000);
                let tag = format!("{name}{round}");
                bench
                    .registry
                    .image(name, Some(&tag), &[&layer, name.as_bytes()]);
            }
            let report =
                tokio::task::block_in_place(|| handle.block_on(bench.export(&["/a", "/b", "/c"])));
            assert_eq!(report.exit(), Exit::Fine);
        }
        done.store(true, Ordering::Relaxed);
        assert!(looking.join().unwrap() > 0);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_or_cut_is_brought_again() {
    let bench = Bench::new().await;
    let layer = noise(20, 2 * MIB);
    let manifest = bench.registry.image("a", Some("1"), &[&layer, b"small"]);
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    let repo: oci_mirror::tree::RepoDir = "a".parse().unwrap();
    let layer = Algorithm::Sha256.digest(&layer);
    let path = |path: TreePath| path.under(&bench.tree());
    let damages: [&dyn Fn(); 4] = [
        &|| fs::remove_file(path(TreePath::Blob(layer))).unwrap(),
        &|| fs::write(path(TreePath::Blob(layer)), "cut").unwrap(),
        &|| fs::write(path(TreePath::Blob(manifest)), "{").unwrap(),
        &|| fs::remove_file(path(TreePath::Link(repo.clone(), layer))).unwrap(),
    ];
    for damage in damages {
        damage();
        assert_ne!(verify::run(&bench.tree()).unwrap().damage, []);
        let report = bench.export(&["/a"]).await;
        bench.sound(&report);
        assert_eq!(only(&report).status, Status::Exported);
    }
    assert_eq!(bench.export(&["/a"]).await.totals.unchanged, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_is_copied_and_what_is_damaged_in_it_is_not() {
    let bench = Bench::new().await;
    bench
        .registry
        .image("a", Some("1"), &[b"layer", &noise(12, 2 * MIB)]);
    bench.registry.image("a", Some("2"), &[b"other"]);
    bench.sound(&bench.export(&["/a"]).await);

    // A repository of a tree is a layout.
    let layout = bench.tree().join("repos/a");
    let second = bench.dir.path().join("second");
    let source = format!("oci:{}", layout.display());
    let mut options = bench.options(&[&source]);
    options.tree.clone_from(&second);
    let report = export::run(options.clone()).await.unwrap();
    assert_eq!(report.totals.exported, 2, "{report:#?}");
    assert_eq!(verify::run(&second).unwrap().damage, []);
    assert_eq!(export::run(options).await.unwrap().totals.unchanged, 2);

    // An unlinked copy, so that only the layout is damaged.
    let victim = Algorithm::Sha256.digest(b"other");
    let path = layout.join(format!("blobs/sha256/{}", victim.hex()));
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"OTHER").unwrap();
    let third = bench.dir.path().join("third");
    let mut options = bench.options(&[&source]);
    options.tree.clone_from(&third);
    options.orders[0].dest_name = Some("renamed/a".parse().unwrap());
    let report = export::run(options).await.unwrap();
    assert_eq!((report.totals.exported, report.totals.failed), (1, 1));
    let error = report.failures().next().unwrap().error.as_deref().unwrap();
    assert!(error.contains(&victim.to_string()), "{error}");
    let verified = verify::run(&third).unwrap();
    assert_eq!((verified.damage.len(), verified.summary.tags), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_layout_without_a_tag_fails_alone_or_is_kept_by_digest() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    bench.registry.image("a", Some("2"), &[b"other"]);
    bench.sound(&bench.export(&["/a"]).await);
    let layout = bench.tree().join("repos/a");
    let path = layout.join("index.json");
    let text = fs::read_to_string(&path).unwrap();
    let source = format!("oci:{}", layout.display());

    let mut index: serde_json::Value = serde_json::from_str(&text).unwrap();
    let name = &mut index["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(name.as_str(), Some("2"), "{text}");
    *name = "feature/x".into();
    fs::remove_file(&path).unwrap();
    fs::write(&path, index.to_string()).unwrap();
    let mut options = bench.options(&[&source]);
    options.tree = bench.dir.path().join("second");
    let report = export::run(options.clone()).await.unwrap();
    assert_eq!((report.totals.exported, report.totals.failed), (1, 1));
    assert_eq!(report.exit(), Exit::Partial);
    let error = report.failures().next().unwrap().error.as_deref().unwrap();
    assert!(error.contains("feature/x"), "{error}");
    options.orders[0].selection.tags = Some(regex::Regex::new("^1$").unwrap());
    assert_eq!(export::run(options).await.unwrap().exit(), Exit::Fine);

    let mut index: serde_json::Value = serde_json::from_str(&text).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.truncate(1);
    entries[0].as_object_mut().unwrap().remove("annotations");
    fs::write(&path, index.to_string()).unwrap();
    let mut options = bench.options(&[&source]);
    options.tree = bench.dir.path().join("third");
    let report = export::run(options.clone()).await.unwrap();
    assert_eq!(report.exit(), Exit::Fine, "{report:#?}");
    let image = only(&report);
    assert_eq!((image.status, &image.tag), (Status::Exported, &None));
    assert_eq!(verify::run(&options.tree).unwrap().damage, []);
}

type Break = fn(&Path);

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_found_and_named() {
    let bench = Bench::new().await;
    let large = noise(13, 2 * MIB);
    let root = bench.registry.image("a", Some("1"), &[b"layer", &large]);
    bench.sound(&bench.export(&["/a"]).await);
    let (layer, large) = (
        Algorithm::Sha256.digest(b"layer"),
        Algorithm::Sha256.digest(&large),
    );
    let repo = || "a".parse().unwrap();
    let flip: Break = |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let remove: Break = |path| fs::remove_file(path).unwrap();
    let empty: Break = |path| fs::write(path, "").unwrap();
    let copy_of_other: Break = |path| {
        fs::remove_file(path).unwrap();
        fs::write(path, "other").unwrap();
    };
    for (path, harm, named) in [
        (TreePath::Blob(layer), flip, None),
        (TreePath::Blob(large), flip, None),
        (TreePath::Blob(root), flip, None),
        (TreePath::Blob(layer), remove, Some(TreePath::Index(repo()))),
        (TreePath::Pieces(large), flip, None),
        (TreePath::Pieces(large), remove, None),
        (TreePath::Pieces(large), empty, None),
        (TreePath::Link(repo(), layer), remove, None),
        (TreePath::Link(repo(), layer), copy_of_other, None),
        (TreePath::Layout(repo()), remove, None),
        (TreePath::Layout(repo()), empty, None),
        (TreePath::Index(repo()), empty, None),
        (TreePath::Index(repo()), remove, Some(TreePath::State)),
        (TreePath::State, remove, None),
        (TreePath::State, empty, None),
    ] {
        let copy = bench.dir.path().join("copy");
        copy_tree(&bench.tree(), &copy);
        harm(&path.under(&copy));
        let report = verify::run(&copy).unwrap();
        let named = named.unwrap_or(path.clone()).to_string();
        assert!(
            report.damage.iter().any(|damage| damage.path == named),
            "{path}: {report}"
        );
        assert_eq!(report.exit(), Exit::Damage);
        fs::remove_dir_all(&copy).unwrap();
    }
    fs::write(bench.tree().join("blobs/sha256/stray"), "").unwrap();
    let report = verify::run(&bench.tree()).unwrap();
    assert_eq!(report.damage[0].path, "blobs/sha256/stray");
}

/// Copies a tree with its hardlinks.
fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}
