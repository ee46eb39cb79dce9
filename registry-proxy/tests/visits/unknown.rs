//! What cannot be told, and mirrors that fail.

use registry_proxy::crawler::Depth;
use registry_proxy::network::NewHost;

use crate::bench::{BLOBS, Bench, name, new_host, only, path};
use crate::hostile_mirror::{Fault, HostileMirror};

#[tokio::test]
async fn what_gets_no_usable_answer_is_neither_missing_nor_verified() {
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Status(401),
        Fault::Status(206),
        Fault::Close,
        Fault::Truncated,
        Fault::Redirect("/loop".to_owned()),
        Fault::Redirect("ftp://127.0.0.1/x".to_owned()),
        Fault::Redirect("http://127.0.0.1:1/refused".to_owned()),
    ] {
        for blob in [0, 5] {
            let bench = Bench::new();
            let mirror = bench.mirror("m").await;
            mirror.fail("/loop", Fault::Redirect("/loop".to_owned()));
            let digest = bench.nth(blob);
            mirror.fail(path(&digest), fault.clone());
            let report = bench.crawl(Depth::Full).await;
            let host = only(&report);
            assert_eq!(
                (host.verified, host.missing, host.damaged, host.unknown),
                (BLOBS - 1, 0, 0, 1),
                "{fault:?} at blob {blob}: {host:?}"
            );
            assert_eq!(
                bench.offered("m").await,
                bench.all_but(&digest),
                "{fault:?} at blob {blob}"
            );
        }
    }
}

#[tokio::test]
async fn a_mirror_without_one_usable_answer_has_failed() {
    for (fault, reason) in [
        (Fault::Status(503), "503"),
        (Fault::Close, "connection"),
        (Fault::Redirect("/loop".to_owned()), "redirect"),
    ] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        bench.crawl(Depth::Full).await;
        mirror.take_asked();
        mirror.fail_everywhere(fault.clone());
        let report = bench.crawl(Depth::Full).await;
        let failure = only(&report).failure.clone().unwrap();
        assert!(failure.contains(reason), "{fault:?}: {failure}");
        // One of them for the state; each redirect is a request too.
        let requests = if matches!(fault, Fault::Redirect(_)) {
            4 * 6
        } else {
            4
        };
        assert_eq!(only(&report).requests, requests, "{fault:?}");
        assert!(bench.offered("m").await.is_empty(), "{fault:?}");
        mirror.heal();
        bench.crawl(Depth::Incremental).await;
        assert_eq!(bench.offered("m").await, bench.blobs(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_host_of_which_nothing_could_be_told_has_failed_however_little_it_carries() {
    let bench = Bench::new();
    let mirror = HostileMirror::start(&bench.tree()).await;
    bench.publish("tiny", &[]);
    bench.enter(&NewHost {
        repositories: vec!["tiny".parse().unwrap()],
        ..new_host("m", &mirror.url())
    });
    mirror.fail_everywhere(Fault::Status(503));
    let report = bench.crawl(Depth::Full).await;
    assert!(only(&report).failure.is_some(), "{report:?}");
}

#[tokio::test]
async fn three_silences_in_a_row_end_the_crawl_and_two_do_not() {
    for (silent, failed) in [(2, false), (3, true)] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        for blob in 1..=silent {
            mirror.fail(path(&bench.nth(blob)), Fault::Close);
        }
        let report = bench.crawl(Depth::Full).await;
        let host = only(&report);
        assert_eq!(host.failure.is_some(), failed, "{host:?}");
        if failed {
            assert_eq!(host.requests, 5, "the rest is not asked for");
            assert!(bench.offered("m").await.is_empty());
        } else {
            assert_eq!((host.verified, host.unknown), (BLOBS - 2, 2));
        }
    }
}

#[tokio::test]
async fn damage_seen_before_a_mirror_fell_silent_is_not_forgotten() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Full).await;
    mirror.fail(path(&bench.nth(0)), Fault::FlippedByte);
    for blob in 1..=3 {
        mirror.fail(path(&bench.nth(blob)), Fault::Close);
    }
    bench.crawl(Depth::Full).await;
    assert_eq!(bench.database().evidence(&name("m")).unwrap().len(), 1);
    let reason = bench.standing("m").unwrap_err();
    assert!(reason.starts_with("quarantined"), "{reason}");
    assert!(bench.offered("m").await.is_empty());
}

#[tokio::test]
async fn a_refused_connection_sets_aside_what_was_known_until_the_next_good_crawl() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let address = mirror.address;
    bench.crawl(Depth::Full).await;
    drop(mirror);
    for crawls in 1..=5 {
        let report = bench.crawl(Depth::Incremental).await;
        let host = only(&report);
        assert!(
            host.failure.as_ref().unwrap().contains("refused"),
            "{host:?}"
        );
        assert_eq!(host.requests, 1, "asking on would be pointless");
        assert!(bench.offered("m").await.is_empty());
        let reason = bench.standing("m").unwrap_err();
        let said = match crawls {
            1 => "the last crawl failed".to_owned(),
            2 | 3 => format!("the last {crawls} crawls failed"),
            _ => format!("disabled after {crawls} failed crawls"),
        };
        assert!(
            reason.starts_with(&said) && reason.contains("refused"),
            "{reason}"
        );
    }
    let _mirror = HostileMirror::start_at(address, &bench.tree()).await;
    bench.crawl(Depth::Incremental).await;
    assert_eq!(bench.offered("m").await, bench.blobs());
}
