//! What is believed of what mirrors say.

use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::digest::Algorithm;
use oci_mirror::size::ByteSize;
use registry_proxy::crawler::Depth;
use registry_proxy::crawler::identity::Identity;
use registry_proxy::db::{Crawl, Evidence, Outcome, Scope, Verdict};
use registry_proxy::network::NewHost;
use serde_json::{Value, json};

use crate::bench::{BLOBS, Bench, large_layer, name};
use crate::hall::{Hall, packed, private, public, report_of};

#[tokio::test]
async fn a_private_mirror_holds_what_it_says_and_is_not_crawled() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    for _ in 0..4 {
        hall.bench.crawl(Depth::Incremental).await;
    }
    assert!(hall.bench.standing("m").is_err(), "nobody can reach it");

    let told = hall.told(&token, &hall.report()).await;
    let expected = json!({"status": "recorded", "presence": "taken", "crawl": "none"});
    assert_eq!(told, expected);
    assert_eq!(hall.held("m"), hall.bench.blobs());
    assert_eq!(hall.bench.standing("m"), Ok(()));
    let report = hall.bench.crawl(Depth::Incremental).await;
    assert!(report.hosts.is_empty(), "{report:?}");
    assert_eq!(hall.bench.standing("m"), Ok(()));

    let database = hall.bench.database();
    let [check_in] = &database.check_ins(hall.id("m")).unwrap()[..] else {
        panic!("it is written down once");
    };
    let serial = hall.bench.catalog().state().serial;
    assert_eq!((check_in.blobs, check_in.serial), (BLOBS, Some(serial)));
}

#[tokio::test]
async fn a_mirror_that_is_behind_is_not_credited_with_what_is_newer() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (mut report, had) = (hall.report(), hall.bench.blobs());
    hall.bench.publish("later", &[b"later"]);
    hall.catch_up().await;
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    assert!(hall.held("m").is_empty(), "nothing is known yet");
    let mut more = had.clone();
    more.insert(Algorithm::Sha256.digest(b"of no tree"));
    report["blobs"] = packed(&more);
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), had);
    // Nor one that has our serial, and another list.
    let mut report = hall.report();
    report["list"] = json!(Algorithm::Sha256.digest(b"another"));
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
}

#[tokio::test]
async fn a_mirror_that_is_ahead_is_credited_with_what_is_new_once_that_is_here() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let ahead = Bench::new();
    ahead.publish("later", &[b"later"]);
    let (report, new) = (report_of(&ahead), ahead.blobs());
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    let mut listed = report.clone();
    listed["blobs"] = packed(&new);
    assert_eq!(hall.told(&token, &listed).await["presence"], "taken");
    assert_eq!(hall.held("m"), hall.bench.blobs());
    let here = hall.bench.tree();
    std::fs::rename(&here, here.with_extension("old")).unwrap();
    std::fs::rename(ahead.tree(), &here).unwrap();
    hall.catch_up().await;
    assert_eq!(hall.report(), report, "we are where it was before");
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), new);
    // One that is behind from then on is what it was.
    hall.bench.publish("still/later", &[b"still later"]);
    hall.catch_up().await;
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), new);
}

#[tokio::test]
async fn what_the_tree_gets_later_than_its_state_counts_for_whoever_has_that_state() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let ahead = Bench::new();
    ahead.publish("alpine", &[b"newer"]);
    let (report, all) = (report_of(&ahead), ahead.blobs());
    // All but a repository, which is as it was.
    let (here, late) = (hall.bench.tree(), ahead.directory.path().join("late"));
    let (old, repository) = (here.with_extension("old"), "repos/alpine");
    std::fs::rename(ahead.tree().join(repository), &late).unwrap();
    std::fs::rename(&here, &old).unwrap();
    std::fs::rename(ahead.tree(), &here).unwrap();
    std::fs::rename(old.join(repository), here.join(repository)).unwrap();
    hall.catch_up().await;
    for _ in 0..2 {
        assert_eq!(hall.told(&token, &report).await["presence"], "taken");
        assert_eq!(hall.held("m").len() as u64, BLOBS);
    }
    std::fs::rename(here.join(repository), old.join(repository)).unwrap();
    std::fs::rename(&late, here.join(repository)).unwrap();
    let newer = Algorithm::Sha256.digest(b"newer");
    let url = format!("http://{}/v2/alpine/blobs/{newer}", hall.address);
    for _ in 0..300 {
        if hall.client.get(&url).send().await.unwrap().status() == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(hall.report(), report, "the state is what it was");
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), all);
}

