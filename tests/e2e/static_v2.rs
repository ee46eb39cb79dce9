//! Pulls straight from one mirror, by plain web servers with no front end.

mod pulls;
mod upkeep;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::Value;
use support::peer::containerd::Containerd;
use support::peer::docker_registry::DockerRegistry;
use support::peer::dockerd::Dockerd;
use support::peer::podman::Podman;
use support::peer::web_server::WebServer;
use support::peer::{rsyncd, skopeo};
use support::process::run;
use tempfile::TempDir;

use crate::http;
use crate::network::{IMAGES, export, fails, program, tree};
use crate::site_config::{Server, site_config};
use crate::upload::{INDEX, MANIFEST, Upload, index, small_image};

const RUN: [&str; 2] = ["cat", "/etc/debian_version"];

/// A mirror that answers pulls by itself.
struct Mirror {
    directory: TempDir,
    server: WebServer,
}

impl Mirror {
    /// A copy of a tree.
    #[track_caller]
    fn of(tree: &Path, kind: Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("containers");
        rsyncd::sync(tree, &copy, &[]).unwrap();
        Self::at(directory, kind)
    }

    /// What is in a directory already.
    #[track_caller]
    fn at(directory: TempDir, kind: Server) -> Self {
        let printed = site_config(
            kind.name(),
            &directory.path().join("containers"),
            &["--static-v2"],
        );
        let server = kind.start(&printed, &directory.path().join("state"));
        Self { directory, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn reference(&self, image: &str) -> String {
        format!("{}/{image}", self.server.address())
    }

    #[track_caller]
    fn get(&self, path: &str) -> http::Answer {
        http::get(
            &format!("{}/v2/{path}", self.server.url()),
            &[("accept-encoding", "gzip")],
        )
    }

    /// The type and the bytes of a manifest; that both `HEAD` and `GET` tell the type.
    #[track_caller]
    fn manifest(&self, name: &str, reference: &str) -> (String, Vec<u8>) {
        let path = format!("{name}/manifests/{reference}");
        let answer = self.get(&path);
        assert_eq!(answer.status.as_u16(), 200, "{path}");
        assert_eq!(answer.field("content-encoding"), "", "{path}");
        // Two manifests may be of one second and one length: a cache must not take one for the other.
        for field in ["etag", "last-modified"] {
            assert_eq!(answer.field(field), "", "{path}");
        }
        let since = [("if-modified-since", "Fri, 01 Jan 2038 00:00:00 GMT")];
        let again = http::get(&format!("{}/v2/{path}", self.server.url()), &since);
        assert_eq!(again.status.as_u16(), 200, "{path}");
        let head = http::send(
            Method::HEAD,
            &format!("{}/v2/{path}", self.server.url()),
            &[],
        );
        assert_eq!(
            head.field("content-type"),
            answer.field("content-type"),
            "{path}"
        );
        assert_eq!(head.field("content-length"), answer.body.len().to_string());
        (answer.field("content-type").to_owned(), answer.body)
    }
}

/// The descriptors in the index of a repository.
fn entries(tree: &Path, name: &str) -> Vec<Value> {
    let index = fs::read(tree.join("repos").join(name).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

#[track_caller]
fn answers_as_a_registry_does(kind: Server) {
    let mirror = Mirror::of(tree(), kind);
    let ping = mirror.get("");
    assert_eq!((ping.status.as_u16(), ping.text().as_str()), (200, "{}"));
    assert_eq!(
        ping.field("docker-distribution-api-version"),
        "registry/2.0"
    );
    for name in ["debian", "app"] {
        let mut tags = BTreeSet::new();
        for entry in entries(tree(), name) {
            let digest = entry["digest"].as_str().unwrap();
            let media_type = entry["mediaType"].as_str().unwrap().to_owned();
            let by_digest = mirror.manifest(name, digest);
            assert_eq!(by_digest.0, media_type, "{name}@{digest}");
            if let Some(tag) = entry["annotations"]["org.opencontainers.image.ref.name"].as_str() {
                assert_eq!(mirror.manifest(name, tag), by_digest, "{name}:{tag}");
                tags.insert(tag.to_owned());
            }
            let document: Value = serde_json::from_slice(&by_digest.1).unwrap();
            for child in document["manifests"].as_array().into_iter().flatten() {
                let (media_type, _) = mirror.manifest(name, child["digest"].as_str().unwrap());
                assert_eq!(media_type, child["mediaType"].as_str().unwrap());
            }
            for layer in document["layers"].as_array().into_iter().flatten() {
                let answer = mirror.get(&format!(
                    "{name}/blobs/{}",
                    layer["digest"].as_str().unwrap()
                ));
                assert_eq!(answer.body.len() as u64, layer["size"].as_u64().unwrap());
                assert_eq!(answer.field("content-type"), "application/octet-stream");
                assert_eq!(answer.field("content-encoding"), "");
            }
        }
        let list = mirror.get(&format!("{name}/tags/list"));
        assert_eq!(list.field("content-type"), "application/json");
        assert_eq!(list.json(), serde_json::json!({"name": name, "tags": tags}));
    }

    // What one repository has is not to be had from another.
    let own = |name: &str| -> BTreeSet<String> {
        let links = fs::read_dir(tree().join(format!("repos/{name}/blobs/sha256"))).unwrap();
        links
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let other = own("debian")
        .difference(&own("app"))
        .next()
        .unwrap()
        .clone();
    let digest = format!("sha256:{other}");
    for (path, status) in [
        (format!("debian/blobs/{digest}"), 200),
        (format!("app/blobs/{digest}"), 404),
        (format!("app/manifests/{digest}"), 404),
        (format!("app/blobs/sha256:{}", "0".repeat(64)), 404),
        ("app/manifests/absent".to_owned(), 404),
        ("absent/manifests/1.0".to_owned(), 404),
        ("absent/tags/list".to_owned(), 404),
        ("app/manifests/1.0.oim".to_owned(), 404),
        ("app/_manifests/1.0.oim".to_owned(), 404),
        ("app/manifests/..%2f_tags".to_owned(), 404),
        ("app/manifests/%2e%2e/_tags".to_owned(), 404),
    ] {
        assert_eq!(mirror.get(&path).status.as_u16(), status, "{path}");
    }
    let mut tags =
        skopeo::list_tags(&[], &format!("docker://{}", mirror.reference("debian"))).unwrap();
    tags.sort();
    assert_eq!(tags, ["12", "docker", "docker-list", "zstd"]);
}

#[test]
fn nginx_answers_as_a_registry_does() {
    answers_as_a_registry_does(Server::Nginx);
}

#[test]
fn apache_answers_as_a_registry_does() {
    answers_as_a_registry_does(Server::Apache);
}
