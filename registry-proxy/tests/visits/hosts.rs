//! Whom to ask.

use std::time::Duration;

use oci_mirror::tree::Tree;
use registry_proxy::crawler::guard::Policy;
use registry_proxy::crawler::{Depth, Options, crawl};
use registry_proxy::network::{NewHost, Visibility};

use crate::bench::{BLOBS, Bench, name, new_host, only, options};
use crate::hostile_mirror::{Fault, HostileMirror};

#[tokio::test]
async fn an_address_on_the_inside_is_refused_unless_the_host_is_private() {
    let bench = Bench::new();
    let mirror = HostileMirror::start(&bench.tree()).await;
    let port = mirror.address.port();
    bench.enter(&new_host("address", &mirror.url()));
    bench.enter(&new_host("name", &format!("http://localhost:{port}")));
    bench.enter(&NewHost {
        visibility: Visibility::Private,
        ..new_host("private", &mirror.url())
    });
    let options = Options {
        policy: Policy::PublicOnly,
        ..options(Depth::Full)
    };
    let report = bench.crawl_with(&[], &options).await;
    let [address, by_name, private] = &report.hosts[..] else {
        panic!("{report:?}");
    };
    for (host, reason) in [
        (address, "its address is not public"),
        (by_name, "localhost has no address on the public internet"),
    ] {
        let failure = host.failure.as_ref().unwrap();
        assert!(failure.contains(reason), "{failure}");
        assert!(bench.standing(&host.name).unwrap_err().contains(reason));
    }
    assert_eq!(mirror.connections(), 1, "{report:?}");
    assert_eq!((private.verified, &private.failure), (BLOBS, &None));
}

#[tokio::test]
async fn a_host_without_http_fails_and_says_so() {
    let bench = Bench::new();
    bench.enter(&new_host("m", "rsync://m.example/containers"));
    let report = bench.crawl(Depth::Full).await;
    let failure = only(&report).failure.as_ref().unwrap();
    assert!(failure.contains("no http or https URL"), "{failure}");
}

#[tokio::test]
async fn a_disabled_host_is_crawled_only_by_name() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    bench
        .database()
        .set_disabled(&name("m"), Some("moving"))
        .unwrap();
    assert!(bench.crawl(Depth::Full).await.hosts.is_empty());
    assert_eq!(mirror.connections(), 0);
    let report = bench.crawl_with(&[name("m")], &options(Depth::Full)).await;
    assert_eq!(only(&report).verified, BLOBS);
    assert!(bench.offered("m").await.is_empty());
    let (path, options) = (bench.database_path(), options(Depth::Full));
    let (tree, other) = (Tree::open(&bench.tree()).unwrap(), [name("other")]);
    let unknown = crawl(&path, &tree, bench.catalog(), &other, &options).await;
    let error = unknown.unwrap_err().to_string();
    assert!(error.contains("no mirror called other"), "{error}");
}

#[tokio::test]
async fn a_host_removed_while_it_is_crawled_does_not_spoil_the_report() {
    let bench = Bench::new();
    let gone = bench.mirror("gone").await;
    gone.fail_everywhere(Fault::Slow(Duration::from_millis(100)));
    let _stays = bench.mirror("stays").await;
    let (all, options) = ([], options(Depth::Full));
    let crawling = bench.crawl_with(&all, &options);
    let removing = async {
        gone.is_asked().await;
        bench.database().remove_host(&name("gone")).unwrap();
    };
    let (report, ()) = tokio::join!(crawling, removing);
    assert_eq!(report.hosts.len(), 2);
    assert_eq!(bench.offered("stays").await, bench.blobs());
}