#[tokio::test]
async fn what_did_not_count_of_a_list_is_asked_for_again_when_it_may() {
    let hall = Hall::open().await;
    let mut report = hall.report();
    report["state"] = json!(Algorithm::Sha256.digest(b"its own"));
    let alpine = hall.bench.blobs_of("alpine");
    for (case, more, max_blob_size, repositories, presence) in [
        ("m0", None, None, json!(["alpine"]), "taken"),
        ("m1", Some("m1"), None, json!(["alpine"]), "wanted"),
        // It is not there for these.
        ("m2", Some("debian"), None, json!(["alpine"]), "taken"),
        ("m3", None, Some(60_000), json!(["alpine"]), "taken"),
        ("m4", None, None, json!(["alpine", "later/m4"]), "wanted"),
        ("m5", None, None, json!(["alpine", "not/here"]), "taken"),
    ] {
        let token = hall.enter(&NewHost {
            repositories: vec!["alpine".parse().unwrap(), "later/*".parse().unwrap()],
            max_blob_size: max_blob_size.map(ByteSize),
            ..private(case)
        });
        let mut listed = alpine.clone();
        listed.extend(more.map(|layer| Algorithm::Sha256.digest(layer.as_bytes())));
        report["repositories"] = repositories;
        report["blobs"] = packed(&listed);
        assert_eq!(hall.told(&token, &report).await["presence"], "taken");
        report["blobs"] = Value::Null;
        let told = hall.told(&token, &report).await;
        assert_eq!(told["presence"], "taken", "{case}: nothing is new here");
        hall.bench
            .publish("other", &[format!("of others {case}").as_bytes()]);
        hall.catch_up().await;
        let told = hall.told(&token, &report).await;
        assert_eq!(told["presence"], "taken", "{case}: nothing is new for it");
        let later = format!("later/{case}");
        hall.bench.publish(&later, &[case.as_bytes()]);
        hall.catch_up().await;
        let told = hall.told(&token, &report).await;
        assert_eq!(told["presence"], presence, "{case}");
        report["blobs"] = packed(&listed);
        hall.told(&token, &report).await;
        let content = Algorithm::Sha256.digest(case.as_bytes());
        assert_eq!(hall.held(case).contains(&content), more == Some(case));
    }
}

#[tokio::test]
async fn an_equal_serial_proves_nothing_and_a_state_that_was_told_is_remembered() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let mut report = hall.report();
    report["state"] = json!(Algorithm::Sha256.digest(b"its own"));
    report["repositories"] = json!(["alpine", "debian/base"]);
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    let alpine = hall.bench.blobs_of("alpine");
    report["blobs"] = packed(&alpine);
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), alpine);
    report["blobs"] = Value::Null;
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), alpine);
    let check_ins = hall.bench.database().check_ins(hall.id("m")).unwrap();
    let blobs: Vec<u64> = check_ins.iter().map(|it| it.blobs).collect();
    assert_eq!(blobs, [alpine.len() as u64; 2]);
    // More of it may count once it is there for other repositories.
    let all = |host| {
        Ok(NewHost {
            repositories: vec!["*".parse().unwrap()],
            ..host
        })
    };
    let mut database = hall.bench.database();
    database.change_host(&name("m"), all).unwrap();
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    // What was forgotten has to be told again.
    assert_eq!(database.expire_check_ins(Timestamp::now()).unwrap(), ["m"]);
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    assert!(hall.held("m").is_empty());
}

#[tokio::test]
async fn as_many_repositories_that_are_others_are_another_report() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let [debian, alpine] = ["debian/base", "alpine"].map(|name| hall.bench.blobs_of(name));
    let mut report = hall.report();
    report["repositories"] = json!(["alpine"]);
    hall.told(&token, &report).await;
    assert_eq!(hall.held("m"), alpine);
    report["repositories"] = json!(["debian/base"]);
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), debian);
    // The order in which they are named makes no other of it.
    report["repositories"] = json!(["debian/base", "alpine"]);
    report["state"] = json!(Algorithm::Sha256.digest(b"its own"));
    report["blobs"] = packed(&alpine);
    hall.told(&token, &report).await;
    report["blobs"] = Value::Null;
    report["repositories"] = json!(["alpine", "debian/base"]);
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), alpine);
    report["repositories"] = json!(["alpine", "debian/other"]);
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
}

