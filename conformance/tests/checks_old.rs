//! Every requirement checked against a running front end.
#![expect(clippy::unwrap_used, reason = "a check that cannot go on has failed")]

use std::collections::BTreeSet;

use conformance::REQUIREMENTS;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::writer::Image;
use registry_proxy::config::{Config, Crawler};
use registry_proxy::server::FrontEnd;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What there is to pull.
struct Registry {
    base: String,
    client: reqwest::Client,
    /// The image's manifest, tagged `1`, `2` and `b`.
    manifest: (Digest, Vec<u8>),
    layer: (Digest, Vec<u8>),
}

const NAME: &str = "conformance/image";
const ARTIFACT: &str = "application/vnd.example.signature";

#[tokio::test]
async fn every_requirement_is_met() {
    let directory = tempfile::tempdir().unwrap();
    let (manifest, layer) = fill(&directory.path().join("tree"));
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        tree: directory.path().join("tree"),
        database: directory.path().join("none.db"),
        crawler: Crawler {
            enabled: false,
            ..Crawler::default()
        },
        ..Config::default()
    };
    let front_end = FrontEnd::bind(&config).await.unwrap();
    let base = format!("http://{}", front_end.local_addresses()[0]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let registry = Registry {
        base,
        client,
        manifest,
        layer,
    };
    let shutdown = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(front_end.run(shutdown.clone()));

    let mut checked = BTreeSet::new();
    macro_rules! check {
        ($($name:ident)*) => {$(
            $name(&registry).await;
            checked.insert(stringify!($name));
        )*};
    }
    check! {
        version_check manifest_by_tag manifest_by_digest manifest_type manifest_digest_field unknown_manifest
        manifest_head unknown_manifest_head blob unknown_blob blob_head blob_range blob_range_beyond tags
        tags_limited tags_after referrers_always referrers_listed referrers_filtered errors read_only
    }
    let listed: BTreeSet<_> = REQUIREMENTS
        .iter()
        .map(|requirement| requirement.name)
        .collect();
    assert_eq!(checked, listed);
    shutdown.cancel();
    running.join_all().await;
}

async fn version_check(registry: &Registry) {
    assert_eq!(registry.get("/v2/").await.status(), 200);
}

async fn manifest_by_tag(registry: &Registry) {
    let answer = registry.get(&format!("/v2/{NAME}/manifests/1")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), registry.manifest.1);
}

async fn manifest_by_digest(registry: &Registry) {
    let answer = registry.get(&registry.manifest_path()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        Algorithm::Sha256.digest(&answer.bytes().await.unwrap()),
        registry.manifest.0
    );
}

async fn manifest_type(registry: &Registry) {
    let answer = registry.get(&registry.manifest_path()).await;
    assert_eq!(
        answer.headers()["content-type"],
        MediaType::OCI_MANIFEST.as_str()
    );
}

async fn manifest_digest_field(registry: &Registry) {
    let answer = registry.get(&format!("/v2/{NAME}/manifests/1")).await;
    assert_eq!(
        answer.headers()["docker-content-digest"],
        registry.manifest.0.to_string().as_str()
    );
}

async fn unknown_manifest(registry: &Registry) {
    for reference in ["nothing".to_owned(), unknown().to_string()] {
        assert_eq!(
            registry
                .get(&format!("/v2/{NAME}/manifests/{reference}"))
                .await
                .status(),
            404
        );
    }
    assert_eq!(registry.get("/v2/nothing/manifests/1").await.status(), 404);
}

async fn manifest_head(registry: &Registry) {
    for reference in ["1".to_owned(), registry.manifest.0.to_string()] {
        let answer = registry
            .send(
                Method::HEAD,
                &format!("/v2/{NAME}/manifests/{reference}"),
                &[],
            )
            .await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.headers()["content-length"],
            registry.manifest.1.len().to_string().as_str()
        );
        assert!(answer.bytes().await.unwrap().is_empty());
    }
}

async fn unknown_manifest_head(registry: &Registry) {
    let answer = registry
        .send(Method::HEAD, &format!("/v2/{NAME}/manifests/nothing"), &[])
        .await;
    assert_eq!(answer.status(), 404);
}

async fn blob(registry: &Registry) {
    let answer = registry.get(&registry.layer_path()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), registry.layer.1);
}

