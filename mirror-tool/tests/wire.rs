//! The wire to a source registry: logging in, limits, proxies, and registries that mean harm.

#![expect(
    clippy::unwrap_used,
    reason = "the whole binary is tests, helpers outside of #[test] among them"
)]

mod fake_registry;
mod forward_proxy;

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fake_registry::{Auth, FakeRegistry, Fault};
use forward_proxy::ForwardProxy;
use http::Response;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::error_chain::chain;
use oci_mirror::reference::{Reference, RepoName, Tag};
use oci_mirror::registry::client::Options;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::retry::Retry;
use oci_mirror::registry::{Error, Registry};
use tempfile::TempDir;
use tokio::task::JoinSet;

fn options() -> Options {
    Options {
        plain_http: true,
        read_timeout: Duration::from_secs(5),
        answer_timeout: Duration::from_secs(5),
        retry: Retry {
            retries: 2,
            first_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(20),
            max_retry_after: Duration::from_secs(2),
        },
        ..Options::default()
    }
}

fn with(fake: &FakeRegistry, options: &Options, credentials: Credentials) -> Registry {
    let host = fake.address.to_string().parse().unwrap();
    Registry::new(host, options, Arc::new(credentials)).unwrap()
}

fn anonymous(fake: &FakeRegistry) -> Registry {
    with(fake, &options(), Credentials::none())
}

/// A login for the registry, as an entry of `auth.json`.
fn login(fake: &FakeRegistry, entry: &str) -> Credentials {
    let file = tempfile::NamedTempFile::new().unwrap();
    let content = format!(r#"{{"auths":{{"{}":{entry}}}}}"#, fake.address);
    fs::write(file.path(), content).unwrap();
    Credentials::load(Some(file.path())).unwrap()
}

/// me:secret
const ME: &str = r#"{"auth":"bWU6c2VjcmV0"}"#;

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Reference {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_challenge_that_only_the_manifest_has_is_met_there() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Bearer(None));
    fake.guard_only("/manifests/");
    fake.image("a", Some("1"), &[b"layer"]);
    let registry = anonymous(&fake);
    assert_eq!(registry.tags(&name("a")).await.unwrap().len(), 1);
    registry.manifest(&name("a"), &tag("1")).await.unwrap();
    assert_eq!(
        fake.take_log(),
        [
            "GET /v2/a/tags/list",
            "GET /v2/a/manifests/1",
            "GET /token",
            "GET /v2/a/manifests/1",
        ]
    );
}

