//! The crawler against a mirror that does what mirrors should not, with a real tree and database.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod hostile_mirror;
mod rounds;
mod verdicts;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::Method;
use oci_mirror::tree::Tree;
use registry_proxy::crawler::guard::Policy;
use registry_proxy::crawler::{Depth, Options, Schedule, crawl};
use registry_proxy::network::{NewHost, Visibility};
use tokio_util::sync::CancellationToken;

use bench::{
    BLOBS, Bench, IMPATIENT, PATIENT, large_layer, name, new_host, only, options, path, waiting,
};
use hostile_mirror::{Fault, HostileMirror};

// What is right.

#[tokio::test]
async fn every_blob_of_a_good_mirror_is_verified_and_offered() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    assert!(bench.offered("m").await.is_empty(), "before it was crawled");
    let report = bench.crawl(Depth::Full).await;
    let host = only(&report);
    assert_eq!((host.verified, &host.failure), (BLOBS, &None), "{host:?}");
    assert_eq!((host.missing, host.damaged, host.unknown), (0, 0, 0));
    assert_eq!(bench.offered("m").await, bench.blobs());
    // What else clients do is tried after that.
    let asked = mirror.take_asked();
    // One more for the state.
    assert_eq!(host.requests, asked.len() as u64 + 1);
    assert!(host.requests > BLOBS + 1 && host.bytes > bench.bytes());
    let blobs = asked.iter().filter(|asked| asked.path.contains("/blobs/"));
    assert!(
        blobs
            .take(bench.blobs().len())
            .all(|asked| asked.method == Method::GET && asked.is_plain()),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_mirror_is_asked_over_one_connection_by_one_that_says_who_it_is() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    for depth in [Depth::Full, Depth::Incremental, Depth::Full] {
        let before = mirror.connections();
        bench.crawl(depth).await;
        assert_eq!(mirror.connections() - before, 1, "{depth:?}");
        let asked = mirror.take_asked();
        let ours = asked.iter().filter(|asked| {
            let agent = asked.field("user-agent");
            agent.starts_with("registry-proxy/") && agent.contains("crawler")
        });
        // All but a share: a mirror that tells its crawler from its clients is to be caught.
        assert!(ours.count() * 2 > asked.len(), "{asked:?}");
        assert!(asked.iter().all(|asked| asked.field("referer").is_empty()));
    }
}

#[tokio::test]
async fn a_blob_that_is_not_there_costs_no_connection() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail_everywhere(Fault::Status(404));
    assert_eq!(only(&bench.crawl(Depth::Full).await).missing, BLOBS);
    assert_eq!(mirror.connections(), 1);
}

#[tokio::test]
async fn only_the_repositories_a_host_carries_are_asked_for() {
    let bench = Bench::new();
    let mirror = HostileMirror::start(&bench.tree()).await;
    bench.enter(&NewHost {
        repositories: vec!["debian/*".parse().unwrap()],
        ..new_host("m", &mirror.url())
    });
    let report = bench.crawl(Depth::Full).await;
    let debian = bench.blobs_of("debian/base");
    assert_eq!(only(&report).verified, debian.len() as u64);
    let asked: BTreeSet<_> = mirror
        .take_asked()
        .into_iter()
        .map(|asked| asked.path)
        .collect();
    assert_eq!(asked, debian.iter().map(path).collect());
    assert_eq!(bench.offered("m").await, debian);
}

#[tokio::test]
async fn a_redirect_is_followed_as_clients_would() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let elsewhere = HostileMirror::start(&bench.tree()).await;
    let layer = large_layer();
    mirror.fail(
        path(&layer),
        Fault::Redirect(format!("{}{}", elsewhere.url(), path(&layer))),
    );
    let report = bench.crawl(Depth::Full).await;
    assert_eq!(only(&report).verified, BLOBS);
    assert_eq!(elsewhere.take_asked().len(), 1);
}

// What is not there, and what is wrong.

