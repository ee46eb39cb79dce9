//! Listing tags and referrers.

use conformance::sample::{ARTIFACT, CONFIG, Content, LISTED, NAME, TAGS, UNTAGGED};
use oci_mirror::media_type::MediaType;
use serde_json::{Value, json};

use crate::{Registry, field, json_of, unknown};

crate::checks! {
    discovery_category tags tags_body tags_in_order tags_limited tags_link tags_none tags_after referrers
    referrers_always referrers_invalid referrers_index referrers_type referrers_own_type
    referrers_config_type referrers_no_type referrers_annotations referrers_none referrers_whole
    referrers_filtered referrers_filter_named referrers_listed_by_tag
}

async fn discovery_category(registry: &Registry) {
    for path in [tag_list(""), tag_list("?n=1&last=1"), subject(registry)] {
        assert_eq!(registry.get(&path).await.status(), 200, "{path}");
    }
}

async fn tags(registry: &Registry) {
    assert_eq!(registry.get(&tag_list("")).await.status(), 200);
    let answer = registry.get(&format!("/v2/{UNTAGGED}/tags/list")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(json_of(answer).await["tags"], json!([]));
}

async fn tags_body(registry: &Registry) {
    let answer = registry.get(&tag_list("")).await;
    assert_eq!(field(&answer, "content-type"), "application/json");
    assert_eq!(json_of(answer).await, json!({"name": NAME, "tags": TAGS}));
}

/// The deviation: `B` comes before `a`.
async fn tags_in_order(registry: &Registry) {
    let mut sorted = TAGS;
    sorted.sort_unstable();
    assert_eq!(listed(registry, "").await, json!(sorted));
    assert!(TAGS.contains(&"B") && TAGS.contains(&"a"));
}

async fn tags_limited(registry: &Registry) {
    let mut next = Some(tag_list("?n=2"));
    let mut pages = Vec::new();
    while let Some(path) = next {
        let answer = registry.get(&path).await;
        let link = field(&answer, "link").to_owned();
        next = link.split(['<', '>']).nth(1).map(str::to_owned);
        pages.push(json_of(answer).await["tags"].clone());
    }
    let expected: Vec<Value> = TAGS.chunks(2).map(|page| json!(page)).collect();
    assert_eq!(pages, expected);
    assert_eq!(listed(registry, "?n=1000").await, json!(TAGS));
}

async fn tags_link(registry: &Registry) {
    let answer = registry.get(&tag_list("?n=1")).await;
    let target = tag_list(&format!("?n=1&last={}", TAGS[0]));
    assert_eq!(field(&answer, "link"), format!("<{target}>; rel=\"next\""));
}

async fn tags_none(registry: &Registry) {
    let answer = registry.get(&tag_list("?n=0")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(field(&answer, "link"), "");
    assert_eq!(json_of(answer).await["tags"], json!([]));
}

async fn tags_after(registry: &Registry) {
    assert_eq!(listed(registry, "?last=2").await, json!(TAGS[2..]));
    assert_eq!(listed(registry, "?n=1&last=2").await, json!(TAGS[2..3]));
    // Of tags that are not there, too.
    assert_eq!(listed(registry, "?last=1x").await, json!(TAGS[1..]));
    assert_eq!(listed(registry, "?last=z").await, json!([]));
}

async fn referrers(registry: &Registry) {
    assert_eq!(registry.get(&subject(registry)).await.status(), 200);
}

async fn referrers_always(registry: &Registry) {
    for name in [NAME, "nothing"] {
        let path = format!("/v2/{name}/referrers/{}", unknown());
        assert_eq!(registry.get(&path).await.status(), 200, "{path}");
    }
}

async fn referrers_invalid(registry: &Registry) {
    for digest in ["sha256:0", "latest", "md5:00"] {
        let path = format!("/v2/{NAME}/referrers/{digest}");
        assert_eq!(registry.get(&path).await.status(), 400, "{path}");
    }
}

async fn referrers_index(registry: &Registry) {
    let index = json_of(registry.get(&subject(registry)).await).await;
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], MediaType::OCI_INDEX.as_str());
    for content in &registry.sample.referrers {
        let descriptor = descriptor(&index, content);
        assert_eq!(descriptor["mediaType"], content.media_type.as_str());
        assert_eq!(descriptor["size"], content.bytes.len());
    }
}

