//! What follows from damage, and what ends it.

use jiff::Timestamp;
use oci_mirror::tree::catalog::BlobId;
use registry_proxy::crawler::Depth;
use registry_proxy::crawler::identity::Identity;
use registry_proxy::db::{Crawl, Outcome, Scope, Verdict};
use registry_proxy::network::{Health, NewHost};

use crate::bench::{BLOBS, Bench, large_layer, name, only, path};
use crate::hostile_mirror::Fault;

/// Writes down a crawl that told the same of every blob, but of one.
fn record(bench: &Bench, scope: Scope, verdict: Verdict, (but, of_it): (BlobId, Verdict)) {
    let catalog = bench.catalog();
    let mut database = bench.database();
    let host = database.host(&name("m")).unwrap().host.id;
    let all = (0..u32::try_from(BLOBS).unwrap()).map(BlobId);
    let verdicts = all.map(|id| (id, if id == but { of_it } else { verdict }));
    let outcome = Outcome::Finished {
        scope,
        verdicts: verdicts.collect(),
        evidence: Vec::new(),
    };
    let crawl = Crawl::new(Timestamp::now(), outcome);
    database.record_crawl(host, &crawl, &catalog).unwrap();
}

fn is_quarantined(bench: &Bench) -> bool {
    let host = bench.database().host(&name("m")).unwrap().host;
    matches!(host.health, Health::Quarantined { .. })
}

/// A bench with a mirror that has sent damage; and the blob.
async fn damaged() -> (Bench, BlobId) {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::FlippedByte);
    bench.crawl(Depth::Full).await;
    assert!(is_quarantined(&bench));
    let id = bench.catalog().id(&layer).unwrap();
    (bench, id)
}

#[tokio::test]
async fn evidence_says_what_where_and_to_whom() {
    let (bench, id) = damaged().await;
    let evidence = bench.database().evidence(&name("m")).unwrap();
    let [(_, piece)] = &evidence[..] else {
        panic!("{evidence:?}");
    };
    let catalog = bench.catalog();
    let blob = catalog.blob(id);
    assert_eq!(piece.digest, blob.digest);
    assert!(piece.url.ends_with(&path(&blob.digest)), "{}", piece.url);
    let expected = format!("{} bytes with the digest {}", blob.size, blob.digest);
    assert_eq!(piece.expected, expected);
    assert!(piece.found.starts_with("bytes with the digest sha256:"));
    assert!([Identity::Crawler, Identity::Browser].contains(&piece.identity));
}

#[tokio::test]
async fn looking_again_does_not_end_a_quarantine() {
    for verdict in [Verdict::Confirmed, Verdict::Present, Verdict::Sampled] {
        let (bench, id) = damaged().await;
        for _ in 0..3 {
            record(&bench, Scope::Whole, verdict, (id, verdict));
            assert!(is_quarantined(&bench), "{verdict:?}");
        }
        assert!(bench.offered("m").await.is_empty());
    }
}

#[tokio::test]
async fn reading_everything_ends_it_and_all_but_one_does_not() {
    let (bench, id) = damaged().await;
    let other = BlobId(u32::from(id == BlobId(0)));
    record(
        &bench,
        Scope::Whole,
        Verdict::Read,
        (other, Verdict::Unknown),
    );
    assert!(is_quarantined(&bench));
    record(
        &bench,
        Scope::Whole,
        Verdict::Read,
        (other, Verdict::Missing),
    );
    assert!(!is_quarantined(&bench), "what is gone harms nobody");
    assert_eq!(bench.offered("m").await.len() as u64, BLOBS - 1);
}

#[tokio::test]
async fn so_many_right_samples_end_it_that_little_damage_would_have_been_seen() {
    let (bench, id) = damaged().await;
    let crawls = 690_u64.div_ceil(BLOBS);
    for crawl in 1..=crawls {
        assert!(is_quarantined(&bench), "{crawl}");
        record(&bench, Scope::Whole, Verdict::Sampled, (id, Verdict::Read));
    }
    assert!(!is_quarantined(&bench));
}

#[tokio::test]
async fn damage_seen_anew_begins_it_from_the_start() {
    let (bench, id) = damaged().await;
    let mirror = bench.database().host(&name("m")).unwrap().host;
    assert!(mirror.download_url().is_some());
    for _ in 0..85 {
        record(&bench, Scope::Whole, Verdict::Sampled, (id, Verdict::Read));
    }
    assert!(is_quarantined(&bench));
    let catalog = bench.catalog();
    let blob = catalog.blob(id);
    let evidence = registry_proxy::db::Evidence {
        digest: blob.digest,
        url: "http://m.example/x".to_owned(),
        expected: "sense".to_owned(),
        found: "nonsense".to_owned(),
        identity: Identity::Browser,
    };
    let outcome = Outcome::Finished {
        scope: Scope::Part,
        verdicts: vec![(id, Verdict::Damaged)],
        evidence: vec![evidence],
    };
    let crawl = Crawl::new(Timestamp::now(), outcome);
    let mut database = bench.database();
    database
        .record_crawl(mirror.id, &crawl, &bench.catalog())
        .unwrap();
    for _ in 0..85 {
        record(&bench, Scope::Whole, Verdict::Sampled, (id, Verdict::Read));
    }
    assert!(is_quarantined(&bench));
}

#[tokio::test]
async fn an_operators_word_ends_it_and_new_damage_begins_it_again() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail(path(&large_layer()), Fault::FlippedByte);
    bench.crawl(Depth::Full).await;
    assert!(bench.database().clear_quarantine(&name("m")).unwrap());
    assert_eq!(bench.standing("m"), Ok(()));
    bench.crawl(Depth::Full).await;
    assert!(is_quarantined(&bench));
}

#[tokio::test]
async fn damage_that_is_not_carried_any_more_is_not_washed_off_by_the_little_that_is() {
    let bench = Bench::new();
    let layers: Vec<String> = (0..100).map(|number| format!("layer {number}")).collect();
    let layers: Vec<&[u8]> = layers.iter().map(String::as_bytes).collect();
    bench.publish("little", &layers);
    let mirror = bench.mirror("m").await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::FlippedByte);
    bench.crawl(Depth::Full).await;
    assert!(is_quarantined(&bench));
    let carry = |repositories| {
        let change = |host| {
            Ok(NewHost {
                repositories,
                ..host
            })
        };
        bench.database().change_host(&name("m"), change).unwrap();
    };
    carry(vec!["little".parse().unwrap()]);
    let little = bench.blobs_of("little");
    assert!(!little.contains(&layer));
    // All of it is right, time and again, and read whole.
    for crawl in 0..690 / little.len() {
        let depth = [Depth::Incremental, Depth::Full][crawl % 2];
        let report = bench.crawl(depth).await;
        assert_eq!(only(&report).verified, little.len() as u64, "{report:?}");
        assert!(is_quarantined(&bench), "{crawl}");
    }
    bench.crawl(Depth::Incremental).await;
    assert!(!is_quarantined(&bench), "so much of it was right");
    assert_eq!(bench.offered("m").await, little);
    assert_eq!(bench.database().evidence(&name("m")).unwrap().len(), 1);

    // What was damaged is remembered, and read before all else.
    carry(Vec::new());
    mirror.take_asked();
    bench.crawl(Depth::Incremental).await;
    assert_eq!(mirror.take_asked()[0].path, path(&layer));
    assert!(is_quarantined(&bench));
}
