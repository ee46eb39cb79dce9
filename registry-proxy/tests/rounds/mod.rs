//! One crawl after the other: what is asked again and when, and what is not forgotten meanwhile.

mod news;
mod schedule;
mod spending;
mod stopping;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::{Catalog, Tree};
use registry_proxy::crawler::once::{HostReport, crawl_at};
use registry_proxy::crawler::visit::{Surroundings, visit};
use registry_proxy::crawler::wire::Wire;
use registry_proxy::crawler::{Depth, Occasion, Options};
use registry_proxy::db::{Outcome, Scope, Verdict};

use crate::bench::{BLOBS, Bench, large_layer, name, only, options, path};
use crate::hostile_mirror::{Fault, HostileMirror};

const RECHECK: Duration = Duration::from_secs(48 * 3600);

/// As the schedule crawls, with turns two days apart.
fn in_turns() -> Options {
    Options {
        recheck: RECHECK,
        rate: None,
        ..options(Depth::Incremental)
    }
}

/// A mirror of a tree with so many small layers besides.
async fn large_mirror(bench: &Bench, layers: usize) -> (HostileMirror, Vec<Digest>) {
    mirror_of(bench, layers, 0).await
}

/// A mirror of so many layers more, each of about that length.
async fn mirror_of(bench: &Bench, layers: usize, length: usize) -> (HostileMirror, Vec<Digest>) {
    let layers: Vec<String> = (0..layers)
        .map(|number| format!("layer {number}{}", "x".repeat(length)))
        .collect();
    let bytes: Vec<&[u8]> = layers.iter().map(String::as_bytes).collect();
    bench.publish("large", &bytes);
    let digests = bytes.iter().map(|layer| Algorithm::Sha256.digest(layer));
    (bench.mirror("m").await, digests.collect())
}

