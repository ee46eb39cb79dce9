//! Mirrors that check in and are crawled as well.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use oci_mirror::digest::Algorithm;
use oci_mirror::tree::Tree;
use registry_proxy::crawler::identity::Identity;
use registry_proxy::crawler::{Depth, crawl};
use registry_proxy::db::{CheckIn, Crawl, Evidence, Outcome, Scope, Verdict, Way};
use registry_proxy::network::{HostName, NewHost};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::bench::{Bench, large_layer, name, new_host, options, path};
use crate::hall::{Hall, private, report_of};
use crate::hostile_mirror::{Fault, HostileMirror};

const HOUR: Duration = Duration::from_secs(3600);

/// A private mirror that can be reached and lacks a blob, whatever it says.
async fn incomplete(hall: &Hall, host: &str) -> HostileMirror {
    let mirror = HostileMirror::start(&hall.bench.tree()).await;
    mirror.fail(path(&large_layer()), Fault::Status(404));
    let url = new_host(host, &mirror.url());
    hall.bench.enter(&NewHost {
        urls: url.urls,
        ..private(host)
    });
    mirror
}

/// A crawl that has to wait for another one, while the mirror checks in.
async fn crawled_after_a_check_in(hall: &Hall, host: &str, names: &[HostName]) -> usize {
    let (id, database) = (hall.id(host), hall.bench.database());
    let until = Timestamp::now() + SignedDuration::from_secs(600);
    assert!(database.claim(id, Timestamp::now(), until).unwrap());
    let options = options(Depth::Full);
    let crawl = hall.bench.crawl_with(names, &options);
    let check_in = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        hall.write_down(host);
        assert_eq!(hall.held(host), hall.bench.blobs());
        database.release(id).unwrap();
    };
    let (report, ()) = tokio::join!(crawl, check_in);
    report.hosts.len()
}

#[tokio::test]
async fn a_mirror_that_checks_in_while_it_waits_to_be_crawled_is_not_crawled() {
    let hall = Hall::open().await;
    let mirror = incomplete(&hall, "m").await;
    assert_eq!(crawled_after_a_check_in(&hall, "m", &[]).await, 0);
    assert_eq!(hall.held("m"), hall.bench.blobs());

    let _another = incomplete(&hall, "n").await;
    let mut schedule = hall.bench.schedule(HOUR).await;
    assert_eq!(schedule.once().await.unwrap(), 1);
    // Nothing of it runs before it is waited for.
    hall.write_down("n");
    assert!(schedule.finished().await.is_none());
    assert_eq!(hall.held("n"), hall.bench.blobs());
    assert_eq!(mirror.connections(), 0);
}

#[tokio::test]
async fn what_was_read_after_a_check_in_counts_however_long_that_was_waited_for() {
    let hall = Hall::open().await;
    let _mirror = incomplete(&hall, "m").await;
    let names = [name("m")];
    assert_eq!(crawled_after_a_check_in(&hall, "m", &names).await, 1);
    assert_eq!(hall.held("m"), hall.bench.all_but(&large_layer()));
}

#[tokio::test]
async fn a_hint_holds_if_what_is_new_was_not_looked_for() {
    let hall = Hall::open().await;
    let _mirror = hall.bench.mirror("m").await;
    let hinted = || hall.bench.database().turns().unwrap()[0].hinted_at;
    let hint = |hall: &Hall| {
        let entry = CheckIn {
            at: Timestamp::now(),
            way: Way::Report,
            serial: None,
            state: None,
            repositories: None,
            carried: None,
            blobs: 0,
            damaged: None,
        };
        let mut database = hall.bench.database();
        assert!(database.hint(hall.id("m"), &entry).unwrap());
    };
    let old = hall.bench.snapshot().await.load_full();
    hall.bench.publish("later", &[b"later"]);
    let new = hall.bench.snapshot().await.load_full();
    for (snapshot, is_seen) in [(&old, false), (&new, true)] {
        let shared = Arc::new(ArcSwapOption::new(snapshot.clone()));
        let mut schedule = hall.bench.schedule_of(Duration::ZERO, Arc::clone(&shared));
        assert_eq!(schedule.once().await.unwrap(), 1);
        // While it waits for its turn.
        shared.store(new.clone());
        hint(&hall);
        let report = schedule.finished().await.unwrap().unwrap();
        assert_eq!(report.failure, None);
        assert_eq!(hinted().is_none(), is_seen);
    }
}

