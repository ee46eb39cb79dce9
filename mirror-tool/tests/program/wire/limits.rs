//! When requests go, how many, and when no more do.

use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oci_mirror::digest::Algorithm;
use oci_mirror::registry::Error;
use oci_mirror::registry::client::Options;
use oci_mirror::registry::credentials::Credentials;

use super::{anonymous, many, name, options, tag, with};
use crate::fake_registry::{Auth, FakeRegistry, Fault};

#[tokio::test]
async fn a_login_that_fails_for_many_counts_once() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Bearer(None));
    fake.fail("/v2/a/manifests/1", Fault::Slow(Duration::from_millis(50)));
    fake.fail("/token", Fault::Status(503, vec![]));
    let options = Options {
        give_up_after: 2,
        ..options()
    };
    let registry = Arc::new(with(&fake, &options, Credentials::none()));
    for round in 1..=3 {
        let errors = many(&registry, 10).await;
        let given_up = |error: &Error| matches!(error, Error::GivenUp { .. });
        assert_eq!(
            errors.iter().all(given_up),
            round == 3,
            "{round}: {errors:?}"
        );
    }
    assert_eq!(fake.token_requests().len(), 2 * 3);
}

#[tokio::test]
async fn retry_after_is_obeyed_as_seconds_and_as_a_date() {
    let now = "Fri, 31 Dec 1999 23:59:50 GMT";
    for fields in [
        vec![("retry-after", "1".to_owned())],
        vec![
            ("retry-after", "Fri, 31 Dec 1999 23:59:51 GMT".to_owned()),
            ("date", now.to_owned()),
        ],
    ] {
        let fake = FakeRegistry::start().await;
        fake.image("a", Some("1"), &[b"layer"]);
        let layer = Algorithm::Sha256.digest(b"layer");
        let registry = anonymous(&fake);

        fake.fail_once("/v2/a/manifests/1", Fault::Status(429, fields.clone()));
        let started = Instant::now();
        registry.manifest(&name("a"), &tag("1")).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(900));

        // A blob is tried once: the error says how long to wait, and nothing else goes meanwhile.
        fake.fail_once(&format!("/v2/a/blobs/{layer}"), Fault::Status(429, fields));
        let started = Instant::now();
        let error = registry.blob(&name("a"), &layer, 0).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        assert!(started.elapsed() < Duration::from_millis(900));
        registry.tags(&name("a")).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(900));
    }
}

#[tokio::test]
async fn the_budget_of_requests_counts_all_that_goes_to_the_registry() {
    let (fake, store) = (FakeRegistry::start().await, FakeRegistry::start().await);
    fake.set_auth(Auth::Bearer(None));
    fake.image("a", Some("1"), &[b"layer"]);
    let layer = store.blob(&b"layer"[..]);
    let path = format!("/v2/a/blobs/{layer}");
    let there = format!("http://{}{path}", store.address);
    fake.fail(&path, Fault::Status(307, vec![("location", there)]));
    let options = Options {
        rate: Some("4/s".parse().unwrap()),
        ..options()
    };
    let registry = with(&fake, &options, Credentials::none());
    let started = Instant::now();
    // Refused and allowed, then two more: four at once. The token and the store are no part of it.
    registry.manifest(&name("a"), &tag("1")).await.unwrap();
    registry.blob(&name("a"), &layer, 0).await.unwrap();
    registry.tags(&name("a")).await.unwrap();
    let at_once = started.elapsed();
    assert!(at_once < Duration::from_millis(240), "{at_once:?}");
    for _ in 0..3 {
        registry.head(&name("a"), &tag("1")).await.unwrap();
    }
    let spread = started.elapsed();
    assert!(spread >= Duration::from_millis(750), "{spread:?}");
}

#[tokio::test]
async fn only_so_many_requests_are_under_way_and_a_blob_is_until_dropped() {
    let fake = FakeRegistry::start().await;
    fake.image("a", Some("1"), &[b"layer"]);
    fake.fail("/v2/a/manifests/1", Fault::Slow(Duration::from_millis(20)));
    let layer = Algorithm::Sha256.digest(b"layer");
    let options = Options {
        max_concurrent: NonZero::new(2),
        ..options()
    };
    let registry = Arc::new(with(&fake, &options, Credentials::none()));
    assert!(many(&registry, 12).await.is_empty());
    assert_eq!(fake.most_at_once(), 2);

    let one = registry.blob(&name("a"), &layer, 0).await.unwrap();
    let _other = registry.blob(&name("a"), &layer, 0).await.unwrap();
    let patience = Duration::from_millis(200);
    let blobs = name("a");
    let waiting = tokio::time::timeout(patience, registry.tags(&blobs)).await;
    assert!(waiting.is_err());
    drop(one);
    registry.tags(&blobs).await.unwrap();
}

#[tokio::test]
async fn a_registry_whose_blobs_all_fail_is_given_up_but_not_for_one_broken_blob() {
    let fake = FakeRegistry::start().await;
    let good = fake.blob(&b"good"[..]);
    let options = Options {
        give_up_after: 5,
        ..options()
    };
    let registry = with(&fake, &options, Credentials::none());
    let broken: Vec<_> = (0..20_u8).map(|n| Algorithm::Sha256.digest(&[n])).collect();
    for digest in &broken {
        fake.fail(&format!("/v2/a/blobs/{digest}"), Fault::Status(503, vec![]));
    }
    // Five questions of three tries make fifteen requests in a row; each good answer begins anew.
    for _ in 0..3 {
        for _ in 0..14 {
            let error = registry.blob(&name("a"), &broken[0], 0).await.unwrap_err();
            assert!(error.is_retryable(), "{error}");
        }
        let mut stream = registry.blob(&name("a"), &good, 0).await.unwrap();
        while stream.chunk().await.unwrap().is_some() {}
    }
    fake.take_log();
    let mut given_up = 0;
    for digest in &broken {
        let error = registry.blob(&name("a"), digest, 0).await.unwrap_err();
        given_up += usize::from(matches!(error, Error::GivenUp { failures: 15, .. }));
    }
    assert_eq!((given_up, fake.take_log().len()), (5, 15));
}

#[tokio::test]
async fn bodies_that_always_break_make_a_registry_dead_too() {
    let fake = FakeRegistry::start().await;
    let blob = fake.blob(vec![7; 1000]);
    fake.fail(&format!("/v2/a/blobs/{blob}"), Fault::Truncate(10));
    let options = Options {
        give_up_after: 1,
        ..options()
    };
    let registry = with(&fake, &options, Credentials::none());
    for _ in 0..3 {
        let mut stream = registry.blob(&name("a"), &blob, 0).await.unwrap();
        while let Ok(chunk) = stream.chunk().await {
            assert!(chunk.is_some());
        }
    }
    let error = registry.blob(&name("a"), &blob, 0).await.unwrap_err();
    assert!(matches!(error, Error::GivenUp { .. }), "{error}");
}