#[tokio::test]
async fn every_kind_of_login_is_sent_as_the_registry_wants_it() {
    for (auth, entry, method, query) in [
        (
            Auth::Bearer(None),
            None,
            "GET",
            "service=fake&scope=repository%3Aa%2Fb%3Apull",
        ),
        (
            Auth::Bearer(Some(("me", "secret"))),
            Some(ME),
            "GET",
            "service=fake&scope=repository%3Aa%2Fb%3Apull&account=me",
        ),
        (
            Auth::Identity("refresh-me"),
            Some(r#"{"auth":"OjA=","identitytoken":"refresh-me"}"#),
            "POST",
            "",
        ),
        (Auth::Basic("me", "secret"), Some(ME), "", ""),
    ] {
        let fake = FakeRegistry::start().await;
        fake.set_auth(auth.clone());
        fake.image("a/b", Some("1"), &[b"layer"]);
        let credentials = entry.map_or_else(Credentials::none, |entry| login(&fake, entry));
        let registry = with(&fake, &options(), credentials);
        registry.manifest(&name("a/b"), &tag("1")).await.unwrap();
        registry.tags(&name("a/b")).await.unwrap();
        let requests = fake.token_requests();
        if method.is_empty() {
            assert!(requests.is_empty());
            continue;
        }
        assert_eq!(requests.len(), 1, "{requests:#?}");
        assert_eq!(
            (requests[0].method.as_str(), requests[0].query.as_str()),
            (method, query)
        );
        if method == "POST" {
            assert_eq!(
                requests[0].body,
                "grant_type=refresh_token&service=fake&scope=repository%3Aa%2Fb%3Apull\
                 &client_id=oci-mirror&refresh_token=refresh-me"
            );
        }
        let alone = entry.is_none() || method == "POST";
        assert_eq!(requests[0].authorization.is_none(), alone);
    }
}

#[tokio::test]
async fn a_challenge_may_be_one_of_many_and_name_its_own_scope() {
    for (fields, scope) in [
        (
            &[
                "Negotiate, Basic realm=\"x\"",
                "bearer SCOPE=\"repository:a:pull,metadata\", realm=\"http://ADDRESS/token?x=y\"",
            ][..],
            "x=y&scope=repository%3Aa%3Apull%2Cmetadata",
        ),
        (
            &["Bearer realm=\"http://ADDRESS/token\",scope=\"repository:other:pull\""],
            "scope=repository%3Aa%3Apull",
        ),
        (
            &["Bearer realm=http://ADDRESS/token,scope=\"repository:a:pull repository:b:pull\""],
            "scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull",
        ),
    ] {
        let fake = FakeRegistry::start().await;
        fake.set_auth(Auth::Bearer(None));
        fake.set_challenge(fields);
        fake.image("a", Some("1"), &[b"layer"]);
        let registry = anonymous(&fake);
        registry.manifest(&name("a"), &tag("1")).await.unwrap();
        assert_eq!(fake.token_requests()[0].query, scope);
    }
}

#[tokio::test]
async fn a_challenge_that_cannot_be_met_is_an_error_that_says_why() {
    for (fields, entry, told) in [
        (&["Bearer realm=\"http://x"][..], None, "challenge"),
        (
            &["Bearer realm=\"/token\""],
            None,
            "not the address of a token service",
        ),
        (
            &["Bearer realm=\"file:///etc/passwd\""],
            None,
            "not the address",
        ),
        (&["Negotiate"], None, "401"),
        (&[], None, "401"),
        (&["Basic"], None, "401"),
        (
            &["Basic"],
            Some(r#"{"identitytoken":"t0ken"}"#),
            "identity token",
        ),
    ] {
        let fake = FakeRegistry::start().await;
        fake.set_auth(Auth::Basic("me", "secret"));
        fake.set_challenge(fields);
        let credentials = entry.map_or_else(Credentials::none, |entry| login(&fake, entry));
        let registry = with(&fake, &options(), credentials);
        let error = registry.tags(&name("a")).await.unwrap_err();
        let shown = chain(&error);
        assert!(shown.contains(told) && !shown.contains("t0ken"), "{shown}");
        assert_eq!(fake.take_log().len(), 1, "asked again: {shown}");
    }
}

#[tokio::test]
async fn where_a_redirect_leads_nobody_gets_to_ask_for_the_login() {
    let (fake, store) = (FakeRegistry::start().await, FakeRegistry::start().await);
    fake.set_auth(Auth::Bearer(Some(("me", "secret"))));
    store.set_auth(Auth::Basic("me", "secret"));
    for challenge in ["Basic", "Bearer realm=\"http://ADDRESS/token\""] {
        store.set_challenge(&[challenge]);
        let layer = store.blob(&b"layer"[..]);
        let path = format!("/v2/a/blobs/{layer}");
        let there = format!("http://{}{path}", store.address);
        fake.fail(&path, Fault::Status(307, vec![("location", there)]));
        let registry = with(&fake, &options(), login(&fake, ME));
        let error = registry.blob(&name("a"), &layer, 0).await.unwrap_err();
        assert!(error.to_string().contains("401"), "{error}");
    }
    assert_eq!((store.authorized(), store.token_requests().len()), (0, 0));
}

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

/// Asks for many manifests at the same moment; the errors of those that failed.
async fn many(registry: &Arc<Registry>, count: usize) -> Vec<Error> {
    let mut questions = JoinSet::new();
    for _ in 0..count {
        let registry = Arc::clone(registry);
        questions.spawn(async move { registry.manifest(&name("a"), &tag("1")).await });
    }
    let results = questions.join_all().await;
    results.into_iter().filter_map(Result::err).collect()
}

#[tokio::test]
async fn requests_that_meet_the_401_together_log_in_once_even_in_vain() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Bearer(None));
    fake.image("a", Some("1"), &[b"layer"]);
    fake.fail("/v2/a/manifests/1", Fault::Slow(Duration::from_millis(100)));
    fake.fail("/token", Fault::Slow(Duration::from_millis(300)));
    let registry = Arc::new(anonymous(&fake));
    assert!(many(&registry, 20).await.is_empty());
    assert_eq!(fake.token_requests().len(), 1);

    let refusal = r#"{"errors":[{"code":"DENIED","message":"not you"}]}"#;
    fake.fail(
        "/token",
        Fault::Answer(403, "application/json", refusal.to_owned()),
    );
    fake.expire_tokens();
    let errors = many(&registry, 20).await;
    assert_eq!(errors.len(), 20);
    for error in errors {
        assert!(
            chain(&error).contains("`DENIED: not you`"),
            "{}",
            chain(&error)
        );
    }
    assert_eq!(fake.token_requests().len(), 2);
    // What failed for those may go well for the next.
    fake.heal();
    assert!(many(&registry, 1).await.is_empty());
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_after_a_401() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Bearer(None));
    fake.set_token_life(1);
    fake.image("a", Some("1"), &[b"layer"]);
    let registry = anonymous(&fake);
    registry.manifest(&name("a"), &tag("1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(950)).await;
    fake.take_log();
    registry.manifest(&name("a"), &tag("1")).await.unwrap();
    assert_eq!(fake.take_log(), ["GET /token", "GET /v2/a/manifests/1"]);

    // When the renewal fails, the old token may still do.
    tokio::time::sleep(Duration::from_millis(950)).await;
    fake.fail_once("/token", Fault::Status(403, vec![]));
    registry.manifest(&name("a"), &tag("1")).await.unwrap();
    assert_eq!(fake.take_log(), ["GET /token", "GET /v2/a/manifests/1"]);

    fake.set_token_life(3600);
    fake.expire_tokens();
    registry.manifest(&name("a"), &tag("1")).await.unwrap();
    let again = "GET /v2/a/manifests/1";
    assert_eq!(fake.take_log(), [again, "GET /token", again]);
}

#[tokio::test]
async fn a_token_service_that_fails_for_a_while_is_asked_again() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Bearer(Some(("me", "secret"))));
    fake.image("a", Some("1"), &[b"layer"]);
    let wait = vec![("retry-after", "1".to_owned())];
    for (fault, least) in [
        (Fault::Status(500, vec![]), Duration::ZERO),
        (Fault::Truncate(3), Duration::ZERO),
        (Fault::Status(429, wait), Duration::from_secs(1)),
    ] {
        fake.fail_once("/token", fault);
        let registry = with(&fake, &options(), login(&fake, ME));
        let started = Instant::now();
        registry.manifest(&name("a"), &tag("1")).await.unwrap();
        assert!(started.elapsed() >= least);
        assert_eq!(fake.take_log().len(), 4);
    }
}

