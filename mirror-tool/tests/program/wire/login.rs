//! Logging in: challenges, logins, tokens and the services that give them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oci_mirror::error_chain::chain;
use oci_mirror::registry::client::Options;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::{MirrorUrl, Registry};

use super::{ME, anonymous, login, many, name, options, tag, with};
use crate::fake_registry::{Auth, FakeRegistry, Fault};

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
async fn a_stored_login_is_not_sent_to_a_mirror_by_plain_http() {
    for (plain_http, sent) in [(false, 0), (true, 1)] {
        let fake = FakeRegistry::start().await;
        fake.set_auth(Auth::Basic("me", "secret"));
        let blob = fake.blob(&b"blob"[..]);
        let options = Options {
            plain_http,
            ..options()
        };
        let mirror: MirrorUrl = format!("http://{}/", fake.address).parse().unwrap();
        let registry = Registry::mirror(&mirror, &options, Arc::new(login(&fake, ME))).unwrap();
        let answer = registry.blob(&name("a"), &blob, 0).await;
        assert_eq!((answer.is_ok(), fake.authorized()), (plain_http, sent));
    }
}
