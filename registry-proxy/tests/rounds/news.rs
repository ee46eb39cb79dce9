//! What is asked again, and when.

use std::collections::BTreeSet;

use http::Method;
use registry_proxy::crawler::Depth;

use crate::bench::{BLOBS, Bench, large_layer, only, path};
use crate::hostile_mirror::Fault;

#[tokio::test]
async fn what_is_new_is_read_at_the_next_crawl() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Incremental).await;
    assert_eq!(bench.offered("m").await, bench.blobs());
    let before: BTreeSet<_> = bench.blobs();
    mirror.take_asked();

    bench.publish("fedora", &[b"a new layer"]);
    bench.crawl(Depth::Incremental).await;
    let read = mirror.take_asked();
    let read: BTreeSet<_> = read
        .iter()
        .filter(|asked| asked.method == Method::GET)
        .map(|asked| &*asked.path)
        .collect();
    for new in bench.blobs().difference(&before) {
        assert!(read.contains(&*path(new)), "{new}");
    }
    assert_eq!(bench.offered("m").await, bench.blobs());
}

#[tokio::test]
async fn a_file_that_was_cut_is_found_by_looking() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Full).await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::Shorter);
    let report = bench.crawl(Depth::Incremental).await;
    assert_eq!(
        (only(&report).verified, only(&report).damaged),
        (BLOBS - 1, 1),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_poor_at_head_is_read_instead() {
    for fault in [
        Fault::NoHead,
        Fault::HeadWithoutLength,
        Fault::HeadOfNothing,
    ] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        mirror.fail_everywhere(fault.clone());
        bench.crawl(Depth::Full).await;
        let report = bench.crawl(Depth::Incremental).await;
        let host = only(&report);
        assert_eq!(
            (host.verified, host.bytes, host.requests),
            (BLOBS, bench.bytes() + bench.state(), 2 * BLOBS + 1),
            "{fault:?}: {host:?}"
        );
        assert_eq!(bench.offered("m").await, bench.blobs(), "{fault:?}");
    }
}