async fn unknown_blob(registry: &Registry) {
    assert_eq!(
        registry
            .get(&format!("/v2/{NAME}/blobs/{}", unknown()))
            .await
            .status(),
        404
    );
}

async fn blob_head(registry: &Registry) {
    let answer = registry
        .send(Method::HEAD, &registry.layer_path(), &[])
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-length"],
        registry.layer.1.len().to_string().as_str()
    );
    assert!(answer.bytes().await.unwrap().is_empty());
}

async fn blob_range(registry: &Registry) {
    let bytes = &registry.layer.1;
    for (range, start, end) in [
        ("500-1499", 500, 1500),
        ("500-", 500, bytes.len()),
        ("-500", bytes.len() - 500, bytes.len()),
    ] {
        let answer = registry
            .send(
                Method::GET,
                &registry.layer_path(),
                &[("range", &format!("bytes={range}"))],
            )
            .await;
        assert_eq!(answer.status(), 206, "{range}");
        let place = format!("bytes {start}-{}/{}", end - 1, bytes.len());
        assert_eq!(answer.headers()["content-range"], place.as_str());
        assert_eq!(answer.bytes().await.unwrap(), bytes[start..end]);
    }
}

async fn blob_range_beyond(registry: &Registry) {
    let answer = registry
        .send(
            Method::GET,
            &registry.layer_path(),
            &[("range", "bytes=900000-900001")],
        )
        .await;
    assert_eq!(answer.status(), 416);
    assert_eq!(
        answer.headers()["content-range"],
        format!("bytes */{}", registry.layer.1.len()).as_str()
    );
}

async fn tags(registry: &Registry) {
    let answer = registry.get(&format!("/v2/{NAME}/tags/list")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        json_of(answer).await,
        json!({"name": NAME, "tags": ["1", "2", "b"]})
    );
}

async fn tags_limited(registry: &Registry) {
    let mut next = Some(format!("/v2/{NAME}/tags/list?n=2"));
    let mut pages = Vec::new();
    while let Some(path) = next {
        let answer = registry.get(&path).await;
        let link = answer
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
        pages.push(json_of(answer).await["tags"].clone());
    }
    assert_eq!(pages, [json!(["1", "2"]), json!(["b"])]);
    let none = registry.get(&format!("/v2/{NAME}/tags/list?n=0")).await;
    assert!(none.headers().get("link").is_none());
    assert_eq!(json_of(none).await["tags"], json!([]));
}

async fn tags_after(registry: &Registry) {
    for (last, expected) in [
        ("1", json!(["2", "b"])),
        ("a", json!(["b"])),
        ("z", json!([])),
    ] {
        let answer = registry
            .get(&format!("/v2/{NAME}/tags/list?last={last}"))
            .await;
        assert_eq!(json_of(answer).await["tags"], expected, "{last}");
    }
}

async fn referrers_always(registry: &Registry) {
    for path in [
        format!("/v2/{NAME}/referrers/{}", unknown()),
        format!("/v2/nothing/referrers/{}", unknown()),
    ] {
        let answer = registry.get(&path).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.headers()["content-type"],
            MediaType::OCI_INDEX.as_str()
        );
        let index = json_of(answer).await;
        assert_eq!(
            (&index["schemaVersion"], &index["manifests"]),
            (&json!(2), &json!([]))
        );
    }
}

async fn referrers_listed(registry: &Registry) {
    let answer = registry
        .get(&format!("/v2/{NAME}/referrers/{}", registry.manifest.0))
        .await;
    let index = json_of(answer).await;
    let listed = index["manifests"].as_array().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["artifactType"], &listed[0]["annotations"]),
        (&json!(ARTIFACT), &json!({"by": "us"}))
    );
    let path = format!(
        "/v2/{NAME}/manifests/{}",
        listed[0]["digest"].as_str().unwrap()
    );
    let signature = registry.get(&path).await;
    assert_eq!(
        signature.headers()["content-type"],
        listed[0]["mediaType"].as_str().unwrap()
    );
    assert_eq!(
        signature.bytes().await.unwrap().len() as u64,
        listed[0]["size"].as_u64().unwrap()
    );
}

