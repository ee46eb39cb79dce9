//! Check-ins as with MirrorManager.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use registry_proxy::checkin::Token;
use registry_proxy::crawler::Depth;
use registry_proxy::network::NewHost;

use crate::hall::{Hall, private};
use crate::hostile_mirror::HostileMirror;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test]
async fn what_was_there_to_be_synced_counts_at_the_next_call() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let directories = ["", "repos/alpine/blobs/sha256"];
    let first = hall.called("m", &token, &directories).await;
    assert!(
        first.contains("containers: directories updated: 2"),
        "{first}"
    );
    assert!(first.contains("after the next sync"), "{first}");
    assert!(hall.held("m").is_empty());

    // What comes to the tree meanwhile it may have or not.
    let alpine = hall.bench.blobs_of("alpine");
    hall.bench.publish("later", &[b"later"]);
    hall.catch_up().await;
    let more = [
        "repos/alpine/blobs/sha256",
        "containers/repos/later/blobs/sha256",
    ];
    let second = hall.called("m", &token, &more).await;
    assert!(second.contains("checked in successful"), "{second}");
    assert_eq!(hall.held("m"), alpine);
    hall.called("m", &token, &more).await;
    let later = hall.bench.blobs_of("later");
    assert_eq!(hall.held("m"), alpine.union(&later).copied().collect());
    // Another part of it, told by itself, says nothing of these.
    let other = hall.called_with("m", &token, &[("others", &["blobs"])]);
    let other = other.await;
    assert!(!other.contains("next sync"), "{other}");
    assert_eq!(hall.held("m"), alpine.union(&later).copied().collect());
}

#[tokio::test]
async fn parts_are_told_one_by_one() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let [debian, alpine] = ["debian/base", "alpine"].map(|name| hall.bench.blobs_of(name));
    let parts = [
        "repos/debian/base/blobs/sha256",
        "repos/alpine/blobs/sha256",
    ];
    let parts = [("debian", &parts[..1]), ("alpine", &parts[1..])];
    for part in parts {
        hall.called_with("m", &token, &[part]).await;
        let turn = hall.bench.database().turns().unwrap().remove(0);
        assert!(!turn.checks_in(), "nothing is known by it yet");
    }
    hall.called_with("m", &token, &parts[..1]).await;
    assert_eq!(hall.held("m"), debian);
    hall.called_with("m", &token, &parts[1..]).await;
    assert_eq!(hall.held("m"), debian.union(&alpine).copied().collect());
}

const DEBIAN: &str = "repos/debian/base/blobs/sha256";
const ALPINE: &str = "repos/alpine/blobs/sha256";

#[tokio::test]
async fn what_a_category_does_not_name_any_more_is_gone() {
    let hall = Hall::open().await;
    let [debian, alpine] = ["debian/base", "alpine"].map(|name| hall.bench.blobs_of(name));
    let token = hall.enter(&private("m"));
    for _ in 0..2 {
        hall.called("m", &token, &[DEBIAN, ALPINE]).await;
    }
    assert_eq!(hall.held("m"), hall.bench.blobs());
    hall.called("m", &token, &[ALPINE]).await;
    assert_eq!(hall.held("m"), alpine);
    assert_eq!(hall.bench.standing("m"), Ok(()));
    // When it comes back it is as if it were new.
    for held in [&alpine, &hall.bench.blobs()] {
        hall.called("m", &token, &[DEBIAN, ALPINE]).await;
        assert_eq!(hall.held("m"), *held);
    }
    hall.called("m", &token, &[""]).await;
    assert!(hall.held("m").is_empty());

    // Where another category names it, it is there still.
    let token = hall.enter(&private("n"));
    let both: [(&str, &[&str]); 2] = [("one", &[DEBIAN, ALPINE]), ("two", &[DEBIAN])];
    for _ in 0..2 {
        hall.called_with("n", &token, &both).await;
    }
    hall.called_with("n", &token, &[("one", &[ALPINE])]).await;
    assert_eq!(hall.held("n"), hall.bench.blobs());
    hall.called_with("n", &token, &[("two", &[ALPINE])]).await;
    assert_eq!(hall.held("n"), alpine);
    assert!(debian.is_disjoint(&hall.held("n")));
}