/// Crawls the only host at a time.
async fn crawl_then(bench: &Bench, catalog: &Arc<Catalog>, now: Timestamp) -> HostReport {
    let tree = Tree::open(&bench.tree()).unwrap();
    let (path, options) = (bench.database_path(), in_turns());
    let report = crawl_at(now, &path, &tree, Arc::clone(catalog), &[], &options).await;
    report.unwrap().hosts.remove(0)
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

#[tokio::test]
async fn a_second_crawl_of_the_same_asks_little_and_forgets_nothing() {
    let bench = Bench::new();
    // Any blob may be read again: so long that the longest there is, and a few others, are little of all.
    let (_mirror, _) = mirror_of(&bench, 600, 16_000).await;
    let (catalog, began) = (bench.catalog(), Timestamp::now() - hours(2));
    let first = crawl_then(&bench, &catalog, began).await;
    let blobs = catalog.blobs().len() as u64;
    assert_eq!((first.verified, &first.failure), (blobs, &None));
    assert!(first.requests > blobs);
    let known = || {
        let id = bench.database().host(&name("m")).unwrap().host.id;
        bench.database().known(id, &catalog).unwrap()
    };
    let before = known();

    let second = crawl_then(&bench, &catalog, began + hours(1)).await;
    assert!(second.requests * 10 <= first.requests, "{second:?}");
    assert!(second.bytes * 10 <= first.bytes, "{second:?}");
    assert_eq!((second.verified, second.present), (blobs, 0));
    assert_eq!((second.missing, second.damaged, second.unknown), (0, 0, 0));
    assert_eq!(bench.offered("m").await, bench.blobs());
    let after = known();
    assert_eq!(after.verified, before.verified);
    assert!(after.read.iter().all(Option::is_some));
    assert!(after.finished_at > before.finished_at);
}

#[tokio::test]
async fn within_a_recheck_every_blob_is_looked_at_once() {
    let bench = Bench::new();
    let (mirror, _) = large_mirror(&bench, 300).await;
    let catalog = bench.catalog();
    let mut now = Timestamp::now() - hours(100);
    crawl_then(&bench, &catalog, now).await;
    mirror.take_asked();
    let end = now + SignedDuration::try_from(RECHECK).unwrap();
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    let mut turn = 0;
    while now < end {
        // Turns come when they come.
        turn += 1;
        now = end.min(now + SignedDuration::from_mins(40 + turn * 37 % 300));
        crawl_then(&bench, &catalog, now).await;
        for asked_for in mirror.take_asked() {
            if asked_for.method == Method::HEAD {
                *asked.entry(asked_for.path).or_default() += 1;
            }
        }
    }
    let all: BTreeSet<String> = bench.blobs().iter().map(path).collect();
    assert_eq!(asked.keys().cloned().collect::<BTreeSet<_>>(), all);
    let again = asked.values().filter(|count| **count > 1).count();
    assert!(again < all.len() / 10, "{again} of {}", all.len());
}

#[tokio::test]
async fn missing_blobs_are_asked_for_again_when_the_mirror_has_moved() {
    let bench = Bench::new();
    let (mirror, layers) = large_mirror(&bench, 200).await;
    let lacking: BTreeSet<String> = layers[..100].iter().map(path).collect();
    for layer in &lacking {
        mirror.fail(layer, Fault::Status(404));
    }
    let (catalog, now) = (bench.catalog(), Timestamp::now() - hours(9));
    assert_eq!(crawl_then(&bench, &catalog, now).await.missing, 100);
    mirror.take_asked();
    let asked = || {
        let asked = mirror.take_asked().into_iter().map(|asked| asked.path);
        asked.filter(|path| lacking.contains(path)).count()
    };
    let second = crawl_then(&bench, &catalog, now + hours(1)).await;
    assert_eq!(second.missing, 100);
    assert!(asked() < 20);

    mirror.heal();
    bench.publish("another", &[b"one more"]);
    let third = crawl_then(&bench, &bench.catalog(), now + hours(2)).await;
    assert_eq!(asked(), 100);
    assert_eq!((third.missing, third.behind), (0, Some(0)));
    assert_eq!(bench.offered("m").await, bench.blobs());
}

#[tokio::test]
async fn a_few_missing_blobs_are_asked_for_each_time() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::Status(404));
    let (catalog, now) = (bench.catalog(), Timestamp::now() - hours(9));
    assert_eq!(crawl_then(&bench, &catalog, now).await.missing, 1);
    mirror.heal();
    crawl_then(&bench, &catalog, now + hours(1)).await;
    assert_eq!(bench.offered("m").await, bench.blobs());
}

#[tokio::test]
async fn an_unknown_answer_costs_that_blob_and_no_other_and_is_asked_for_again() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Full).await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::Status(503));
    let report = bench.crawl(Depth::Incremental).await;
    let host = only(&report);
    assert_eq!((host.verified, host.unknown), (BLOBS - 1, 1), "{host:?}");
    assert_eq!(bench.offered("m").await, bench.all_but(&layer));

    mirror.heal();
    let catalog = bench.catalog();
    crawl_then(&bench, &catalog, Timestamp::now()).await;
    assert_eq!(bench.offered("m").await, bench.blobs());
}

#[tokio::test]
async fn what_was_not_reached_in_time_stays_as_it_was_and_has_its_turn_next_time() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Full).await;
    let finished = || bench.database().turns().unwrap()[0].finished_at;
    let before = finished();
    mirror.fail(path(&bench.nth(3)), Fault::Silent);
    mirror.take_asked();
    let options = Options {
        per_host: Duration::from_secs(2),
        ..options(Depth::Incremental)
    };
    let report = bench.crawl_with(&[], &options).await;
    let host = only(&report);
    assert_eq!((host.verified, host.unknown), (BLOBS, 0), "{host:?}");
    assert_eq!(mirror.take_asked().len(), 4);
    assert_eq!(bench.offered("m").await, bench.blobs());
    assert_eq!(finished(), before);

    mirror.heal();
    bench.crawl(Depth::Incremental).await;
    assert!(mirror.take_asked().len() as u64 >= BLOBS);
    assert!(finished() > before);
}

