//! What is right.

use std::collections::BTreeSet;

use http::Method;
use registry_proxy::crawler::Depth;
use registry_proxy::network::NewHost;

use crate::bench::{BLOBS, Bench, large_layer, new_host, only, path};
use crate::hostile_mirror::{Fault, HostileMirror};

#[tokio::test]
async fn every_blob_of_a_good_mirror_is_verified_and_offered() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    assert!(bench.offered("m").await.is_empty(), "before it was crawled");
    let report = bench.crawl(Depth::Full).await;
    let host = only(&report);
    assert_eq!((host.verified, &host.failure), (BLOBS, &None), "{host:?}");
    assert_eq!((host.missing, host.damaged, host.unknown), (0, 0, 0));
    assert_eq!(bench.offered("m").await, bench.blobs());
    // What else clients do is tried after that.
    let asked = mirror.take_asked();
    // One more for the state.
    assert_eq!(host.requests, asked.len() as u64 + 1);
    assert!(host.requests > BLOBS + 1 && host.bytes > bench.bytes());
    let blobs = asked.iter().filter(|asked| asked.path.contains("/blobs/"));
    assert!(
        blobs
            .take(bench.blobs().len())
            .all(|asked| asked.method == Method::GET && asked.is_plain()),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_mirror_is_asked_over_one_connection_by_one_that_says_who_it_is() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    for depth in [Depth::Full, Depth::Incremental, Depth::Full] {
        let before = mirror.connections();
        bench.crawl(depth).await;
        assert_eq!(mirror.connections() - before, 1, "{depth:?}");
        let asked = mirror.take_asked();
        let ours = asked.iter().filter(|asked| {
            let agent = asked.field("user-agent");
            agent.starts_with("registry-proxy/") && agent.contains("crawler")
        });
        // All but a share: a mirror that tells its crawler from its clients is to be caught.
        assert!(ours.count() * 2 > asked.len(), "{asked:?}");
        assert!(asked.iter().all(|asked| asked.field("referer").is_empty()));
    }
}

#[tokio::test]
async fn a_blob_that_is_not_there_costs_no_connection() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail_everywhere(Fault::Status(404));
    assert_eq!(only(&bench.crawl(Depth::Full).await).missing, BLOBS);
    assert_eq!(mirror.connections(), 1);
}

#[tokio::test]
async fn only_the_repositories_a_host_carries_are_asked_for() {
    let bench = Bench::new();
    let mirror = HostileMirror::start(&bench.tree()).await;
    bench.enter(&NewHost {
        repositories: vec!["debian/*".parse().unwrap()],
        ..new_host("m", &mirror.url())
    });
    let report = bench.crawl(Depth::Full).await;
    let debian = bench.blobs_of("debian/base");
    assert_eq!(only(&report).verified, debian.len() as u64);
    let asked: BTreeSet<_> = mirror
        .take_asked()
        .into_iter()
        .map(|asked| asked.path)
        .collect();
    assert_eq!(asked, debian.iter().map(path).collect());
    assert_eq!(bench.offered("m").await, debian);
}

#[tokio::test]
async fn a_redirect_is_followed_as_clients_would() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let elsewhere = HostileMirror::start(&bench.tree()).await;
    let layer = large_layer();
    mirror.fail(
        path(&layer),
        Fault::Redirect(format!("{}{}", elsewhere.url(), path(&layer))),
    );
    let report = bench.crawl(Depth::Full).await;
    assert_eq!(only(&report).verified, BLOBS);
    assert_eq!(elsewhere.take_asked().len(), 1);
}
