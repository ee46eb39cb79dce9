//! What one export brings, keeps and leaves out.

use std::fs;
use std::time::{Duration, Instant};

use mirror_tool::exit::Exit;
use mirror_tool::export::Report;
use mirror_tool::export::report::Status;
use mirror_tool::{export, list, verify};
use oci_mirror::digest::Algorithm;
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::{Catalog, Tree};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, MIB, noise, only, snapshot};
use crate::fake_registry::{Fault, descriptor};

#[track_caller]
pub(crate) fn failure(report: &Report) -> &str {
    let image = only(report);
    assert_eq!(image.status, Status::Failed, "{image:#?}");
    image.error.as_deref().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_blob_is_fetched_once_even_by_two_images_at_the_same_moment() {
    let bench = Bench::new().await;
    let (shared, large) = (noise(1, 3000), noise(2, 3 * MIB));
    for tag in ["1", "2", "3"] {
        bench
            .registry
            .image("a/b", Some(tag), &[&shared, &large, tag.as_bytes()]);
    }
    bench.registry.image("c", Some("1"), &[&shared, &large]);
    let report = bench.export(&["/a/b", "/c"]).await;
    bench.sound(&report);
    assert_eq!(report.totals.exported, 4);
    for layer in [shared, large] {
        let digest = Algorithm::Sha256.digest(&layer);
        let requests = bench.registry.count("GET", &format!("/blobs/{digest}"));
        assert_eq!(requests, 1, "{digest}");
    }
    let on_disk: u64 = list::run(&bench.tree()).unwrap().bytes;
    assert_eq!(report.totals.bytes_fetched, on_disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_run_asks_once_per_tag_and_touches_no_file() {
    let bench = Bench::new().await;
    for tag in ["1", "2", "3"] {
        bench.registry.image("a", Some(tag), &[tag.as_bytes()]);
    }
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    let before = snapshot(&bench.tree());
    bench.registry.take_log();
    let report = bench.export(&["/a"]).await;
    assert_eq!(report.totals.unchanged, 3);
    let mut log = bench.registry.take_log();
    log.sort();
    let expected = [
        "GET /v2/a/tags/list",
        "HEAD /v2/a/manifests/1",
        "HEAD /v2/a/manifests/2",
        "HEAD /v2/a/manifests/3",
    ];
    assert_eq!(log, expected);
    assert!(before == snapshot(&bench.tree()), "a file was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_tag_costs_only_what_is_new() {
    let bench = Bench::new().await;
    let base = noise(3, 2 * MIB);
    bench.registry.image("a", Some("1"), &[&base, b"old"]);
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    let moved = bench.registry.image("a", Some("1"), &[&base, b"new"]);
    bench.registry.take_log();
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert_eq!(only(&report).digest, Some(moved));
    let base = Algorithm::Sha256.digest(&base);
    assert_eq!(bench.registry.count("GET", &base.to_string()), 0);
    let catalog = Catalog::load(&Tree::open(&bench.tree()).unwrap(), None).unwrap();
    assert_eq!(catalog.state().serial, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_image_does_not_stop_the_others() {
    let bench = Bench::new().await;
    let bad = noise(4, 5000);
    bench.registry.image("a", Some("bad"), &[&bad]);
    bench.registry.image("a", Some("good"), &[b"good"]);
    let digest = Algorithm::Sha256.digest(&bad);
    bench
        .registry
        .fail(&format!("/v2/a/blobs/{digest}"), Fault::Status(404, vec![]));
    let report = bench.export(&["/a", "/no/such"]).await;
    assert_eq!((report.totals.exported, report.totals.failed), (1, 2));
    assert_eq!(report.exit(), Exit::Partial);
    let failures: Vec<_> = report.failures().collect();
    assert!(failures[0].source.ends_with("/a:bad"), "{failures:#?}");
    let error = failures[0].error.as_deref().unwrap();
    assert!(
        error.contains(&digest.to_string()) && error.contains("404"),
        "{error}"
    );
    assert!(
        failures[1]
            .error
            .as_deref()
            .unwrap()
            .contains("NAME_UNKNOWN")
    );
    assert_eq!(verify::run(&bench.tree()).unwrap().damage, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_written_does_not_stop_the_others() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.registry.image(name, Some("1"), &[name.as_bytes()]);
    }
    // A directory where the index of `b` has to go: it can be neither read nor replaced.
    fs::create_dir_all(bench.tree().join("repos/b/index.json")).unwrap();
    let report = bench.export(&["/a", "/b", "/c"]).await;
    assert_eq!(
        (report.totals.exported, report.totals.failed),
        (2, 1),
        "{report:#?}"
    );
    let failed = report.failures().next().unwrap();
    assert!(failed.source.ends_with("/b:1"), "{failed:#?}");
    assert!(
        failed.error.as_deref().unwrap().contains("index.json"),
        "{failed:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_kept_whole_and_platforms_are_left_out_of_its_closure() {
    let bench = Bench::new().await;
    let amd = bench.registry.image("a", None, &[b"amd"]);
    let arm = bench.registry.image("a", None, &[b"arm"]);
    let inner = bench.registry.index("a", None, &[(arm, "linux/arm64")]);
    let index = bench.registry.index(
        "a",
        Some("1"),
        &[(amd, "linux/amd64"), (arm, "linux/arm64"), (inner, "")],
    );
    let mut options = bench.options(&["/a"]);
    options.orders[0].platforms = vec!["linux/amd64".parse().unwrap()];
    let report = export::run(options).await.unwrap();
    // The nested index has nothing for the platform, which is no reason to do without the rest.
    bench.sound(&report);
    assert_eq!(only(&report).platforms_left_out, 2);
    assert!(bench.holds(index) && bench.holds(inner) && !bench.holds(arm));

    let index_of_two = bench.registry.index(
        "a",
        Some("1"),
        &[(amd, "linux/amd64"), (arm, "linux/arm64")],
    );
    let mut options = bench.options(&["/a"]);
    options.orders[0].platforms = vec!["linux/amd64".parse().unwrap()];
    let report = export::run(options).await.unwrap();
    bench.sound(&report);
    assert_eq!(only(&report).platforms_left_out, 1);
    assert!(bench.holds(index_of_two) && bench.holds(amd) && !bench.holds(arm));
    assert_eq!(verify::run(&bench.tree()).unwrap().summary.left_out, 1);

    // The same index, wanted whole now, is not "unchanged".
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert_eq!(only(&report).status, Status::Exported);
    assert!(bench.holds(arm));
    assert_eq!(bench.export(&["/a"]).await.totals.unchanged, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_repository_holds_is_not_taken_for_its_own() {
    let bench = Bench::new().await;
    let mut images = Vec::new();
    for name in ["whole", "part"] {
        let amd = bench.registry.image(name, None, &[b"amd"]);
        let arm = bench.registry.image(name, None, &[b"arm"]);
        let children = [(amd, "linux/amd64"), (arm, "linux/arm64")];
        images.push(bench.registry.index(name, Some("1"), &children));
    }
    let report = bench.export(&["/whole"]).await;
    bench.sound(&report);
    let mut options = bench.options(&["/part"]);
    options.orders[0].platforms = vec!["linux/amd64".parse().unwrap()];
    let report = export::run(options).await.unwrap();
    // The tree has the other platform, for the other repository; that is no damage here.
    bench.sound(&report);
    let report = bench.export(&["/part"]).await;
    bench.sound(&report);
    assert_eq!(
        only(&report).status,
        Status::Exported,
        "it was not complete"
    );
    assert_eq!(verify::run(&bench.tree()).unwrap().summary.left_out, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_index_is_followed() {
    let bench = Bench::new().await;
    let image = bench.registry.image("a", None, &[b"layer"]);
    let inner = bench.registry.index("a", None, &[(image, "linux/amd64")]);
    bench
        .registry
        .index("a", Some("1"), &[(inner, ""), (image, "linux/amd64")]);
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert!(bench.holds(image) && bench.holds(inner));
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_without_end_are_refused() {
    let bench = Bench::new().await;
    let mut digest = bench.registry.image("a", None, &[b"layer"]);
    for _ in 0..12 {
        digest = bench.registry.index("a", Some("1"), &[(digest, "")]);
    }
    let report = bench.export(&["/a"]).await;
    assert!(failure(&report).contains("nested"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_may_not_be_handed_on_are_left_out() {
    let bench = Bench::new().await;
    let config = bench.registry.blob("{}");
    let foreign = Algorithm::Sha256.digest(b"windows");
    let content = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        MediaType::DOCKER_MANIFEST,
        descriptor("application/vnd.docker.container.image.v1+json", &config, 2),
        descriptor(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            &foreign,
            7
        ),
    );
    bench
        .registry
        .manifest("a", Some("1"), &MediaType::DOCKER_MANIFEST, content);
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert_eq!(only(&report).layers_left_out, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_that_lies_about_a_size_is_refused() {
    let bench = Bench::new().await;
    let config = bench.registry.blob("{}");
    for (tag, size) in [("1", 2), ("2", 3), ("3", 2 * MIB)] {
        let content = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[]}}"#,
            MediaType::OCI_MANIFEST,
            descriptor("application/vnd.oci.image.config.v1+json", &config, size),
        );
        bench
            .registry
            .manifest("a", Some(tag), &MediaType::OCI_MANIFEST, content);
    }
    let mut options = bench.options(&["/a"]);
    options.jobs = 1;
    let report = export::run(options).await.unwrap();
    assert_eq!(
        (report.totals.exported, report.totals.failed),
        (1, 2),
        "{report:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_by_digest_is_kept_without_a_tag() {
    let bench = Bench::new().await;
    let image = bench.registry.image("a", None, &[b"layer"]);
    let source = format!("/a@{image}");
    let report = bench.export(&[&source]).await;
    bench.sound(&report);
    assert_eq!(only(&report).tag, None);
    bench.registry.take_log();
    let report = bench.export(&[&source]).await;
    assert_eq!(report.totals.unchanged, 1);
    // Nothing but what says whether a signature has come meanwhile.
    assert_eq!(bench.registry.take_log(), ["GET /v2/a/tags/list"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_collide_are_refused() {
    let bench = Bench::new().await;
    bench.registry.image("x/blobs/y", Some("1"), &[b"layer"]);
    let report = bench.export(&["/x/blobs/y:1"]).await;
    assert!(failure(&report).contains("--dest-name"));

    bench.registry.image("one", Some("1"), &[b"one"]);
    bench.registry.image("two", Some("1"), &[b"two"]);
    let mut options = bench.options(&["/one:1", "/two:1", "/one:1"]);
    for order in &mut options.orders {
        order.dest_name = Some("both".parse().unwrap());
    }
    let report = export::run(options).await.unwrap();
    assert_eq!((report.totals.exported, report.totals.failed), (1, 1));
    let error = report.failures().next().unwrap().error.as_deref().unwrap();
    assert!(
        error.contains("both:1") && error.contains("/one"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_exporter_is_told_the_tree_is_locked() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let slow = Fault::Slow(Duration::from_millis(500));
    bench.registry.fail("/v2/a/manifests/1", slow);
    let first = bench.export(&["/a"]);
    let second = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        export::run(bench.options(&["/a"])).await
    };
    let (first, second) = tokio::join!(first, second);
    bench.sound(&first);
    assert!(second.unwrap_err().to_string().contains("locked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_fetches_and_writes_nothing() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let mut options = bench.options(&["/a"]);
    options.dry_run = true;
    let report = export::run(options).await.unwrap();
    assert_eq!(report.totals.pending, 1);
    let mut log = bench.registry.take_log();
    log.retain(|line| line.contains("/blobs/"));
    assert_eq!(log, Vec::<String>::new());
    assert!(!bench.tree().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_leaves_a_sound_tree() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("quick"), &[b"layer"]);
    let stalled = noise(11, 3 * MIB);
    bench.registry.image("a", Some("slow"), &[&stalled]);
    let digest = Algorithm::Sha256.digest(&stalled);
    bench
        .registry
        .fail(&format!("/v2/a/blobs/{digest}"), Fault::Stall);
    let mut options = bench.options(&["/a"]);
    options.connection.read_timeout = Duration::from_secs(60);
    options.shutdown = CancellationToken::new();
    let shutdown = options.shutdown.clone();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        shutdown.cancel();
    };
    let started = Instant::now();
    let (report, ()) = tokio::join!(export::run(options), stop);
    let report = report.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!((report.totals.exported, report.totals.failed), (1, 1));
    bench.registry.heal();
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
}
