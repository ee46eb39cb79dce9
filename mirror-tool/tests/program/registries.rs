//! What registries answer: failures, refusals, pages of tags, and how they ask who it is.

use std::fs;
use std::time::{Duration, Instant};

use mirror_tool::export;
use oci_mirror::digest::Algorithm;
use oci_mirror::media_type::MediaType;
use oci_mirror::registry::credentials::Credentials;

use crate::bench::{Bench, MIB, noise};
use crate::export::failure;
use crate::fake_registry::{Auth, FakeRegistry, Fault};

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
