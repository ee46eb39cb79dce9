//! What becomes of crawls that are cut off, and of those that never began.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::bench::{BLOBS, Bench, large_layer, name, path};
use crate::hostile_mirror::Fault;

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
