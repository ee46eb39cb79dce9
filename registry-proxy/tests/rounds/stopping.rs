//! What becomes of crawls that are cut off, and of those that never began.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use registry_proxy::crawler::{Depth, Options};
use registry_proxy::network::Health;
use tokio_util::sync::CancellationToken;

use crate::bench::{BLOBS, Bench, large_layer, name, options, path};
use crate::hostile_mirror::Fault;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_was_found_until_the_end_is_kept_and_the_host_given_back() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail(path(&bench.nth(3)), Fault::Silent);
    let stop = CancellationToken::new();
    let options = Options {
        stop: stop.clone(),
        ..options(Depth::Full)
    };
    let crawling = bench.crawl_with(&[], &options);
    let stopping = async {
        while mirror.requests() < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
    };
    let (report, ()) = tokio::join!(crawling, stopping);
    let host = &report.hosts[0];
    assert_eq!((host.verified, host.unknown), (3, BLOBS - 3), "{host:?}");
    let turn = bench.database().turns().unwrap().remove(0);
    assert_eq!((turn.claimed_until, turn.finished_at), (None, None));
    assert_eq!(bench.offered("m").await.len(), 3);
}

#[tokio::test]
async fn a_schedule_that_ends_gives_hosts_back_and_holds_nothing_against_them() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail_everywhere(Fault::Silent);
    let schedule = bench.schedule(HOUR).await;
    let shutdown = CancellationToken::new();
    let running = schedule.run(shutdown.clone());
    let stopping = async {
        mirror.is_asked().await;
        let claimed = bench.database().turns().unwrap()[0].claimed_until;
        assert!(claimed.is_some());
        shutdown.cancel();
    };
    tokio::join!(running, stopping);
    let turn = bench.database().turns().unwrap().remove(0);
    assert_eq!(turn.claimed_until, None);
    assert_eq!(turn.host.health, Health::Healthy);
    let now = Timestamp::now();
    let until = now + SignedDuration::from_secs(60);
    assert!(bench.database().claim(turn.host.id, now, until).unwrap());
}

#[tokio::test]
async fn suspects_are_forgotten_only_when_somebody_has_looked() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let database = bench.database();
    let id = database.host(&name("m")).unwrap().host.id;
    let suspect = bench.catalog().id(&large_layer()).unwrap();
    let now = Timestamp::now();
    let until = now + SignedDuration::from_secs(60);
    let snapshot = bench.snapshot().await;
    let remembered = snapshot.load_full().unwrap();
    let suspects = &remembered.remembered.suspects;
    suspects.note(id, suspect);

    // Another process has it.
    let mut schedule = bench.schedule_of(Duration::ZERO, snapshot);
    let due = async |schedule: &mut registry_proxy::crawler::Schedule| {
        assert_eq!(schedule.once().await.unwrap(), 1);
        assert_eq!(suspects.hosts(), [id], "there is a slot to be had yet");
    };
    due(&mut schedule).await;
    assert!(database.claim(id, now, until).unwrap());
    assert!(schedule.finished().await.is_none());
    assert_eq!(suspects.hosts(), [id]);

    database.release(id).unwrap();
    mirror.fail_everywhere(Fault::Status(503));
    due(&mut schedule).await;
    let report = schedule.finished().await.unwrap().unwrap();
    assert!(report.failure.is_some());
    assert_eq!(suspects.hosts(), [id]);

    mirror.heal();
    mirror.take_asked();
    due(&mut schedule).await;
    let report = schedule.finished().await.unwrap().unwrap();
    assert_eq!((report.verified, report.failure), (BLOBS, None));
    assert_eq!(mirror.take_asked()[0].path, path(&large_layer()));
    assert!(suspects.hosts().is_empty());
}
