//! Pulling manifests and blobs, and asking whether they exist.

use conformance::sample::{NAME, TAGS};
use oci_mirror::digest::Digest;
use reqwest::Method;

use crate::{Registry, field, unknown};

crate::checks! {
    pull_category version_check name_grammar reference_forms tag_grammar manifest_type_bare manifest_type
    manifest_by_tag manifest_by_digest manifest_digest_field unknown_manifest blob blob_digest_field
    blob_digest_matches unknown_blob blob_range blob_range_beyond manifest_head blob_head head_digest_field
    head_length unknown_head
}

async fn pull_category(registry: &Registry) {
    let [(manifest, _), ..] = registry.manifests();
    let [(layer, _), ..] = registry.layers();
    for path in ["/v2/", &manifest, &layer] {
        assert_eq!(registry.get(path).await.status(), 200, "{path}");
    }
    for path in [&manifest, &layer] {
        assert_eq!(registry.head(path).await.status(), 200, "{path}");
    }
}

async fn version_check(registry: &Registry) {
    assert_eq!(registry.get("/v2/").await.status(), 200);
}

async fn name_grammar(registry: &Registry) {
    for name in [
        "Upper", "a//b", "-a", "a-", "a___b", "a..b", "a/", "%20", "a%00b", "é",
    ] {
        let answer = registry.get(&format!("/v2/{name}/manifests/1")).await;
        assert_eq!(answer.status(), 400, "{name}");
    }
    for name in ["a", "a/b/c", "a-b--c", "a.b_c__d", "0"] {
        let answer = registry.get(&format!("/v2/{name}/manifests/1")).await;
        assert_eq!(answer.status(), 404, "{name}");
    }
}

async fn reference_forms(registry: &Registry) {
    for reference in ["sha256:0", "sha256:", ":", "sha256:1:2", "md5:00"] {
        let answer = registry
            .get(&format!("/v2/{NAME}/manifests/{reference}"))
            .await;
        assert_eq!(answer.status(), 400, "{reference}");
    }
}

async fn tag_grammar(registry: &Registry) {
    let long = "1".repeat(129);
    for tag in [".1", "-1", "1%201", "1%2B", long.as_str()] {
        let answer = registry.get(&format!("/v2/{NAME}/manifests/{tag}")).await;
        assert_eq!(answer.status(), 404, "{tag}");
    }
}

async fn manifest_type_bare(registry: &Registry) {
    for (path, _) in registry.manifests() {
        let answer = registry.get(&path).await;
        assert!(!field(&answer, "content-type").contains(';'), "{path}");
    }
}

async fn manifest_type(registry: &Registry) {
    for (path, content) in registry.manifests() {
        let accepts: [&[(&str, &str)]; 3] =
            [&[], &[("accept", "*/*")], &[("accept", "application/json")]];
        for accept in accepts {
            let answer = registry.send(Method::GET, &path, accept).await;
            assert_eq!(field(&answer, "content-type"), content.media_type.as_str());
        }
    }
}

async fn manifest_by_tag(registry: &Registry) {
    for tag in TAGS {
        let answer = registry.get(&format!("/v2/{NAME}/manifests/{tag}")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.bytes().await.unwrap(),
            registry.sample.manifest.bytes
        );
    }
}

async fn manifest_by_digest(registry: &Registry) {
    for (path, content) in registry.manifests() {
        let answer = registry.get(&path).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap(), content.bytes);
    }
}

async fn manifest_digest_field(registry: &Registry) {
    let by_tag = registry.get(&format!("/v2/{NAME}/manifests/1")).await;
    let expected = registry.sample.manifest.digest.to_string();
    assert_eq!(field(&by_tag, "docker-content-digest"), expected);
    for (path, content) in registry.manifests() {
        let answer = registry.get(&path).await;
        let digest = content.digest.to_string();
        assert_eq!(field(&answer, "docker-content-digest"), digest);
    }
}

