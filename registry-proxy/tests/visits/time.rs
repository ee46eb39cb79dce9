//! Mirrors that take their time, and many at once.

use std::time::{Duration, Instant};

use registry_proxy::crawler::{Depth, Options};

use crate::bench::{
    BLOBS, Bench, IMPATIENT, PATIENT, large_layer, name, new_host, only, options, path, waiting,
};
use crate::hostile_mirror::{Fault, HostileMirror};

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