#[tokio::test]
async fn only_the_blob_that_is_not_there_is_missing() {
    for status in [404, 410, 403] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        let layer = large_layer();
        mirror.fail(path(&layer), Fault::Status(status));
        let report = bench.crawl(Depth::Full).await;
        let host = only(&report);
        assert_eq!(
            (host.verified, host.missing, host.damaged, host.unknown),
            (BLOBS - 1, 1, 0, 0),
            "{status}"
        );
        // What else clients do is tried with a part of another.
        let least = bench.bytes() - bench.size(&layer) + bench.state();
        let read = least..least + bench.size(&layer);
        assert!(read.contains(&host.bytes), "{status}: {}", host.bytes);
        assert_eq!(bench.offered("m").await, bench.all_but(&layer), "{status}");

        mirror.heal();
        let report = bench.crawl(Depth::Incremental).await;
        assert_eq!(only(&report).verified, BLOBS, "{status}");
    }
}

#[tokio::test]
async fn a_flipped_byte_takes_the_host_out_until_all_of_it_was_read_again() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Full).await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::FlippedByte);
    let report = bench.crawl(Depth::Full).await;
    let host = only(&report);
    assert_eq!((host.verified, host.damaged), (BLOBS - 1, 1));
    assert!(bench.offered("m").await.is_empty());

    let kept = &bench.database().evidence(&name("m")).unwrap()[0].1;
    assert_eq!(kept, &host.evidence[0]);
    assert_eq!(
        (kept.digest, &kept.url),
        (layer, &format!("{}{}", mirror.url(), path(&layer)))
    );
    assert!(
        kept.found.contains("sha256:") && !kept.found.contains(&layer.to_string()),
        "{}",
        kept.found
    );
    let reason = bench.standing("m").unwrap_err();
    assert!(
        reason.starts_with("quarantined") && reason.contains(&layer.to_string()),
        "{reason}"
    );

    mirror.fail(path(&layer), Fault::Status(503));
    bench.crawl(Depth::Full).await;
    assert!(
        bench.offered("m").await.is_empty(),
        "not everything was read"
    );
    mirror.heal();
    bench.crawl(Depth::Full).await;
    assert_eq!(bench.offered("m").await, bench.blobs());
    assert_eq!(bench.database().evidence(&name("m")).unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_the_file_is_damage() {
    for (fault, found) in [
        (Fault::Shorter, "Content-Length"),
        (Fault::Longer, "Content-Length"),
        (Fault::LongerUnannounced, "more than"),
        (Fault::Page, "Content-Length"),
        (Fault::PageUnannounced, "bytes"),
        (Fault::Encoded("gzip"), "Content-Encoding `gzip`"),
    ] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        let layer = large_layer();
        mirror.fail(path(&layer), fault.clone());
        let report = bench.crawl(Depth::Full).await;
        let host = only(&report);
        assert_eq!(
            (host.verified, host.damaged),
            (BLOBS - 1, 1),
            "{fault:?}: {host:?}"
        );
        assert!(
            host.evidence[0].found.contains(found),
            "{fault:?}: {:?}",
            host.evidence
        );
        assert!(bench.offered("m").await.is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_encoding_that_changes_nothing_is_no_damage() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail_everywhere(Fault::Encoded("identity"));
    assert_eq!(only(&bench.crawl(Depth::Full).await).verified, BLOBS);
}

#[tokio::test]
async fn a_page_for_everything_is_damage_even_where_only_looking_was_due() {
    for fault in [Fault::Page, Fault::PageUnannounced] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        bench.crawl(Depth::Full).await;
        mirror.fail_everywhere(fault.clone());
        for depth in [Depth::Incremental, Depth::Full] {
            let report = bench.crawl(depth).await;
            let host = only(&report);
            assert_eq!(
                (host.verified, host.damaged),
                (0, BLOBS),
                "{fault:?} {depth:?}"
            );
            assert!(bench.offered("m").await.is_empty(), "{fault:?} {depth:?}");
        }
    }
}

#[tokio::test]
async fn a_body_without_end_is_read_little_further_than_the_blob_is_long() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::Endless);
    let report = bench.crawl(Depth::Full).await;
    let host = only(&report);
    assert_eq!((host.verified, host.damaged), (BLOBS - 1, 1));
    // What it sent beyond is what fits into the buffers on the way.
    assert!(mirror.sent() < 32 << 20, "{} bytes", mirror.sent());
}

