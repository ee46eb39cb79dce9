//! What a registry answers: missing things, referrers, lists, and nonsense.

use bytes::Bytes;
use http::Response;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::reference::Tag;
use oci_mirror::registry::{Error, Registry};

use super::{anonymous, name, tag};
use crate::fake_registry::{FakeRegistry, Fault, descriptor};

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
            descriptor(media_type, &image, 7)
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