#[tokio::test]
async fn a_state_is_news_still_if_what_is_new_in_it_was_not_looked_for() {
    let hall = Hall::open().await;
    let _mirror = hall.bench.mirror("m").await;
    let token = hall.token("m");
    let old = hall.bench.snapshot().await.load_full();
    hall.bench.publish("later", &[b"later"]);
    let new = hall.bench.snapshot().await.load_full();
    for (snapshot, told) in [(&old, "soon"), (&new, "none")] {
        let shared = Arc::new(ArcSwapOption::new(snapshot.clone()));
        let mut schedule = hall.bench.schedule_of(Duration::ZERO, Arc::clone(&shared));
        assert_eq!(schedule.once().await.unwrap(), 1);
        // While it waits for its turn.
        shared.store(new.clone());
        let report = schedule.finished().await.unwrap().unwrap();
        assert_eq!(report.failure, None);
        assert_eq!(hall.told(&token, &hall.report()).await["crawl"], told);
    }
}

#[tokio::test]
async fn a_crawl_by_hand_of_what_the_tree_was_before_has_not_looked_for_what_is_new() {
    let hall = Hall::open().await;
    let _mirror = hall.bench.mirror("m").await;
    let token = hall.token("m");
    let tree = Tree::open(&hall.bench.tree()).unwrap();
    let old = hall.bench.catalog();
    hall.bench.publish("later", &[b"later"]);
    for (catalog, told) in [(old, "soon"), (hall.bench.catalog(), "none")] {
        let (path, options) = (hall.bench.database_path(), options(Depth::Incremental));
        let report = crawl(&path, &tree, catalog, &[], &options).await.unwrap();
        assert_eq!(report.hosts[0].failure, None);
        assert_eq!(hall.told(&token, &hall.report()).await["crawl"], told);
    }
}

#[tokio::test]
async fn a_state_that_a_mirror_had_before_us_is_news_until_what_is_new_in_it_was_looked_for() {
    let hall = Hall::open().await;
    let ahead = Bench::new();
    ahead.publish("later", &[b"later"]);
    let mirror = HostileMirror::start(&ahead.tree()).await;
    hall.bench.enter(&new_host("m", &mirror.url()));
    let token = hall.token("m");
    let remembered = || {
        let (database, catalog) = (hall.bench.database(), hall.bench.catalog());
        database.known(hall.id("m"), &catalog).unwrap().state
    };
    hall.bench.crawl(Depth::Incremental).await;
    let once = remembered();
    assert!(once.is_some());
    hall.bench.crawl(Depth::Incremental).await;
    assert_eq!(remembered(), once, "it stands where it stood");
    let report = report_of(&ahead);
    assert_eq!(hall.told(&token, &report).await["crawl"], "soon");
    // We are as far as it is.
    let here = hall.bench.tree();
    std::fs::rename(&here, here.with_extension("old")).unwrap();
    std::os::unix::fs::symlink(ahead.tree(), &here).unwrap();
    assert_eq!(hall.report(), report);
    hall.bench.crawl(Depth::Incremental).await;
    assert_eq!(hall.told(&token, &report).await["crawl"], "none");
    assert_eq!(hall.held("m"), ahead.blobs());
}

#[tokio::test]
async fn a_crawl_that_ends_after_a_check_in_changes_nothing_but_for_damage() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (id, catalog) = (hall.id("m"), hall.bench.catalog());
    let layer = large_layer();
    let blob = catalog.id(&layer).unwrap();
    let until = Timestamp::now() + SignedDuration::from_secs(60);
    let claim = || {
        let database = hall.bench.database();
        database.claim(id, Timestamp::now(), until).unwrap()
    };
    let found = |verdict, evidence| Outcome::Finished {
        scope: Scope::Whole,
        verdicts: vec![(blob, verdict)],
        evidence,
    };
    assert!(claim());
    let began = Timestamp::now();
    hall.told(&token, &hall.report()).await;
    let failed = || Outcome::Failed("refused".to_owned());
    for outcome in [
        failed(),
        failed(),
        failed(),
        found(Verdict::Missing, Vec::new()),
    ] {
        let crawl = Crawl::new(began, outcome);
        let mut database = hall.bench.database();
        let recorded = database.record_crawl(id, &crawl, &catalog).unwrap();
        assert_eq!(recorded, None);
        assert_eq!(hall.held("m"), hall.bench.blobs());
        assert_eq!(hall.bench.standing("m"), Ok(()));
    }
    assert!(claim(), "it was given back");
    let evidence = Evidence {
        digest: layer,
        url: "http://127.0.0.1:9/tree".to_owned(),
        expected: "others".to_owned(),
        found: "these".to_owned(),
        identity: Identity::Crawler,
    };
    let crawl = Crawl::new(began, found(Verdict::Damaged, vec![evidence]));
    let mut database = hall.bench.database();
    database.record_crawl(id, &crawl, &catalog).unwrap();
    assert!(hall.bench.standing("m").is_err());
}