// What cannot be told.

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

// Time.

#[tokio::test]
async fn a_mirror_that_stalls_or_trickles_is_left_in_time() {
    for fault in [Fault::Silent, Fault::Stall, Fault::Trickle] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        let layer = large_layer();
        mirror.fail(path(&layer), fault.clone());
        let began = Instant::now();
        let options = Options {
            wire: waiting(IMPATIENT),
            ..options(Depth::Full)
        };
        let report = bench.crawl_with(&[], &options).await;
        let host = only(&report);
        assert_eq!(
            (host.verified, host.unknown),
            (BLOBS - 1, 1),
            "{fault:?}: {host:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(10), "{fault:?}");
    }
}

#[tokio::test]
async fn a_host_that_used_up_its_time_keeps_what_was_read() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let last = bench.nth(BLOBS - 1);
    mirror.fail(path(&last), Fault::Silent);
    let options = Options {
        per_host: Duration::from_secs(4),
        ..options(Depth::Full)
    };
    let report = bench.crawl_with(&[], &options).await;
    let host = only(&report);
    assert_eq!((host.verified, host.unknown), (BLOBS - 1, 1), "{host:?}");
    assert_eq!(bench.offered("m").await, bench.all_but(&last));

    mirror.fail_everywhere(Fault::Silent);
    let report = bench.crawl_with(&[], &options).await;
    let failure = only(&report).failure.clone().unwrap();
    assert!(failure.contains("not done within 4s"), "{failure}");
}

#[tokio::test]
async fn a_slow_host_does_not_delay_the_recording_of_others() {
    let bench = Bench::new();
    let slow = bench.mirror("slow").await;
    slow.fail_everywhere(Fault::Slow(Duration::from_millis(300)));
    let _fast = bench.mirror("fast").await;
    let (all, options) = ([], options(Depth::Full));
    let crawling = bench.crawl_with(&all, &options);
    let watching = async {
        while bench
            .database()
            .host(&name("fast"))
            .unwrap()
            .crawled_at
            .is_none()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bench.database().host(&name("slow")).unwrap().crawled_at
    };
    let (report, slow_crawled) = tokio::join!(crawling, watching);
    assert_eq!(slow_crawled, None);
    let names: Vec<_> = report.hosts.iter().map(|host| &host.name).collect();
    assert_eq!(names, ["fast", "slow"]);
    assert!(report.hosts.iter().all(|host| host.verified == BLOBS));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_hosts_that_end_at_once_are_all_recorded() {
    let bench = Bench::new();
    let mirror = HostileMirror::start(&bench.tree()).await;
    for number in 0..32 {
        bench.enter(&new_host(&format!("m{number}"), &mirror.url()));
    }
    let options = Options {
        concurrency: 32,
        wire: waiting(PATIENT),
        ..options(Depth::Full)
    };
    for round in 0..4 {
        // New blobs each time, so that every host's record has something to enter.
        bench.publish("more", &[format!("layer {round}").as_bytes()]);
        let report = bench.crawl_with(&[], &options).await;
        let catalog = bench.catalog();
        for host in &report.hosts {
            assert_eq!(host.verified, catalog.blobs().len() as u64, "{host:?}");
        }
    }
}

// What is asked again, and when.

#[tokio::test]
async fn what_is_new_is_read_at_the_next_crawl() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Incremental).await;
    assert_eq!(bench.offered("m").await, bench.blobs());
    let before: BTreeSet<_> = bench.blobs();
    mirror.take_asked();

    bench.publish("fedora", &[b"a new layer"]);
    bench.crawl(Depth::Incremental).await;
    let read = mirror.take_asked();
    let read: BTreeSet<_> = read
        .iter()
        .filter(|asked| asked.method == Method::GET)
        .map(|asked| &*asked.path)
        .collect();
    for new in bench.blobs().difference(&before) {
        assert!(read.contains(&*path(new)), "{new}");
    }
    assert_eq!(bench.offered("m").await, bench.blobs());
}