#[tokio::test]
async fn a_mirror_that_has_lost_everything_is_found_out_at_once() {
    let bench = Bench::new();
    let (mirror, _) = large_mirror(&bench, 200).await;
    let (catalog, now) = (bench.catalog(), Timestamp::now() - hours(9));
    crawl_then(&bench, &catalog, now).await;
    mirror.fail_everywhere(Fault::Status(404));
    let report = crawl_then(&bench, &catalog, now + hours(1)).await;
    assert_eq!(report.missing, catalog.blobs().len() as u64, "{report:?}");
    assert!(bench.offered("m").await.is_empty());
}

#[tokio::test]
async fn a_suspect_is_looked_at_first_and_alone_if_it_is_nobodys_turn() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Full).await;
    let catalog = bench.catalog();
    let database = bench.database();
    let host = database.host(&name("m")).unwrap().host;
    let known = database.known(host.id, &catalog).unwrap();
    let suspect = catalog.id(&large_layer()).unwrap();
    let occasion = Occasion {
        now: Timestamp::now(),
        suspects: vec![suspect],
        ..Occasion::default()
    };
    mirror.fail(path(&large_layer()), Fault::FlippedByte);
    for (depth, asked_for) in [(Depth::Check, 1), (Depth::Incremental, 5)] {
        mirror.take_asked();
        let options = Options {
            depth,
            ..in_turns()
        };
        let surroundings = Surroundings {
            tree: Tree::open(&bench.tree()).unwrap(),
            catalog: Arc::clone(&catalog),
            wire: Wire::new(&options.wire).unwrap(),
            options,
        };
        let visit = visit(&host, &known, &occasion, &surroundings).await;
        let asked = mirror.take_asked();
        assert_eq!(asked[0].path, path(&large_layer()), "{depth:?}");
        assert!(asked.len() >= asked_for, "{depth:?}: {asked:?}");
        let Outcome::Finished {
            scope,
            verdicts,
            evidence,
        } = visit.outcome
        else {
            panic!("{depth:?}: {:?}", visit.outcome);
        };
        assert_eq!(evidence.len(), 1);
        if depth == Depth::Check {
            assert_eq!(scope, Scope::Part);
        }
        assert!(verdicts.contains(&(suspect, Verdict::Damaged)));
        assert_eq!(visit.is_complete, depth == Depth::Incremental);
        if depth == Depth::Check {
            assert!(asked.iter().all(|asked| asked.path == path(&large_layer())));
        }
    }
}

#[tokio::test]
async fn two_crawlers_do_not_meet_at_one_mirror() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let database = bench.database();
    let id = database.host(&name("m")).unwrap().host.id;
    let now = Timestamp::now();
    let until = now + SignedDuration::from_secs(60);
    assert!(database.claim(id, now, until).unwrap());

    let mut schedule = bench.schedule(Duration::ZERO).await;
    schedule.once().await.unwrap();
    assert!(schedule.finished().await.is_none());
    let (all, options) = ([], options(Depth::Full));
    let crawling = bench.crawl_with(&all, &options);
    let giving_back = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(mirror.connections(), 0);
        database.release(id).unwrap();
    };
    let (report, ()) = tokio::join!(crawling, giving_back);
    assert_eq!(only(&report).verified, BLOBS);
    assert!(database.claim(id, now, until).unwrap(), "it was given back");
}

#[tokio::test]
async fn our_own_outage_disables_nobody() {
    let bench = Bench::new();
    let mut mirrors = Vec::new();
    for number in 0..6 {
        mirrors.push(bench.mirror(&format!("m{number}")).await);
    }
    bench.crawl(Depth::Full).await;
    let alone = mirrors.remove(0);
    drop(alone);
    let report = bench.crawl(Depth::Incremental).await;
    assert!(report.hosts[0].failure.is_some());
    assert!(bench.standing("m0").is_err(), "the others answer");

    bench.record_read("m0", 0);
    mirrors.clear();
    for _ in 0..4 {
        let report = bench.crawl(Depth::Incremental).await;
        for host in &report.hosts {
            let failure = host.failure.as_ref().unwrap();
            assert!(failure.contains("not held against"), "{failure}");
            assert_eq!(bench.standing(&host.name), Ok(()));
        }
    }
    assert_eq!(bench.offered("m3").await, bench.blobs());
}