#[tokio::test]
async fn a_call_that_is_repeated_without_a_sync_renews_and_credits_nothing_new() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let all: [(&str, &[&str]); 1] = [("containers", &[DEBIAN, ALPINE])];
    hall.called_with("m", &token, &all).await;
    let again = hall.called_again("m", &token, &all).await;
    assert!(again.contains("after the next sync"), "{again}");
    assert!(hall.held("m").is_empty(), "the answer was lost, perhaps");
    let old = hall.bench.blobs();
    hall.called_with("m", &token, &all).await;
    assert_eq!(hall.held("m"), old);

    let checked_in = || hall.bench.database().turns().unwrap()[0].checked_in_at;
    let before = checked_in().unwrap();
    hall.bench.publish("alpine", &[b"a newer one"]);
    hall.catch_up().await;
    for _ in 0..2 {
        hall.called_again("m", &token, &all).await;
    }
    let all = hall.bench.blobs();
    let kept: BTreeSet<_> = old.intersection(&all).copied().collect();
    assert!(kept.len() < all.len());
    assert_eq!(hall.held("m"), kept);
    assert!(checked_in().unwrap() > before, "it is not silent");
    let check_ins = hall.bench.database().check_ins(hall.id("m")).unwrap();
    assert_eq!(check_ins[0].blobs, kept.len() as u64);
}

#[tokio::test]
async fn a_category_that_is_not_told_of_any_more_is_forgotten_as_a_silent_mirror_is() {
    let hall = Hall::open().await;
    let alpine = hall.bench.blobs_of("alpine");
    let token = hall.enter(&private("m"));
    let both: [(&str, &[&str]); 2] = [("debian", &[DEBIAN]), ("alpine", &[ALPINE])];
    for _ in 0..2 {
        hall.called_with("m", &token, &both).await;
    }
    let (since, mut database) = (Timestamp::now(), hall.bench.database());
    assert!(database.expire_categories(since - HOUR).unwrap().is_empty());
    assert!(!database.has_silent(since - HOUR).unwrap());
    hall.called_with("m", &token, &both[1..]).await;
    assert!(database.has_silent(since).unwrap());
    assert!(database.expire_check_ins(since).unwrap().is_empty());
    assert_eq!(hall.held("m"), hall.bench.blobs());
    let expired = database.expire_categories(since).unwrap();
    assert_eq!(expired, [("m".to_owned(), "debian".to_owned())]);
    assert_eq!(hall.held("m"), alpine);
    assert!(!database.has_silent(since).unwrap(), "once");
    // A report says all there is to say.
    hall.told(&token, &hall.report()).await;
    let expired = database.expire_categories(Timestamp::now()).unwrap();
    assert!(expired.is_empty(), "{expired:?}");
    assert_eq!(hall.held("m"), hall.bench.blobs());
}

#[tokio::test]
async fn categories_that_are_forgotten_together_keep_what_another_one_names() {
    let hall = Hall::open().await;
    let alpine = hall.bench.blobs_of("alpine");
    let token = hall.enter(&private("m"));
    let three: [(&str, &[&str]); 3] = [
        ("one", &[DEBIAN, ALPINE]),
        ("two", &[DEBIAN, ALPINE]),
        ("three", &[ALPINE]),
    ];
    for _ in 0..2 {
        hall.called_with("m", &token, &three).await;
    }
    let (since, mut database) = (Timestamp::now(), hall.bench.database());
    hall.called_with("m", &token, &three[2..]).await;
    let expired = database.expire_categories(since).unwrap();
    let expected = ["one", "two"].map(|category| ("m".to_owned(), category.to_owned()));
    assert_eq!(expired, expected);
    assert_eq!(hall.held("m"), alpine);
    assert!(database.expire_categories(since).unwrap().is_empty());
}