#[tokio::test]
async fn a_token_service_gone_wrong_is_a_short_error_without_secrets() {
    let elsewhere = FakeRegistry::start().await;
    let away = |status, to: String| Fault::Status(status, vec![("location", to)]);
    let there = format!("http://{}/token", elsewhere.address);
    let json = "application/json";
    for (fault, told, asked) in [
        (Fault::Endless, "longer than 65536 bytes", 1),
        (Fault::HugeLength, "longer than 65536 bytes", 1),
        (Fault::Slow(Duration::from_secs(60)), "does not answer", 3),
        (
            Fault::Trickle(Duration::from_millis(100)),
            "does not answer",
            3,
        ),
        (Fault::Status(500, vec![]), "500", 3),
        (Fault::Status(401, vec![]), "401", 1),
        (away(307, there.clone()), "307", 1),
        (away(302, there), "302", 1),
        (away(302, "/token".to_owned()), "cannot get a token", 11),
        (
            Fault::Answer(200, json, "{}".to_owned()),
            "not the JSON of a token",
            1,
        ),
        (
            Fault::Answer(200, "text/html", "<p>".to_owned()),
            "not the JSON",
            1,
        ),
        (
            Fault::Answer(200, json, r#"{"token":"a\nb"}"#.to_owned()),
            "not the JSON",
            1,
        ),
        (
            Fault::Answer(403, "text/plain", "not refresh-me".to_owned()),
            "403",
            1,
        ),
    ] {
        for auth in [Auth::Bearer(None), Auth::Identity("refresh-me")] {
            let fake = FakeRegistry::start().await;
            let credentials = match auth {
                Auth::Identity(_) => login(&fake, r#"{"identitytoken":"refresh-me"}"#),
                _ => Credentials::none(),
            };
            let is_form = matches!(auth, Auth::Identity(_));
            fake.set_auth(auth);
            fake.fail("/token", fault.clone());
            let options = Options {
                answer_timeout: Duration::from_millis(400),
                ..options()
            };
            let registry = with(&fake, &options, credentials);
            let error = registry.tags(&name("a")).await.unwrap_err();
            let shown = chain(&error);
            assert!(shown.contains(told) && shown.len() < 400, "{shown}");
            assert!(
                !(is_form && format!("{shown} {error:?}").contains("refresh-me")),
                "{shown}"
            );
            assert_eq!(fake.token_requests().len(), asked, "{shown}");
            assert_eq!(fake.count("GET", "/v2/a/tags/list"), 1, "{shown}");
        }
    }
    assert_eq!(elsewhere.take_log(), [""; 0], "a login went elsewhere");
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

#[tokio::test]
async fn a_manifest_that_may_be_missing_is_asked_for_once() {
    let fake = FakeRegistry::start().await;
    let digest = fake.image("a", Some("1"), &[b"layer"]);
    let registry = anonymous(&fake);
    let found = registry.try_manifest(&name("a"), &tag("1")).await.unwrap();
    assert_eq!(found.unwrap().digest(), digest);
    let found = registry.try_manifest(&name("a"), &tag("2")).await.unwrap();
    assert!(found.is_none());
    assert_eq!(fake.count("GET", "/manifests/2"), 1);
    fake.fail("/v2/a/manifests/2", Fault::Status(403, vec![]));
    let error = registry.try_manifest(&name("a"), &tag("2")).await;
    assert!(error.unwrap_err().to_string().contains("403"));
}

async fn referrers(registry: &Registry, digest: &Digest) -> Result<Option<Vec<Digest>>, Error> {
    let found = registry.referrers(&name("a"), digest).await?;
    Ok(found.map(|found| found.iter().map(|descriptor| descriptor.digest).collect()))
}

#[tokio::test]
async fn referrers_come_over_all_pages() {
    let fake = FakeRegistry::start().await;
    let image = fake.image("a", Some("1"), &[b"layer"]);
    let registry = anonymous(&fake);
    assert_eq!(referrers(&registry, &image).await.unwrap(), None);
    fake.set_referrers(true);
    assert_eq!(referrers(&registry, &image).await.unwrap(), Some(vec![]));
    let mut expected: Vec<_> = (0..5)
        .map(|n| fake.artifact("a", None, &image, &format!("application/x.{n}")))
        .collect();
    expected.sort_by_key(Digest::to_string);
    for page in [1, 2, 100] {
        fake.set_page(page);
        let found = referrers(&registry, &image).await.unwrap();
        assert_eq!(found.as_ref(), Some(&expected));
    }
    let found = registry
        .referrers(&name("a"), &image)
        .await
        .unwrap()
        .unwrap();
    assert!(
        found[0]
            .artifact_type
            .as_ref()
            .unwrap()
            .starts_with("application/x.")
    );
}

#[tokio::test]
async fn a_registry_without_the_referrers_api_is_told_from_one_that_fails() {
    let fake = FakeRegistry::start().await;
    let image = fake.image("a", Some("1"), &[b"layer"]);
    let path = format!("/v2/a/referrers/{image}");
    let json = "application/json";
    let index = "application/vnd.oci.image.index.v1+json";
    let entry = |media_type: &str| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            fake_registry::descriptor(media_type, &image, 7)
        )
    };
    let unsupported = r#"{"errors":[{"code":"UNSUPPORTED"}]}"#.to_owned();
    let registry = anonymous(&fake);
    for fault in [
        Fault::Status(400, vec![]),
        Fault::Status(404, vec![]),
        Fault::Status(405, vec![]),
        Fault::Status(501, vec![]),
        Fault::Answer(403, json, unsupported.clone()),
        Fault::Answer(
            200,
            "text/html; charset=utf-8",
            "<!doctype html>".to_owned(),
        ),
    ] {
        fake.fail(&path, fault.clone());
        assert_eq!(
            referrers(&registry, &image).await.unwrap(),
            None,
            "{fault:?}"
        );
    }
    for fault in [
        Fault::Status(403, vec![]),
        Fault::Status(500, vec![]),
        Fault::Answer(200, json, unsupported),
        Fault::Answer(200, json, "<html>".to_owned()),
        Fault::Answer(200, index, String::new()),
        Fault::Answer(
            200,
            index,
            r#"{"schemaVersion":2,"manifests":[7]}"#.to_owned(),
        ),
    ] {
        fake.fail(&path, fault.clone());
        assert!(referrers(&registry, &image).await.is_err(), "{fault:?}");
    }
    fake.fail(&path, Fault::Answer(200, index, entry("text/plain")));
    assert_eq!(referrers(&registry, &image).await.unwrap(), Some(vec![]));
    fake.fail(&path, Fault::Answer(200, index, entry(index)));
    assert_eq!(
        referrers(&registry, &image).await.unwrap(),
        Some(vec![image])
    );
}

/// An answer with a link to a page that was not asked for yet.
fn page_without_end(body: &'static str) -> impl Fn(&str, &str) -> Option<Response<Bytes>> {
    move |path, query| {
        let number: u64 = query.strip_prefix("n=").map_or(0, |n| n.parse().unwrap());
        let link = format!(r#"<{path}?n={}>; rel="next""#, number + 1);
        let response = Response::builder().header("link", link);
        Some(response.body(Bytes::from(body)).unwrap())
    }
}

#[tokio::test]
async fn lists_without_end_are_left() {
    let fake = FakeRegistry::start().await;
    let registry = anonymous(&fake);
    let digest = Algorithm::Sha256.digest(b"");
    fake.answer_with(page_without_end(r#"{"schemaVersion":2,"manifests":[]}"#));
    let error = referrers(&registry, &digest).await.unwrap_err();
    assert!(
        matches!(error, Error::TooManyPages { pages: 1000, .. }),
        "{error}"
    );
    fake.answer_with(|path, _| {
        let link = format!(r#"<{path}?n={}>; rel="next""#, "x".repeat(10_000));
        let response = Response::builder().header("link", link);
        Some(response.body(Bytes::from("{}")).unwrap())
    });
    let error = registry.tags(&name("a")).await.unwrap_err();
    assert!(matches!(error, Error::NextPage { .. }), "{error}");
    assert!(error.to_string().len() < 300, "{error}");
}

#[tokio::test]
async fn names_that_are_no_tags_are_left_out_whatever_they_are() {
    let fake = FakeRegistry::start().await;
    let long = "x".repeat(1 << 20);
    let body = format!(
        r#"{{"name":"a","tags":["good","a/b","../../etc/passwd","","{long}","a\u0000b","-x",".x","é"]}}"#
    );
    fake.answer_with(move |_, _| Some(Response::new(Bytes::from(body.clone()))));
    let tags = anonymous(&fake).tags(&name("a")).await.unwrap();
    assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["good"]);

    let deep = format!(r#"{{"tags":{}"#, "[".repeat(1 << 20));
    fake.answer_with(move |_, _| Some(Response::new(Bytes::from(deep.clone()))));
    let error = anonymous(&fake).tags(&name("a")).await.unwrap_err();
    assert!(matches!(error, Error::TagList { .. }), "{error}");
}

/// Runs the real program with this environment and nothing of ours; `memory` is in KiB.
async fn export(
    dir: &TempDir,
    memory: u64,
    environment: &[(&str, String)],
    arguments: &[&str],
) -> Output {
    let tree = dir.path().join("tree");
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {memory}; exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_mirror-tool"))
        .args(["export", "--retries", "0", "--jobs", "1", "--tree"])
        .arg(tree)
        .args(arguments)
        .env_clear()
        .env("HOME", dir.path())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

const AMPLE: u64 = 4 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_may_come_from_a_helper() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Identity("refresh-me"));
    fake.image("a", Some("1"), &[b"layer"]);
    let dir = tempfile::tempdir().unwrap();
    helper(
        dir.path(),
        r#"{"ServerURL":"x","Username":"<token>","Secret":"refresh-me"}"#,
    );
    let config = dir.path().join("auth.json");
    fs::write(&config, r#"{"credsStore":"fake"}"#).unwrap();
    let path = std::env::var("PATH").unwrap();
    let environment = [("PATH", format!("{}:{path}", dir.path().display()))];
    let source = format!("{}/a", fake.address);
    let authfile = config.to_str().unwrap();
    let arguments = ["--plain-http", "-vv", "--authfile", authfile, &source];
    let output = export(&dir, AMPLE, &environment, &arguments).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fake.token_requests()[0].method, "POST");
    // Even when everything is logged, no secret is.
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("logging in"), "{shown}");
    assert!(
        !shown.contains("refresh-me") && !shown.contains("token-"),
        "{shown}"
    );
}

fn helper(dir: &Path, answer: &str) {
    let program = dir.join("docker-credential-fake");
    fs::write(&program, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, executable).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_from_the_environment_is_used_and_left_out_as_told() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Bearer(None));
    fake.image("a", Some("1"), &[b"layer"]);
    let direct = format!("{}/a:1", fake.address);
    // No name server knows this one: only the proxy can reach it.
    let hidden = "registry.invalid:5000/a:1".to_owned();
    for (variable, authority, no_proxy, source, used) in [
        ("HTTP_PROXY", "http://", "", &hidden, true),
        ("http_proxy", "http://", "", &hidden, true),
        ("ALL_PROXY", "http://", "other.invalid", &hidden, true),
        ("HTTP_PROXY", "", "10.0.0.0/8", &hidden, true),
        ("HTTP_PROXY", "http://me:proxy-secret@", "", &hidden, true),
        // Nothing makes an exception of loopback but `NO_PROXY`.
        ("HTTP_PROXY", "http://", "", &direct, true),
        ("HTTP_PROXY", "http://", "127.0.0.0/8", &direct, false),
        (
            "HTTP_PROXY",
            "http://",
            "example.com, 127.0.0.1",
            &direct,
            false,
        ),
        ("HTTP_PROXY", "http://", "*", &direct, false),
        ("HTTPS_PROXY", "http://", "", &direct, false),
        (
            "HTTP_PROXY",
            "http://",
            ".invalid,registry.invalid",
            &direct,
            true,
        ),
    ] {
        let proxy = ForwardProxy::start(fake.address).await;
        let dir = tempfile::tempdir().unwrap();
        let environment = [
            (variable, format!("{authority}{}", proxy.address)),
            ("NO_PROXY", no_proxy.to_owned()),
        ];
        let arguments = ["--plain-http", "-vv", source];
        let output = export(&dir, AMPLE, &environment, &arguments).await;
        let case = format!("{variable}={authority} NO_PROXY={no_proxy} {source}: {output:?}");
        assert_eq!(output.status.code(), Some(0), "{case}");
        let heads = proxy.heads();
        assert_eq!(!heads.is_empty(), used, "{case}");
        let host = source.split('/').next().unwrap();
        // The token service is asked by way of the proxy as well; which connection it gets is open.
        let asked = heads
            .iter()
            .any(|head| head.starts_with(&format!("GET http://{host}/v2/")));
        assert_eq!(asked, used, "{heads:#?}");
        if authority.contains('@') {
            // me:proxy-secret
            let field = "proxy-authorization: basic bwu6chjvehktc2vjcmv0";
            assert!(heads[0].to_lowercase().contains(field), "{heads:#?}");
            assert!(!case.contains("bWU6cHJveHk"), "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_a_tunnel_of_the_proxy() {
    let fake = FakeRegistry::start().await;
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let proxy = ForwardProxy::start(fake.address).await;
        let dir = tempfile::tempdir().unwrap();
        let environment = [(variable, format!("http://{}", proxy.address))];
        let arguments = ["registry.invalid:5000/a:1"];
        let output = export(&dir, AMPLE, &environment, &arguments).await;
        // At the end of the tunnel nobody speaks TLS.
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let heads = proxy.heads();
        assert!(
            heads[0].starts_with("CONNECT registry.invalid:5000 HTTP/1.1\r\n"),
            "{heads:?}"
        );
        assert_eq!(fake.take_log(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_end_costs_little_memory() {
    let fake = FakeRegistry::start().await;
    fake.image("a", Some("1"), &[b"layer"]);
    fake.image("b", Some("1"), &[b"layer"]);
    fake.fail("/v2/a/tags/list", Fault::Endless);
    for fault in [Fault::Endless, Fault::HugeLength] {
        fake.fail("/v2/b/manifests/1", fault);
        for (source, told) in [("a", "16777216 bytes"), ("b:1", "4194304 bytes")] {
            let dir = tempfile::tempdir().unwrap();
            let source = format!("{}/{source}", fake.address);
            // Address space, most of it never touched: threads' stacks and the program itself.
            let output = export(&dir, 400 << 10, &[], &["--plain-http", &source]).await;
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let shown = String::from_utf8_lossy(&output.stderr);
            assert!(shown.contains(&format!("is longer than {told}")), "{shown}");
        }
    }
}