#[tokio::test]
async fn told_damage_holds_until_that_blob_was_verified() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let layer = large_layer();
    let mut report = hall.report();
    report["verified"] = json!({"at": Timestamp::now(), "damaged": [layer]});
    hall.told(&token, &report).await;
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    hall.told(&token, &hall.report()).await;
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    hall.bench.publish("later", &[b"later"]);
    hall.catch_up().await;
    let mut report = hall.report();
    hall.told(&token, &report).await;
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    let check_ins = hall.bench.database().check_ins(hall.id("m")).unwrap();
    assert_eq!(
        check_ins[2].blobs,
        BLOBS - 1,
        "what is damaged is not there"
    );
    // Another one is, and this one is mended.
    let other = Algorithm::Sha256.digest(b"later");
    report["verified"] = json!({"at": Timestamp::now(), "damaged": [other]});
    hall.told(&token, &report).await;
    assert_eq!(hall.held("m"), hall.bench.all_but(&other));
    assert_eq!(
        hall.bench.standing("m"),
        Ok(()),
        "its word is no quarantine"
    );
}

#[tokio::test]
async fn only_what_a_mirror_carries_and_is_there_for_counts() {
    let hall = Hall::open().await;
    let [debian, alpine] = ["debian/base", "alpine"].map(|name| hall.bench.blobs_of(name));
    let mut report = hall.report();
    report["repositories"] = json!(["alpine", "not/here"]);
    let token = hall.enter(&private("some"));
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("some"), alpine);

    let picky = NewHost {
        repositories: vec!["debian/*".parse().unwrap()],
        ..private("picky")
    };
    let token = hall.enter(&picky);
    hall.told(&token, &report).await;
    assert!(hall.held("picky").is_empty());
    hall.told(&token, &hall.report()).await;
    assert_eq!(hall.held("picky"), debian);
    report["serial"] = json!(0);
    report["blobs"] = packed(&hall.bench.blobs());
    hall.told(&token, &report).await;
    assert_eq!(hall.held("picky"), debian);
}

#[tokio::test]
async fn told_damage_is_not_offered_and_a_whole_verification_ends_a_quarantine() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (layer, catalog) = (large_layer(), hall.bench.catalog());
    let outcome = Outcome::Finished {
        scope: Scope::Part,
        verdicts: vec![(catalog.id(&layer).unwrap(), Verdict::Damaged)],
        evidence: vec![Evidence {
            digest: layer,
            url: "http://127.0.0.1:9/tree".to_owned(),
            expected: "others".to_owned(),
            found: "these".to_owned(),
            identity: Identity::Crawler,
        }],
    };
    let crawl = Crawl::new(Timestamp::now(), outcome);
    let id = hall.id("m");
    hall.bench
        .database()
        .record_crawl(id, &crawl, &catalog)
        .unwrap();

    let mut report = hall.report();
    hall.told(&token, &report).await;
    assert!(hall.bench.standing("m").is_err(), "its word is not enough");
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    report["verified"] = json!({"at": Timestamp::now(), "damaged": [layer]});
    hall.told(&token, &report).await;
    assert!(hall.bench.standing("m").is_err());
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    report["verified"] = json!({"at": Timestamp::now(), "damaged": []});
    hall.told(&token, &report).await;
    assert_eq!(hall.bench.standing("m"), Ok(()));
    assert_eq!(hall.held("m"), hall.bench.blobs());
}

#[tokio::test]
async fn a_liar_gains_nothing() {
    let hall = Hall::open().await;
    let token = hall.enter(&public("m"));
    let mut report = hall.report();
    report["blobs"] = packed(&hall.bench.blobs());
    report["verified"] = json!({"at": Timestamp::now(), "damaged": []});
    let told = hall.told(&token, &report).await;
    assert_eq!(
        (&told["presence"], &told["crawl"]),
        (&json!("none"), &json!("soon"))
    );
    let answer = hall
        .called("m", &token, &["repos/alpine/blobs/sha256"])
        .await;
    assert!(answer.contains("checked in successful"), "{answer}");
    hall.called("m", &token, &["repos/alpine/blobs/sha256"])
        .await;
    assert!(hall.held("m").is_empty());
    let turn = hall.bench.database().turns().unwrap().remove(0);
    assert!(turn.hinted_at.is_some() && turn.checked_in_at.is_none());
}