async fn referrers_filtered(registry: &Registry) {
    for (wanted, count) in [(ARTIFACT, 1), ("application/other", 0)] {
        let path = format!(
            "/v2/{NAME}/referrers/{}?artifactType={wanted}",
            registry.manifest.0
        );
        let answer = registry.get(&path).await;
        assert_eq!(answer.headers()["oci-filters-applied"], "artifactType");
        assert_eq!(
            json_of(answer).await["manifests"].as_array().unwrap().len(),
            count,
            "{wanted}"
        );
    }
}

async fn errors(registry: &Registry) {
    for (path, code) in [
        (format!("/v2/{NAME}/manifests/nothing"), "MANIFEST_UNKNOWN"),
        (format!("/v2/{NAME}/blobs/{}", unknown()), "BLOB_UNKNOWN"),
        ("/v2/nothing/tags/list".to_owned(), "NAME_UNKNOWN"),
        (format!("/v2/{NAME}/blobs/sha256:1"), "DIGEST_INVALID"),
        ("/v2/UPPER/tags/list".to_owned(), "NAME_INVALID"),
    ] {
        let answer = registry.get(&path).await;
        assert!(answer.status().is_client_error(), "{path}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(json_of(answer).await["errors"][0]["code"], code, "{path}");
    }
}

async fn read_only(registry: &Registry) {
    for (method, path) in [
        (Method::POST, format!("/v2/{NAME}/blobs/uploads/")),
        (Method::PUT, format!("/v2/{NAME}/manifests/new")),
        (Method::DELETE, registry.manifest_path()),
    ] {
        let answer = registry.send(method.clone(), &path, &[]).await;
        assert_eq!(answer.status(), 405, "{method} {path}");
        assert_eq!(json_of(answer).await["errors"][0]["code"], "UNSUPPORTED");
    }
}

impl Registry {
    async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, &[]).await
    }

    async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    fn manifest_path(&self) -> String {
        format!("/v2/{NAME}/manifests/{}", self.manifest.0)
    }

    fn layer_path(&self) -> String {
        format!("/v2/{NAME}/blobs/{}", self.layer.0)
    }
}

async fn json_of(answer: Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// A digest nothing has.
fn unknown() -> Digest {
    Digest::Sha256([7; 32])
}

/// Publishes an image under three tags and a signature of it; returns manifest and layer.
fn fill(root: &std::path::Path) -> ((Digest, Vec<u8>), (Digest, Vec<u8>)) {
    let writer = TreeWriter::open(root).unwrap();
    let stage = |bytes: &[u8]| {
        let digest = Algorithm::Sha256.digest(bytes);
        writer.stage_bytes(digest, bytes).unwrap();
        digest
    };
    let descriptor = |media_type: &str, digest: Digest, bytes: &[u8]| {
        Descriptor::new(media_type.parse().unwrap(), digest, bytes.len() as u64)
    };
    let layer: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    let (empty, layer_digest) = (stage(b"{}"), stage(&layer));
    let config = descriptor("application/vnd.oci.empty.v1+json", empty, b"{}");
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config,
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer_digest, &layer)],
    }))
    .unwrap();
    let manifest_digest = stage(&manifest);
    let root = descriptor(MediaType::OCI_MANIFEST.as_str(), manifest_digest, &manifest);
    let signature = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": ARTIFACT, "config": config,
        "layers": [], "subject": root, "annotations": {"by": "us"},
    }))
    .unwrap();
    let signature_digest = stage(&signature);

    let image = |tag: Option<&str>, root: &Descriptor, reach: &[Digest]| Image {
        repo: NAME.parse().unwrap(),
        tag: tag.map(|tag| tag.parse().unwrap()),
        root: root.clone(),
        reach: reach.to_vec(),
        tag_referrers: None,
    };
    let reach = [empty, layer_digest, manifest_digest];
    let mut images: Vec<Image> = ["b", "1", "2"]
        .map(|tag| image(Some(tag), &root, &reach))
        .to_vec();
    let signature_root = descriptor(
        MediaType::OCI_MANIFEST.as_str(),
        signature_digest,
        &signature,
    );
    images.push(image(None, &signature_root, &[empty, signature_digest]));
    writer.publish(&images).unwrap();
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    ((manifest_digest, manifest), (layer_digest, layer))
}