async fn unknown_manifest(registry: &Registry) {
    for path in [
        format!("/v2/{NAME}/manifests/nothing"),
        format!("/v2/{NAME}/manifests/{}", unknown()),
        "/v2/nothing/manifests/1".to_owned(),
        // It is there, but in another repository.
        format!(
            "/v2/conformance/untagged/manifests/{}",
            registry.sample.index.digest
        ),
    ] {
        assert_eq!(registry.get(&path).await.status(), 404, "{path}");
    }
}

async fn blob(registry: &Registry) {
    for (path, content) in registry.layers() {
        let answer = registry.get(&path).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap(), content.bytes);
    }
}

async fn blob_digest_field(registry: &Registry) {
    for (path, _) in registry.layers() {
        assert_ne!(
            field(&registry.get(&path).await, "docker-content-digest"),
            ""
        );
    }
}

async fn blob_digest_matches(registry: &Registry) {
    for (path, _) in registry.layers() {
        let answer = registry.get(&path).await;
        let digest: Digest = field(&answer, "docker-content-digest").parse().unwrap();
        let body = answer.bytes().await.unwrap();
        assert_eq!(digest.algorithm().digest(&body), digest);
    }
}

async fn unknown_blob(registry: &Registry) {
    for path in [
        format!("/v2/{NAME}/blobs/{}", unknown()),
        format!("/v2/nothing/blobs/{}", registry.sample.layer.digest),
        // It is there, but in another repository.
        format!(
            "/v2/conformance/listed/blobs/{}",
            registry.sample.layer.digest
        ),
    ] {
        assert_eq!(registry.get(&path).await.status(), 404, "{path}");
    }
}

async fn blob_range(registry: &Registry) {
    for (path, content) in registry.layers() {
        let bytes = &content.bytes;
        for (range, start, end) in [
            ("500-1499", 500, 1500),
            ("500-", 500, bytes.len()),
            ("-500", bytes.len() - 500, bytes.len()),
            ("79000-900000", 79_000, bytes.len()),
        ] {
            let range = format!("bytes={range}");
            let answer = registry
                .send(Method::GET, &path, &[("range", &range)])
                .await;
            assert_eq!(answer.status(), 206, "{range}");
            let place = format!("bytes {start}-{}/{}", end - 1, bytes.len());
            assert_eq!(field(&answer, "content-range"), place);
            assert_eq!(answer.bytes().await.unwrap(), bytes[start..end]);
        }
    }
}

async fn blob_range_beyond(registry: &Registry) {
    let [(path, content), ..] = registry.layers();
    let range = [("range", "bytes=900000-900001")];
    let answer = registry.send(Method::GET, &path, &range).await;
    assert_eq!(answer.status(), 416);
    let length = format!("bytes */{}", content.bytes.len());
    assert_eq!(field(&answer, "content-range"), length);
}

async fn manifest_head(registry: &Registry) {
    for path in registry.manifests().map(|(path, _)| path) {
        let answer = registry.head(&path).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.unwrap().is_empty());
    }
    let by_tag = registry.head(&format!("/v2/{NAME}/manifests/1")).await;
    assert_eq!(by_tag.status(), 200);
}

async fn blob_head(registry: &Registry) {
    for (path, _) in registry.layers() {
        let answer = registry.head(&path).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.unwrap().is_empty());
    }
}

async fn head_digest_field(registry: &Registry) {
    for (path, content) in registry.manifests().into_iter().chain(registry.layers()) {
        let answer = registry.head(&path).await;
        let digest = content.digest.to_string();
        assert_eq!(field(&answer, "docker-content-digest"), digest);
    }
}

async fn head_length(registry: &Registry) {
    for (path, content) in registry.manifests().into_iter().chain(registry.layers()) {
        let answer = registry.head(&path).await;
        let length = content.bytes.len().to_string();
        assert_eq!(field(&answer, "content-length"), length);
    }
}

async fn unknown_head(registry: &Registry) {
    for path in [
        format!("/v2/{NAME}/manifests/nothing"),
        format!("/v2/{NAME}/manifests/{}", unknown()),
        format!("/v2/{NAME}/blobs/{}", unknown()),
    ] {
        assert_eq!(registry.head(&path).await.status(), 404, "{path}");
    }
}
