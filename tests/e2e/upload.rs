//! Pushing what no image builder makes: blobs and manifests just as a test has put them together.

use std::time::Duration;

use oci_mirror::digest::{Algorithm, Digest};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use support::peer::docker_registry::DockerRegistry;
use tokio::runtime::Runtime;

pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A repository of a real registry that takes uploads.
pub(crate) struct Upload {
    runtime: Runtime,
    client: Client,
    repository: String,
}

impl Upload {
    pub(crate) fn to(registry: &DockerRegistry, name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = Client::builder()
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build()
            .unwrap();
        Self {
            runtime,
            client,
            repository: format!("{}/v2/{name}", registry.url()),
        }
    }

    /// Uploads a blob; its descriptor.
    #[track_caller]
    pub(crate) fn blob(&self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Value {
        self.blob_under(Algorithm::Sha256, media_type, bytes)
    }

    /// Uploads a blob under a digest of an algorithm; its descriptor.
    #[track_caller]
    pub(crate) fn blob_under(
        &self,
        algorithm: Algorithm,
        media_type: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> Value {
        let bytes = bytes.into();
        let descriptor = descriptor(media_type, algorithm.digest(&bytes), bytes.len());
        let digest = descriptor["digest"].as_str().unwrap();
        let status = self.runtime.block_on(async {
            let start = format!("{}/blobs/uploads/", self.repository);
            let started = self.client.post(&start).send().await.unwrap();
            let place = started.headers()[LOCATION].to_str().unwrap();
            let mut place = Url::parse(&start).unwrap().join(place).unwrap();
            place.query_pairs_mut().append_pair("digest", digest);
            let put = self.client.put(place).body(bytes);
            put.send().await.unwrap().status()
        });
        assert_eq!(status, StatusCode::CREATED, "{digest}");
        descriptor
    }

    /// Uploads a manifest or an index under a tag; its descriptor.
    #[track_caller]
    pub(crate) fn tag(&self, tag: &str, document: &Value) -> Value {
        self.put(Some(tag), document)
    }

    /// Uploads a manifest or an index under its digest alone; its descriptor.
    #[track_caller]
    pub(crate) fn manifest(&self, document: &Value) -> Value {
        self.put(None, document)
    }

    #[track_caller]
    fn put(&self, tag: Option<&str>, document: &Value) -> Value {
        let media_type = document["mediaType"].as_str().unwrap();
        let text = document.to_string();
        let digest = Algorithm::Sha256.digest(text.as_bytes());
        let descriptor = descriptor(media_type, digest, text.len());
        let reference = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let url = format!("{}/manifests/{reference}", self.repository);
        let (status, answer) = self.runtime.block_on(async {
            let put = self.client.put(url).header(CONTENT_TYPE, media_type);
            let answer = put.body(text).send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        });
        assert_eq!(status, StatusCode::CREATED, "{reference}: {answer}");
        descriptor
    }

    /// Deletes a manifest with all its tags.
    #[track_caller]
    pub(crate) fn delete(&self, digest: &str) {
        let url = format!("{}/manifests/{digest}", self.repository);
        let delete = async { self.client.delete(url).send().await.unwrap().status() };
        let status = self.runtime.block_on(delete);
        assert_eq!(status, StatusCode::ACCEPTED, "{digest}");
    }
}

/// A descriptor; a test may add to it.
pub(crate) fn descriptor(media_type: &str, digest: Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

/// An image manifest.
pub(crate) fn image(config: &Value, layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
}

/// An index.
pub(crate) fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

/// An uncompressed layer with these files.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A configuration for linux/amd64 over uncompressed layers with these digests.
pub(crate) fn config(diff_ids: &[Digest]) -> Value {
    let diff_ids: Vec<String> = diff_ids.iter().map(Digest::to_string).collect();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// Uploads a small image of one uncompressed layer under a tag; its descriptor.
#[track_caller]
pub(crate) fn small_image(upload: &Upload, tag: &str, content: &[u8]) -> Value {
    let bytes = layer(&[("content", content)]);
    let config = config(&[Algorithm::Sha256.digest(&bytes)]);
    let config = upload.blob(CONFIG, config.to_string());
    upload.tag(tag, &image(&config, &[upload.blob(TAR, bytes)]))
}
