//! Again and again: hosts whose turn it is, beside a front end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Method;
use registry_proxy::crawler::{Depth, Schedule};
use tokio_util::sync::CancellationToken;

use crate::bench::{BLOBS, Bench, large_layer, name, path};
use crate::hostile_mirror::Fault;

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
