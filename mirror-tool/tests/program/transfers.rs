//! Transfers that break, stall or bring wrong bytes.

use std::time::Duration;

use mirror_tool::exit::Exit;
use mirror_tool::export;
use oci_mirror::digest::Algorithm;

use crate::bench::{Bench, MIB, noise};
use crate::export::failure;
use crate::fake_registry::Fault;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_never_get_a_name_in_the_tree() {
    for (length, fault) in [
        (5000, Fault::WrongByte),
        (2 * MIB, Fault::WrongByte),
        (5000, Fault::Short(1)),
        (2 * MIB, Fault::Short(1)),
        (5000, Fault::Endless),
        (2 * MIB, Fault::Endless),
        (5000, Fault::Header("content-encoding", "gzip")),
        (2 * MIB, Fault::Header("content-encoding", "gzip")),
    ] {
        let bench = Bench::new().await;
        let layer = noise(5, length);
        bench.registry.image("a", Some("1"), &[&layer]);
        let digest = Algorithm::Sha256.digest(&layer);
        let path = format!("/v2/a/blobs/{digest}");
        bench.registry.fail(&path, fault.clone());
        let report = bench.export(&["/a:1"]).await;
        let error = failure(&report);
        assert!(error.contains(&digest.to_string()), "{fault:?}: {error}");
        assert!(!bench.holds(digest), "{fault:?}");
        assert!(bench.registry.count("GET", &path) <= 2, "{fault:?}");
        assert_eq!(report.exit(), Exit::Failed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_once_are_made_up_for() {
    for length in [5000, 2 * MIB] {
        let bench = Bench::new().await;
        let layer = noise(6, length);
        bench.registry.image("a", Some("1"), &[&layer]);
        let digest = Algorithm::Sha256.digest(&layer);
        let path = format!("/v2/a/blobs/{digest}");
        bench.registry.fail_once(&path, Fault::WrongByte);
        let report = bench.export(&["/a:1"]).await;
        bench.sound(&report);
        assert_eq!(bench.registry.count("GET", &path), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let bench = Bench::new().await;
    let layer = noise(7, 12 * MIB);
    bench.registry.image("a", Some("1"), &[&layer]);
    let digest = Algorithm::Sha256.digest(&layer);
    let path = format!("/v2/a/blobs/{digest}");
    // More breaks than tries: progress starts the count again.
    for _ in 0..5 {
        bench
            .registry
            .fail_once(&path, Fault::Truncate(2 * MIB + 5));
    }
    let report = bench.export(&["/a:1"]).await;
    bench.sound(&report);
    assert_eq!(bench.registry.count("GET", &path), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_ignores_ranges_is_read_from_the_start() {
    let bench = Bench::new().await;
    let layer = noise(8, 4 * MIB);
    bench.registry.image("a", Some("1"), &[&layer]);
    let digest = Algorithm::Sha256.digest(&layer);
    let path = format!("/v2/a/blobs/{digest}");
    bench.registry.fail_once(&path, Fault::Truncate(3 * MIB));
    bench.registry.fail_once(&path, Fault::IgnoreRange);
    let report = bench.export(&["/a:1"]).await;
    bench.sound(&report);
    assert_eq!(bench.registry.count("GET", &path), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_always_breaks_ends() {
    for length in [5000, 2 * MIB] {
        let bench = Bench::new().await;
        let layer = noise(9, length);
        bench.registry.image("a", Some("1"), &[&layer]);
        let digest = Algorithm::Sha256.digest(&layer);
        let path = format!("/v2/a/blobs/{digest}");
        bench.registry.fail(&path, Fault::Truncate(1000));
        let report = bench.export(&["/a:1"]).await;
        assert!(failure(&report).contains(&digest.to_string()));
        assert_eq!(bench.registry.count("GET", &path), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_starts_over_and_breaks_every_time_is_left() {
    let bench = Bench::new().await;
    let layer = noise(30, 6 * MIB);
    bench.registry.image("a", Some("1"), &[&layer]);
    let digest = Algorithm::Sha256.digest(&layer);
    let path = format!("/v2/a/blobs/{digest}");
    for _ in 0..20 {
        for length in [3 * MIB, 1000] {
            bench
                .registry
                .fail_once(&path, Fault::TruncateFromStart(length));
        }
    }
    let report = bench.export(&["/a:1"]).await;
    assert!(failure(&report).contains(&digest.to_string()));
    // One that gets somewhere, and the tries for getting further.
    assert_eq!(bench.registry.count("GET", &path), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_to_go_on_is_met_by_starting_over_once() {
    let wrong_range = Fault::Header("content-range", "bytes 7-9/10");
    for refusal in [Fault::Status(416, vec![]), wrong_range] {
        for (breaks, works) in [(1, true), (2, false)] {
            let bench = Bench::new().await;
            let layer = noise(31, 4 * MIB);
            bench.registry.image("a", Some("1"), &[&layer]);
            let digest = Algorithm::Sha256.digest(&layer);
            let path = format!("/v2/a/blobs/{digest}");
            for _ in 0..breaks {
                bench.registry.fail_once(&path, Fault::Truncate(2 * MIB));
                bench.registry.fail_once(&path, refusal.clone());
            }
            let report = bench.export(&["/a:1"]).await;
            if works {
                bench.sound(&report);
                assert_eq!(bench.registry.count("GET", &path), 3, "{refusal:?}");
            } else {
                assert!(failure(&report).contains(&digest.to_string()));
                assert_eq!(bench.registry.count("GET", &path), 4, "{refusal:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_does_not_hold_up_the_run() {
    let trickle = Fault::Trickle(Duration::from_millis(20));
    for (length, victim) in [(5000, "blob"), (2 * MIB, "blob"), (5000, "manifest")] {
        let bench = Bench::new().await;
        let layer = noise(32, length);
        bench.registry.image("a", Some("1"), &[&layer]);
        let digest = Algorithm::Sha256.digest(&layer);
        let path = match victim {
            "blob" => format!("/v2/a/blobs/{digest}"),
            _ => "/v2/a/manifests/1".to_owned(),
        };
        bench.registry.fail(&path, trickle.clone());
        let mut options = bench.options(&["/a:1"]);
        options.connection.slowest.per = Duration::from_millis(300);
        options.connection.answer_timeout = Duration::from_millis(300);
        let run = tokio::time::timeout(Duration::from_secs(10), export::run(options));
        let report = run.await.unwrap().unwrap();
        assert!(failure(&report).contains("too slowly"), "{report:#?}");
        assert_eq!(bench.registry.count("GET", &path), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_only_fails_is_given_up() {
    let bench = Bench::new().await;
    for number in 0..100 {
        let tag = format!("{number}");
        bench.registry.image("a", Some(&tag), &[b"layer"]);
        let path = format!("/v2/a/manifests/{tag}");
        bench.registry.fail(&path, Fault::Status(503, vec![]));
    }
    bench.registry.image("a", Some("good"), &[b"layer"]);
    let report = bench.export(&["/a"]).await;
    assert!(report.totals.failed >= 100, "{report:#?}");
    let last = report.failures().last().unwrap().error.as_deref();
    let given_up = report
        .failures()
        .filter(|image| image.error.as_deref().unwrap().contains("given up"));
    assert!(given_up.count() >= 60, "{last:?}");
    // 20 failures of 4 tries each, and what was under way beside the last.
    let requests = bench.registry.take_log().len();
    assert!(requests <= 110, "{requests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn some_failing_tags_do_not_make_a_registry_dead() {
    let bench = Bench::new().await;
    for number in 0..30 {
        let tag = format!("bad-{number}");
        bench.registry.image("a", Some(&tag), &[b"layer"]);
        let path = format!("/v2/a/manifests/{tag}");
        bench.registry.fail(&path, Fault::Status(503, vec![]));
        bench
            .registry
            .image("a", Some(&format!("good-{number}")), &[b"layer"]);
    }
    let mut options = bench.options(&["/a"]);
    options.connection.retry.retries = 0;
    options.connection.give_up_after = 31;
    let report = export::run(options).await.unwrap();
    assert_eq!((report.totals.exported, report.totals.failed), (30, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_do_not_make_more_transfers_than_there_are_threads_for() {
    let bench = Bench::new().await;
    for number in 0..150 {
        let layer = format!("{number}");
        bench.registry.image("a", Some(&layer), &[layer.as_bytes()]);
        let digest = Algorithm::Sha256.digest(layer.as_bytes());
        let slow = Fault::Slow(Duration::from_millis(500));
        bench.registry.fail(&format!("/v2/a/blobs/{digest}"), slow);
    }
    let mut options = bench.options(&["/a"]);
    options.jobs = 256;
    let report = export::run(options).await.unwrap();
    bench.sound(&report);
    assert!(bench.registry.busiest() <= export::MAX_TRANSFERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_noticed_and_resumed() {
    let bench = Bench::new().await;
    let layer = noise(10, 4 * MIB);
    bench.registry.image("a", Some("1"), &[&layer]);
    let digest = Algorithm::Sha256.digest(&layer);
    bench
        .registry
        .fail_once(&format!("/v2/a/blobs/{digest}"), Fault::Stall);
    let mut options = bench.options(&["/a:1"]);
    options.connection.read_timeout = Duration::from_millis(300);
    let report = export::run(options).await.unwrap();
    bench.sound(&report);
}