/// A check-in that has to wait for another writer, and when a crawl may have begun meanwhile.
async fn written_late<T>(hall: &Hall, check_in: impl Future<Output = T>) -> Timestamp {
    let other = Connection::open(hall.bench.database_path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Timestamp::now();
        other.execute_batch("COMMIT").unwrap();
        began
    };
    tokio::join!(check_in, meanwhile).1
}

#[tokio::test]
async fn a_crawl_that_begins_while_a_check_in_waits_to_be_written_changes_nothing() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (id, catalog, report) = (hall.id("m"), hall.bench.catalog(), hall.report());
    let unheard = |began| {
        let failed = Outcome::Failed("refused".to_owned());
        let mut database = hall.bench.database();
        let recorded = database.record_crawl(id, &Crawl::new(began, failed), &catalog);
        assert_eq!(recorded.unwrap(), None);
        assert_eq!(hall.held("m"), hall.bench.blobs());
    };
    unheard(written_late(&hall, hall.told(&token, &report)).await);
    // As it was.
    unheard(written_late(&hall, hall.told(&token, &report)).await);
    let both = [
        "repos/alpine/blobs/sha256",
        "repos/debian/base/blobs/sha256",
    ];
    let all: [(&str, &[&str]); 1] = [("containers", &both)];
    let call = || hall.called_again("m", &token, &all);
    call().await;
    unheard(written_late(&hall, call()).await);
}

#[tokio::test]
async fn a_hint_holds_until_a_crawl_that_began_after_it() {
    let hall = Hall::open().await;
    let _mirror = hall.bench.mirror("m").await;
    let token = hall.token("m");
    let hinted = || hall.bench.database().turns().unwrap()[0].hinted_at;
    let old = Crawl::new(Timestamp::now(), Outcome::Failed("silent".to_owned()));
    assert_eq!(hall.told(&token, &hall.report()).await["crawl"], "soon");
    assert!(hinted().is_some());
    let (id, catalog) = (hall.id("m"), hall.bench.catalog());
    hall.bench
        .database()
        .record_crawl(id, &old, &catalog)
        .unwrap();
    assert!(hinted().is_some(), "that crawl began before");
    let check = Crawl {
        has_looked_for_news: false,
        ..Crawl::new(Timestamp::now(), Outcome::Failed("silent".to_owned()))
    };
    hall.bench
        .database()
        .record_crawl(id, &check, &catalog)
        .unwrap();
    assert!(hinted().is_some(), "that crawl looked for nothing new");
    hall.bench.crawl(Depth::Incremental).await;
    assert_eq!(hinted(), None);
    // What was seen there is no news, unless something is wrong with it.
    let mut report = hall.report();
    assert_eq!(hall.told(&token, &report).await["crawl"], "none");
    assert_eq!(hinted(), None);
    report["verified"] = json!({"damaged": [large_layer()]});
    assert_eq!(hall.told(&token, &report).await["crawl"], "soon");
    hall.bench.crawl(Depth::Incremental).await;
    report["verified"] = Value::Null;
    report["state"] = json!(Algorithm::Sha256.digest(b"newer"));
    assert_eq!(hall.told(&token, &report).await["crawl"], "soon");
}

#[tokio::test]
async fn a_crawl_under_way_keeps_the_mirror_it_has_claimed() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (id, now) = (hall.id("m"), Timestamp::now());
    let until = now + SignedDuration::from_secs(60);
    assert!(hall.bench.database().claim(id, now, until).unwrap());
    hall.told(&token, &hall.report()).await;
    assert!(!hall.bench.database().claim(id, now, until).unwrap());
}