#[tokio::test]
async fn what_a_silent_mirror_has_listed_lately_counts_at_its_next_call() {
    let hall = Hall::open().await;
    let [debian, alpine] = ["debian/base", "alpine"].map(|name| hall.bench.blobs_of(name));
    let token = hall.enter(&private("m"));
    let both: [(&str, &[&str]); 2] = [("debian", &[DEBIAN]), ("alpine", &[ALPINE])];
    for _ in 0..2 {
        hall.called_with("m", &token, &both[..1]).await;
    }
    assert_eq!(hall.held("m"), debian);
    let (since, mut database) = (Timestamp::now(), hall.bench.database());
    hall.called_with("m", &token, &both[1..]).await;
    assert_eq!(database.expire_check_ins(since).unwrap(), ["m"]);
    assert!(database.expire_categories(since).unwrap().is_empty());
    assert!(hall.held("m").is_empty());
    // What was listed before is as if it were new.
    for held in [&alpine, &hall.bench.blobs()] {
        hall.called_with("m", &token, &both).await;
        assert_eq!(hall.held("m"), *held);
    }
}

/// A private mirror that a crawl has looked at, and its token.
async fn crawled(hall: &Hall) -> (HostileMirror, Token) {
    let mirror = HostileMirror::start(&hall.bench.tree()).await;
    let reachable = NewHost {
        urls: vec![mirror.url().parse().unwrap()],
        ..private("m")
    };
    let token = hall.enter(&reachable);
    hall.bench.crawl(Depth::Full).await;
    (mirror, token)
}

#[tokio::test]
async fn what_a_crawl_has_found_is_not_for_a_mirror_to_take_back_before_it_is_believed() {
    let hall = Hall::open().await;
    let (_mirror, token) = crawled(&hall).await;
    for directory in [DEBIAN, ALPINE] {
        hall.called("m", &token, &[directory]).await;
        assert_eq!(hall.held("m"), hall.bench.blobs());
    }
}

#[tokio::test]
async fn a_first_call_that_is_repeated_makes_nothing_true_that_a_crawl_has_found() {
    let hall = Hall::open().await;
    let (_mirror, token) = crawled(&hall).await;
    let all: [(&str, &[&str]); 1] = [("containers", &[DEBIAN, ALPINE])];
    let is_believed = || hall.bench.database().turns().unwrap()[0].checks_in();
    for _ in 0..3 {
        let told = hall.called_again("m", &token, &all).await;
        assert!(told.contains("after the next sync"), "{told}");
        assert!(!is_believed(), "it is crawled still");
        assert_eq!(hall.held("m"), hall.bench.blobs());
    }
    hall.called_with("m", &token, &all).await;
    assert!(is_believed());
    let told = hall.called_again("m", &token, &all).await;
    assert!(!told.contains("after the next sync"), "{told}");
}

#[tokio::test]
async fn what_was_credited_before_and_no_category_names_is_forgotten_too() {
    let hall = Hall::open().await;
    let alpine = hall.bench.blobs_of("alpine");
    let token = hall.enter(&private("m"));
    hall.told(&token, &hall.report()).await;
    for _ in 0..2 {
        hall.called("m", &token, &[ALPINE]).await;
    }
    assert_eq!(hall.held("m"), hall.bench.blobs(), "it has just said so");
    let (since, mut database) = (Timestamp::now(), hall.bench.database());
    hall.called("m", &token, &[ALPINE]).await;
    assert!(database.expire_check_ins(since).unwrap().is_empty());
    let expired = database.expire_categories(since).unwrap();
    let rest = "what no category names";
    assert_eq!(expired, [("m".to_owned(), rest.to_owned())]);
    assert_eq!(hall.held("m"), alpine);
    hall.called("m", &token, &[ALPINE]).await;
    assert!(!database.has_silent(since).unwrap(), "there is no rest");
    assert_eq!(hall.held("m"), alpine);
}