#[tokio::test]
async fn a_file_that_was_cut_is_found_by_looking() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Full).await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::Shorter);
    let report = bench.crawl(Depth::Incremental).await;
    assert_eq!(
        (only(&report).verified, only(&report).damaged),
        (BLOBS - 1, 1),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_poor_at_head_is_read_instead() {
    for fault in [
        Fault::NoHead,
        Fault::HeadWithoutLength,
        Fault::HeadOfNothing,
    ] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        mirror.fail_everywhere(fault.clone());
        bench.crawl(Depth::Full).await;
        let report = bench.crawl(Depth::Incremental).await;
        let host = only(&report);
        assert_eq!(
            (host.verified, host.bytes, host.requests),
            (BLOBS, bench.bytes() + bench.state(), 2 * BLOBS + 1),
            "{fault:?}: {host:?}"
        );
        assert_eq!(bench.offered("m").await, bench.blobs(), "{fault:?}");
    }
}

// Whom to ask.

#[tokio::test]
async fn an_address_on_the_inside_is_refused_unless_the_host_is_private() {
    let bench = Bench::new();
    let mirror = HostileMirror::start(&bench.tree()).await;
    let port = mirror.address.port();
    bench.enter(&new_host("address", &mirror.url()));
    bench.enter(&new_host("name", &format!("http://localhost:{port}")));
    bench.enter(&NewHost {
        visibility: Visibility::Private,
        ..new_host("private", &mirror.url())
    });
    let options = Options {
        policy: Policy::PublicOnly,
        ..options(Depth::Full)
    };
    let report = bench.crawl_with(&[], &options).await;
    let [address, by_name, private] = &report.hosts[..] else {
        panic!("{report:?}");
    };
    for (host, reason) in [
        (address, "its address is not public"),
        (by_name, "localhost has no address on the public internet"),
    ] {
        let failure = host.failure.as_ref().unwrap();
        assert!(failure.contains(reason), "{failure}");
        assert!(bench.standing(&host.name).unwrap_err().contains(reason));
    }
    assert_eq!(mirror.connections(), 1, "{report:?}");
    assert_eq!((private.verified, &private.failure), (BLOBS, &None));
}

#[tokio::test]
async fn a_host_without_http_fails_and_says_so() {
    let bench = Bench::new();
    bench.enter(&new_host("m", "rsync://m.example/containers"));
    let report = bench.crawl(Depth::Full).await;
    let failure = only(&report).failure.as_ref().unwrap();
    assert!(failure.contains("no http or https URL"), "{failure}");
}

#[tokio::test]
async fn a_disabled_host_is_crawled_only_by_name() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench
        .database()
        .set_disabled(&name("m"), Some("moving"))
        .unwrap();
    assert!(bench.crawl(Depth::Full).await.hosts.is_empty());
    assert_eq!(mirror.connections(), 0);
    let report = bench.crawl_with(&[name("m")], &options(Depth::Full)).await;
    assert_eq!(only(&report).verified, BLOBS);
    assert!(bench.offered("m").await.is_empty());
    let (path, options) = (bench.database_path(), options(Depth::Full));
    let (tree, other) = (Tree::open(&bench.tree()).unwrap(), [name("other")]);
    let unknown = crawl(&path, &tree, bench.catalog(), &other, &options).await;
    let error = unknown.unwrap_err().to_string();
    assert!(error.contains("no mirror called other"), "{error}");
}

#[tokio::test]
async fn a_host_removed_while_it_is_crawled_does_not_spoil_the_report() {
    let bench = Bench::new();
    let gone = bench.mirror("gone").await;
    gone.fail_everywhere(Fault::Slow(Duration::from_millis(100)));
    let _stays = bench.mirror("stays").await;
    let (all, options) = ([], options(Depth::Full));
    let crawling = bench.crawl_with(&all, &options);
    let removing = async {
        gone.is_asked().await;
        bench.database().remove_host(&name("gone")).unwrap();
    };
    let (report, ()) = tokio::join!(crawling, removing);
    assert_eq!(report.hosts.len(), 2);
    assert_eq!(bench.offered("stays").await, bench.blobs());
}