async fn referrers_type(registry: &Registry) {
    let none = format!("/v2/{NAME}/referrers/{}", unknown());
    for path in [subject(registry), none] {
        let answer = registry.get(&path).await;
        assert_eq!(
            field(&answer, "content-type"),
            MediaType::OCI_INDEX.as_str()
        );
    }
}

async fn referrers_own_type(registry: &Registry) {
    let [typed, ..] = &registry.sample.referrers;
    assert_eq!(refers(registry, typed).await["artifactType"], ARTIFACT);
}

async fn referrers_config_type(registry: &Registry) {
    let [_, untyped, _] = &registry.sample.referrers;
    assert_eq!(refers(registry, untyped).await["artifactType"], CONFIG);
}

async fn referrers_no_type(registry: &Registry) {
    let [.., index] = &registry.sample.referrers;
    assert_eq!(refers(registry, index).await.get("artifactType"), None);
}

async fn referrers_annotations(registry: &Registry) {
    let [typed, _, index] = &registry.sample.referrers;
    for (content, expected) in [
        (typed, json!({"by": "us"})),
        (index, json!({"lists": "nothing"})),
    ] {
        assert_eq!(refers(registry, content).await["annotations"], expected);
    }
}

async fn referrers_none(registry: &Registry) {
    let path = format!("/v2/{NAME}/referrers/{}", unknown());
    assert_eq!(
        json_of(registry.get(&path).await).await["manifests"],
        json!([])
    );
}

async fn referrers_whole(registry: &Registry) {
    let answer = registry.get(&subject(registry)).await;
    assert_eq!(field(&answer, "link"), "");
    let index = json_of(answer).await;
    assert_eq!(
        index["manifests"].as_array().unwrap().len(),
        registry.sample.referrers.len()
    );
}

async fn referrers_filtered(registry: &Registry) {
    for (wanted, count) in [(ARTIFACT, 1), (CONFIG, 1), ("application/other", 0)] {
        let path = format!("{}?artifactType={wanted}", subject(registry));
        let index = json_of(registry.get(&path).await).await;
        let found = index["manifests"].as_array().unwrap();
        assert_eq!(found.len(), count, "{wanted}");
        assert!(found.iter().all(|it| it["artifactType"] == wanted));
    }
}

async fn referrers_filter_named(registry: &Registry) {
    for (query, expected) in [("?artifactType=application/x", "artifactType"), ("", "")] {
        let answer = registry.get(&format!("{}{query}", subject(registry))).await;
        assert_eq!(field(&answer, "oci-filters-applied"), expected);
    }
}

async fn referrers_listed_by_tag(registry: &Registry) {
    let path = format!("/v2/{LISTED}/referrers/{}", registry.sample.manifest.digest);
    let index = json_of(registry.get(&path).await).await;
    let [typed, ..] = &registry.sample.referrers;
    assert_eq!(descriptor(&index, typed)["artifactType"], ARTIFACT);
}

fn tag_list(query: &str) -> String {
    format!("/v2/{NAME}/tags/list{query}")
}

async fn listed(registry: &Registry, query: &str) -> Value {
    json_of(registry.get(&tag_list(query)).await).await["tags"].clone()
}

fn subject(registry: &Registry) -> String {
    format!("/v2/{NAME}/referrers/{}", registry.sample.manifest.digest)
}

/// What the list of referrers says of one of them.
async fn refers(registry: &Registry, content: &Content) -> Value {
    let index = json_of(registry.get(&subject(registry)).await).await;
    descriptor(&index, content).clone()
}

#[track_caller]
fn descriptor<'a>(index: &'a Value, content: &Content) -> &'a Value {
    let digest = content.digest.to_string();
    let mut manifests = index["manifests"].as_array().unwrap().iter();
    let found = manifests.find(|it| it["digest"] == digest.as_str());
    found.unwrap_or_else(|| panic!("{digest} is not in {index}"))
}
