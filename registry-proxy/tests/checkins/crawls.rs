//! Mirrors that check in and are crawled as well.

use jiff::{SignedDuration, Timestamp};
use oci_mirror::digest::Algorithm;
use registry_proxy::crawler::Depth;
use registry_proxy::crawler::identity::Identity;
use registry_proxy::db::{Crawl, Evidence, Outcome, Scope, Verdict};
use serde_json::{Value, json};

use crate::bench::large_layer;
use crate::hall::{Hall, private};

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
