//! What crawls take, whatever comes of them.

use jiff::Timestamp;
use oci_mirror::tree::Tree;
use registry_proxy::crawler::once::{HostReport, crawl_at};
use registry_proxy::crawler::{Depth, Options, visit};

use super::hours;
use crate::bench::{Bench, name, noise, only, options};
use crate::hostile_mirror::Fault;

/// Crawls the only host at a time, with so many bytes a day.
async fn crawl_for(bench: &Bench, daily_bytes: u64, now: Timestamp) -> HostReport {
    let tree = Tree::open(&bench.tree()).unwrap();
    let options = Options {
        daily_bytes,
        ..options(Depth::Incremental)
    };
    let (path, catalog) = (bench.database_path(), bench.catalog());
    let report = crawl_at(now, &path, &tree, catalog, &[], &options).await;
    report.unwrap().hosts.remove(0)
}

#[tokio::test]
async fn what_the_first_day_is_worth_is_told_before_it_and_by_its_crawls() {
    let bench = Bench::new();
    let _mirror = bench.mirror("m").await;
    let host = bench.database().host(&name("m")).unwrap().host;
    let expected = |daily| visit::expected(&host, &bench.catalog(), daily);
    // All of eight blobs, of which each is damaged one time in a hundred.
    let all = 1.0 - 0.99_f64.powi(8);
    assert!((expected(1 << 30) - all).abs() < 1e-9);
    // The six small ones, and half of the two others.
    let some = 1.0 - 0.99_f64.powi(7);
    assert!((expected(bench.bytes() / 2) - some).abs() < 1e-3);
    let first = crawl_for(&bench, 1 << 30, Timestamp::now()).await;
    assert!((first.expected - all).abs() < 1e-9, "{first:?}");
}

#[tokio::test]
async fn everything_asked_and_read_is_counted() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    for depth in [Depth::Full, Depth::Incremental] {
        let report = bench.crawl(depth).await;
        // One more for the state.
        let asked = mirror.take_asked().len() as u64 + 1;
        assert_eq!(only(&report).requests, asked, "{depth:?}");
    }
    let id = bench.database().host(&name("m")).unwrap().host.id;
    let known = bench.database().known(id, &bench.catalog()).unwrap();
    let [(_, full), (_, next)] = known.bytes[..] else {
        panic!("{:?}", known.bytes);
    };
    // A part of the smallest blob is read once more, to see whether parts are sent.
    let read = bench.bytes() + bench.state();
    assert!((read..read + 1000).contains(&full), "{full} of {read}");
    assert!(next >= bench.state(), "{next}");
}

#[tokio::test]
async fn what_a_failed_crawl_has_read_is_not_to_be_had_again_on_that_day() {
    const DAILY: u64 = 24 * 100_000;
    let bench = Bench::new();
    for number in 0..8 {
        bench.publish("large", &[&noise(270_000 + number)]);
    }
    let mirror = bench.mirror("m").await;
    // Found when all is read.
    mirror.fail_everywhere(Fault::EncodedIfUnderstood);
    let now = Timestamp::now() - hours(30);
    let first = crawl_for(&bench, DAILY, now).await;
    assert!(first.failure.unwrap().contains("encoding"));
    assert!((DAILY - 300_000..DAILY + 20_000).contains(&first.bytes));

    let second = crawl_for(&bench, DAILY, now + hours(1)).await;
    assert!(second.failure.is_some());
    assert!(second.bytes < 500_000, "{}", second.bytes);
    mirror.heal();
    let third = crawl_for(&bench, DAILY, now + hours(26)).await;
    assert!(third.bytes > 1_000_000, "{}", third.bytes);
}