// Again and again.

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_schedule_begins_with_the_hosts_whose_turn_it_is() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let mut schedule = Schedule::new(&bench.config(), Arc::new(ArcSwapOption::empty()));
    assert_eq!(schedule.once().await.unwrap(), 0, "there is no tree yet");

    let mut schedule = bench.schedule(HOUR).await;
    assert_eq!(schedule.once().await.unwrap(), 1);
    let report = schedule.finished().await.unwrap().unwrap();
    assert_eq!(report.verified, BLOBS);
    assert!(schedule.finished().await.is_none());
    assert_eq!(schedule.once().await.unwrap(), 0);

    let mut another = bench.schedule(HOUR).await;
    assert_eq!(another.once().await.unwrap(), 0, "it was crawled just now");
    mirror.take_asked();
    bench.record_read("m", 1);
    assert_eq!(another.once().await.unwrap(), 1);
    another.finished().await.unwrap().unwrap();
    assert!(!mirror.take_asked().is_empty());

    bench.record_read("m", -1);
    let mut after_the_clock_went_back = bench.schedule(HOUR).await;
    assert_eq!(after_the_clock_went_back.once().await.unwrap(), 1);
}

#[tokio::test]
async fn the_schedule_leaves_out_disabled_hosts_and_reads_all_of_those_in_quarantine() {
    let bench = Bench::new();
    let mirror = bench.mirror("suspect").await;
    let disabled = bench.mirror("disabled").await;
    bench
        .database()
        .set_disabled(&name("disabled"), Some("moving"))
        .unwrap();
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::FlippedByte);
    bench.crawl(Depth::Full).await;
    mirror.heal();
    mirror.take_asked();
    let mut schedule = bench.schedule(Duration::ZERO).await;
    assert_eq!(schedule.once().await.unwrap(), 1);
    schedule.finished().await.unwrap().unwrap();
    let asked = mirror.take_asked().into_iter();
    let read = asked.filter(|asked| asked.method == Method::GET);
    let read: BTreeSet<_> = read.map(|asked| asked.path).collect();
    assert_eq!(read, bench.blobs().iter().map(path).collect());
    assert_eq!(bench.offered("suspect").await, bench.blobs());
    assert_eq!(disabled.connections(), 0);
}

#[tokio::test]
async fn a_host_that_takes_long_does_not_hold_up_the_next_turn_of_the_others() {
    let bench = Bench::new();
    let slow = bench.mirror("slow").await;
    slow.fail_everywhere(Fault::Silent);
    let _fast = bench.mirror("fast").await;
    let mut schedule = bench.schedule(Duration::ZERO).await;
    assert_eq!(schedule.once().await.unwrap(), 2);
    for _ in 0..3 {
        let report = schedule.finished().await.unwrap().unwrap();
        assert_eq!((&*report.name, report.verified), ("fast", BLOBS));
        assert_eq!(schedule.once().await.unwrap(), 1, "only the fast one");
    }
    assert_eq!(slow.connections(), 1);
}

#[tokio::test]
async fn a_database_that_cannot_be_written_to_does_not_make_the_schedule_ask_at_every_tick() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail_everywhere(Fault::Slow(Duration::from_millis(100)));
    let mut schedule = bench.schedule(HOUR).await;
    assert_eq!(schedule.once().await.unwrap(), 1);
    let aside = bench.directory.path().join("aside");
    mirror.is_asked().await;
    std::fs::rename(bench.database_path(), &aside).unwrap();
    assert!(schedule.finished().await.unwrap().is_err());
    std::fs::rename(&aside, bench.database_path()).unwrap();
    assert_eq!(schedule.once().await.unwrap(), 0);
}

#[tokio::test]
async fn the_schedule_stops_at_once_whatever_is_under_way() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail_everywhere(Fault::Silent);
    let schedule = bench.schedule(HOUR).await;
    let shutdown = CancellationToken::new();
    let running = schedule.run(shutdown.clone());
    let stopping = async {
        mirror.is_asked().await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(running, stopping) };
    tokio::time::timeout(Duration::from_secs(5), both)
        .await
        .unwrap();
}
