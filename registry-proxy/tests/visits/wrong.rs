//! What is not there, and what is wrong.

use registry_proxy::crawler::Depth;

use crate::bench::{BLOBS, Bench, large_layer, name, only, path};
use crate::hostile_mirror::Fault;

#[tokio::test]
async fn only_the_blob_that_is_not_there_is_missing() {
    for status in [404, 410, 403] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        let layer = large_layer();
        mirror.fail(path(&layer), Fault::Status(status));
        let report = bench.crawl(Depth::Full).await;
        let host = only(&report);
        assert_eq!(
            (host.verified, host.missing, host.damaged, host.unknown),
            (BLOBS - 1, 1, 0, 0),
            "{status}"
        );
        // What else clients do is tried with a part of another.
        let least = bench.bytes() - bench.size(&layer) + bench.state();
        let read = least..least + bench.size(&layer);
        assert!(read.contains(&host.bytes), "{status}: {}", host.bytes);
        assert_eq!(bench.offered("m").await, bench.all_but(&layer), "{status}");

        mirror.heal();
        let report = bench.crawl(Depth::Incremental).await;
        assert_eq!(only(&report).verified, BLOBS, "{status}");
    }
}

#[tokio::test]
async fn a_flipped_byte_takes_the_host_out_until_all_of_it_was_read_again() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench.crawl(Depth::Full).await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::FlippedByte);
    let report = bench.crawl(Depth::Full).await;
    let host = only(&report);
    assert_eq!((host.verified, host.damaged), (BLOBS - 1, 1));
    assert!(bench.offered("m").await.is_empty());

    let kept = &bench.database().evidence(&name("m")).unwrap()[0].1;
    assert_eq!(kept, &host.evidence[0]);
    assert_eq!(
        (kept.digest, &kept.url),
        (layer, &format!("{}{}", mirror.url(), path(&layer)))
    );
    assert!(
        kept.found.contains("sha256:") && !kept.found.contains(&layer.to_string()),
        "{}",
        kept.found
    );
    let reason = bench.standing("m").unwrap_err();
    assert!(
        reason.starts_with("quarantined") && reason.contains(&layer.to_string()),
        "{reason}"
    );

    mirror.fail(path(&layer), Fault::Status(503));
    bench.crawl(Depth::Full).await;
    assert!(
        bench.offered("m").await.is_empty(),
        "not everything was read"
    );
    mirror.heal();
    bench.crawl(Depth::Full).await;
    assert_eq!(bench.offered("m").await, bench.blobs());
    assert_eq!(bench.database().evidence(&name("m")).unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_the_file_is_damage() {
    for (fault, found) in [
        (Fault::Shorter, "Content-Length"),
        (Fault::Longer, "Content-Length"),
        (Fault::LongerUnannounced, "more than"),
        (Fault::Page, "Content-Length"),
        (Fault::PageUnannounced, "bytes"),
        (Fault::Encoded("gzip"), "Content-Encoding `gzip`"),
    ] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        let layer = large_layer();
        mirror.fail(path(&layer), fault.clone());
        let report = bench.crawl(Depth::Full).await;
        let host = only(&report);
        assert_eq!(
            (host.verified, host.damaged),
            (BLOBS - 1, 1),
            "{fault:?}: {host:?}"
        );
        assert!(
            host.evidence[0].found.contains(found),
            "{fault:?}: {:?}",
            host.evidence
        );
        assert!(bench.offered("m").await.is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_encoding_that_changes_nothing_is_no_damage() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    mirror.fail_everywhere(Fault::Encoded("identity"));
    assert_eq!(only(&bench.crawl(Depth::Full).await).verified, BLOBS);
}

#[tokio::test]
async fn a_page_for_everything_is_damage_even_where_only_looking_was_due() {
    for fault in [Fault::Page, Fault::PageUnannounced] {
        let bench = Bench::new();
        let mirror = bench.mirror("m").await;
        bench.crawl(Depth::Full).await;
        mirror.fail_everywhere(fault.clone());
        for depth in [Depth::Incremental, Depth::Full] {
            let report = bench.crawl(depth).await;
            let host = only(&report);
            assert_eq!(
                (host.verified, host.damaged),
                (0, BLOBS),
                "{fault:?} {depth:?}"
            );
            assert!(bench.offered("m").await.is_empty(), "{fault:?} {depth:?}");
        }
    }
}

#[tokio::test]
async fn a_body_without_end_is_read_little_further_than_the_blob_is_long() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let layer = large_layer();
    mirror.fail(path(&layer), Fault::Endless);
    let report = bench.crawl(Depth::Full).await;
    let host = only(&report);
    assert_eq!((host.verified, host.damaged), (BLOBS - 1, 1));
    // What it sent beyond is what fits into the buffers on the way.
    assert!(mirror.sent() < 32 << 20, "{} bytes", mirror.sent());
}
