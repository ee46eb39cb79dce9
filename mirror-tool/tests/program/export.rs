//! Export, verify and serve against a registry on loopback that fails on demand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mirror_tool::exit::Exit;
use mirror_tool::export::report::Status;
use mirror_tool::export::{self, Report};
use mirror_tool::{list, serve, verify};
use oci_mirror::digest::Algorithm;
use oci_mirror::media_type::MediaType;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::tree::{Catalog, Tree, TreePath, TreeWriter};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, MIB, noise, only, snapshot};
use crate::fake_registry::{Auth, FakeRegistry, Fault, descriptor};

#[track_caller]
fn failure(report: &Report) -> &str {
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

#[tokio::test(flavor = "multi_thread")]
async fn temporary_failures_are_retried_and_retry_after_is_obeyed() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let digest = Algorithm::Sha256.digest(b"layer");
    let wait = vec![("retry-after", "1".to_owned())];
    bench
        .registry
        .fail_once(&format!("/v2/a/blobs/{digest}"), Fault::Status(429, wait));
    bench
        .registry
        .fail_once("/v2/a/manifests/1", Fault::Status(500, vec![]));
    bench
        .registry
        .fail_once("/v2/a/tags/list", Fault::Status(503, vec![]));
    let started = Instant::now();
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_final_and_named() {
    for status in [403, 404, 410] {
        let bench = Bench::new().await;
        bench.registry.image("a", Some("1"), &[b"layer"]);
        bench
            .registry
            .fail("/v2/a/manifests/1", Fault::Status(status, vec![]));
        let report = bench.export(&["/a:1"]).await;
        let error = failure(&report);
        for part in ["a:1", &status.to_string(), "as you wished"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(bench.registry.count("GET", "/manifests/1"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_bounded_and_checked() {
    for fault in [
        Fault::Endless,
        Fault::HugeLength,
        Fault::WrongByte,
        Fault::Header(
            "docker-content-digest",
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        ),
        Fault::Header("content-type", "application/vnd.oci.image.index.v1+json"),
    ] {
        let bench = Bench::new().await;
        bench.registry.image("a", Some("1"), &[b"layer"]);
        bench.registry.fail("/v2/a/manifests/1", fault.clone());
        let report = bench.export(&["/a:1"]).await;
        assert!(failure(&report).contains("a:1"), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_digest_fields_or_head_is_served_too() {
    for fault in [
        Fault::NoHeader("docker-content-digest"),
        Fault::Header("content-type", "application/octet-stream"),
    ] {
        let bench = Bench::new().await;
        bench.registry.image("a", Some("1"), &[b"layer"]);
        bench.registry.fail("/v2/a/manifests/1", fault);
        let report = bench.export(&["/a"]).await;
        bench.sound(&report);
        let again = bench.export(&["/a"]).await;
        assert_eq!(again.totals.unchanged, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_over_many_pages_and_may_be_none() {
    let bench = Bench::new().await;
    bench.registry.set_page(3);
    for number in 0..10 {
        bench
            .registry
            .image("a", Some(&format!("1.{number}")), &[b"layer"]);
    }
    bench
        .registry
        .manifest("empty", None, &MediaType::OCI_INDEX, String::new());
    let mut options = bench.options(&["/a", "/empty"]);
    options.orders[0].selection.exclude_tags = Some(regex::Regex::new(r"\.[01]$").unwrap());
    let report = export::run(options).await.unwrap();
    assert_eq!((report.totals.exported, report.totals.failed), (8, 1));
    assert_eq!(bench.registry.count("GET", "/v2/a/tags/list"), 4);
    let error = report.failures().next().unwrap().error.as_deref().unwrap();
    assert!(error.contains("no tag"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_page_by_another_name_is_asked_of_our_own_host() {
    let bench = Bench::new().await;
    bench.registry.set_page(2);
    for tag in ["1", "2", "3"] {
        bench.registry.image("a", Some(tag), &[b"layer"]);
    }
    let path = "/v2/a/tags/list";
    let link = "<http://inside.invalid/v2/a/tags/list?last=2>; rel=next";
    bench.registry.fail_once(path, Fault::Header("link", link));
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert_eq!(report.totals.exported, 3);

    let link = "<mailto:a@inside.invalid>; rel=next";
    bench.registry.fail(path, Fault::Header("link", link));
    let report = bench.export(&["/a"]).await;
    assert!(failure(&report).contains("mailto:"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_once_and_renewed_when_it_expires() {
    let bench = Bench::new().await;
    bench.registry.set_auth(Auth::Bearer(None));
    for tag in ["1", "2"] {
        bench
            .registry
            .image("a", Some(tag), &[tag.as_bytes(), b"x"]);
    }
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert_eq!(bench.registry.count("GET", "/token"), 1);

    let slow = Fault::Slow(Duration::from_secs(1));
    bench.registry.image("a", Some("3"), &[b"3"]);
    bench.registry.fail("/v2/a/tags/list", slow);
    let list = "/v2/a/tags/list";
    let before = bench.registry.count("GET", list);
    let run = bench.export(&["/a"]);
    let expire = async {
        // Refused without a token, then asked with one: it expires while the answer is awaited.
        while bench.registry.count("GET", list) < before + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.registry.expire_tokens();
    };
    let (report, ()) = tokio::join!(run, expire);
    bench.sound(&report);
    assert_eq!(bench.registry.count("GET", "/token"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_logins_open_what_they_should_and_wrong_ones_are_named() {
    for auth in [
        Auth::Bearer(Some(("me", "secret"))),
        Auth::Basic("me", "secret"),
    ] {
        let bench = Bench::new().await;
        bench.registry.set_auth(auth);
        bench.registry.image("a", Some("1"), &[b"layer"]);
        let authfile = bench.dir.path().join("auth.json");
        let host = bench.registry.address;
        // me:wrong, then me:secret
        for (encoded, works) in [("bWU6d3Jvbmc=", false), ("bWU6c2VjcmV0", true)] {
            let content = format!(r#"{{"auths":{{"{host}":{{"auth":"{encoded}"}}}}}}"#);
            fs::write(&authfile, content).unwrap();
            let mut options = bench.options(&["/a:1"]);
            options.credentials = Credentials::load(Some(&authfile)).unwrap();
            let report = export::run(options).await.unwrap();
            if works {
                bench.sound(&report);
            } else {
                let error = failure(&report);
                assert!(error.contains(&host.to_string()), "{error}");
                assert!(
                    !error.contains("wrong:") && !error.contains("bWU6"),
                    "{error}"
                );
            }
        }
        let log = bench.registry.take_log();
        assert!(log.len() < 30, "hammered: {log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_gets_no_token_and_one_without_end_is_left() {
    let bench = Bench::new().await;
    let store = FakeRegistry::start().await;
    bench.registry.set_auth(Auth::Bearer(None));
    let layer = noise(16, 2 * MIB);
    bench.registry.image("a", Some("1"), &[&layer]);
    let digest = store.blob(layer);
    let path = format!("/v2/a/blobs/{digest}");
    let there = format!("http://{}{path}", store.address);
    bench
        .registry
        .fail(&path, Fault::Status(307, vec![("location", there)]));
    store.fail_once(&path, Fault::Truncate(MIB + 1));
    let report = bench.export(&["/a:1"]).await;
    bench.sound(&report);
    // The resumed transfer asked the registry again, whose redirects may expire.
    assert_eq!(bench.registry.count("GET", &path), 2);
    assert_eq!((store.count("GET", &path), store.authorized()), (2, 0));

    bench.registry.image("a", Some("2"), &[b"loop"]);
    let digest = Algorithm::Sha256.digest(b"loop");
    let path = format!("/v2/a/blobs/{digest}");
    let circle = Fault::Status(302, vec![("location", path.clone())]);
    bench.registry.fail(&path, circle);
    let report = bench.export(&["/a:2"]).await;
    assert!(failure(&report).contains(&digest.to_string()));
    assert_eq!(bench.registry.count("GET", &path), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_request_is_told_to_wait_all_do() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("0"), &[b"0"]);
    bench.registry.image("a", Some("slow"), &[b"layer"]);
    let wait = vec![("retry-after", "2".to_owned())];
    bench
        .registry
        .fail_once("/v2/a/manifests/0", Fault::Status(429, wait));
    let slow = Fault::Slow(Duration::from_millis(300));
    bench.registry.fail("/v2/a/manifests/slow", slow);
    let layer = Algorithm::Sha256.digest(b"layer").to_string();
    let early = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        bench.registry.count("GET", &layer)
    };
    let (report, early) = tokio::join!(bench.export(&["/a:0", "/a:slow"]), early);
    bench.sound(&report);
    assert_eq!((early, bench.registry.count("GET", &layer)), (0, 1));
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

/// The real program, against the fake registry.
fn program(bench: &Bench, tree: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
    command
        .args([
            "export",
            "--plain-http",
            "--retries",
            "1",
            "--json",
            "--tree",
        ])
        .arg(tree)
        .args(arguments)
        .env("HOME", bench.dir.path())
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("DOCKER_CONFIG")
        .env_remove("REGISTRY_AUTH_FILE")
        .stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_ends_with_the_status_that_sums_it_up() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let good = format!("docker://{}/a:1", bench.registry.address);
    let bad = format!("{}/a:2", bench.registry.address);
    for (arguments, status) in [
        (&[good.as_str()][..], 0),
        (&[&bad], 1),
        (&[&good, &bad], 4),
        (&["not a source"], 2),
        (&[&good, "--authfile", "/no/such/file"], 1),
    ] {
        let tree = bench.tree();
        let mut command = program(&bench, &tree, arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {output:?}"
        );
        if [0, 4].contains(&status) {
            let report: Report = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report.images.len(), arguments.len());
        }
    }
    let blob = TreePath::Blob(Algorithm::Sha256.digest(b"layer"));
    let path = blob.under(&bench.tree());
    fs::write(&path, b"LAYER").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mirror-tool"))
        .args(["verify", "--tree"])
        .arg(bench.tree())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.starts_with(&format!("{blob}: its content is ")),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_helper_is_asked_for_the_login() {
    let bench = Bench::new().await;
    bench
        .registry
        .set_auth(Auth::Bearer(Some(("me", "secret"))));
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let host = bench.registry.address;
    let helper = bench.dir.path().join("docker-credential-fake");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {host} ] || exit 1\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"secret\"}}'\n"
    );
    fs::write(&helper, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&helper, executable).unwrap();
    fs::create_dir(bench.dir.path().join(".docker")).unwrap();
    let config = format!(r#"{{"credHelpers":{{"{host}":"fake"}}}}"#);
    fs::write(bench.dir.path().join(".docker/config.json"), config).unwrap();
    let path = format!(
        "{}:{}",
        bench.dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = program(&bench, &bench.tree(), &[&format!("{host}/a")]);
    command.env("PATH", path);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_error() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    bench.sound(&bench.export(&["/a"]).await);
    let mut child = Command::new(env!("CARGO_BIN_EXE_mirror-tool"))
        .args(["list", "--json", "--tree"])
        .arg(bench.tree())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_stops_cleanly() {
    let bench = Bench::new().await;
    let stalled = noise(15, 3 * MIB);
    bench.registry.image("a", Some("1"), &[&stalled]);
    let digest = Algorithm::Sha256.digest(&stalled);
    bench
        .registry
        .fail(&format!("/v2/a/blobs/{digest}"), Fault::Stall);
    let source = format!("{}/a", bench.registry.address);
    let child = program(&bench, &bench.tree(), &[&source])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(Duration::from_secs(10), output).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(failure(&report).contains("stopped"));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_served_tree_can_be_read_like_any_mirror() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    bench.sound(&bench.export(&["/a"]).await);
    let mirror = serve::bind(&bench.tree(), &"127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = mirror.local_addresses()[0];
    let shutdown = CancellationToken::new();
    let path = TreePath::Blob(Algorithm::Sha256.digest(b"layer"));
    let stop = shutdown.clone();
    let client = async move {
        let output = tokio::process::Command::new("curl")
            .args(["-sS", "-r", "1-3", &format!("http://{address}/{path}")])
            .output()
            .await
            .unwrap();
        stop.cancel();
        output
    };
    let ((), output) = tokio::join!(mirror.run(shutdown), client);
    assert_eq!(output.stdout, b"aye", "{output:?}");
}

/// How a program ends whose standard output, or else standard error, nobody reads.
async fn unread(mut command: Command, out: bool) -> Option<i32> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if out {
        drop(child.stdout.take());
    } else {
        drop(child.stderr.take());
    }
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    output.await.unwrap().status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_hides_neither_failure_nor_damage() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let good = format!("{}/a:1", bench.registry.address);
    let bad = format!("{}/a:2", bench.registry.address);
    let export = |source: &str| program(&bench, &bench.tree(), &[source]);
    let verify = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
        command.args(["verify", "--tree"]).arg(bench.tree());
        command
    };
    // Progress that nobody reads must not end the run in its middle.
    assert_eq!(unread(export(&good), false).await, Some(0));
    assert!(TreePath::State.under(&bench.tree()).exists());
    assert_eq!(unread(export(&good), true).await, Some(0));
    assert_eq!(unread(export(&bad), true).await, Some(1));
    assert_eq!(unread(export(&bad), false).await, Some(1));
    assert_eq!(unread(verify(), true).await, Some(0));
    let blob = TreePath::Blob(Algorithm::Sha256.digest(b"layer"));
    fs::write(blob.under(&bench.tree()), b"LAYER").unwrap();
    assert_eq!(unread(verify(), true).await, Some(3));
    assert_eq!(unread(verify(), false).await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_start_is_an_object_too() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let source = format!("{}/a:1", bench.registry.address);
    let lock = TreeWriter::open(&bench.tree()).unwrap();
    for (arguments, reason) in [
        (&[source.as_str()][..], "locked"),
        (&[&source, "--authfile", "/no/such/file"], "/no/such/file"),
        (&[&source, "--tls-ca", "/no/such/file"], "/no/such/file"),
    ] {
        let mut command = program(&bench, &bench.tree(), arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report.images, []);
        assert!(report.error.unwrap().contains(reason), "{reason}");
    }
    drop(lock);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_tags_are_warned_of_once_and_without_colour() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    for number in 0..50 {
        let name = format!("-{number}");
        bench.registry.image("a", Some(&name), &[b"layer"]);
    }
    let source = format!("{}/a", bench.registry.address);
    let mut command = program(&bench, &bench.tree(), &[&source]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    let examples = warnings[0].matches("`-").count();
    assert!(warnings[0].contains("50") && examples == 3, "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}
