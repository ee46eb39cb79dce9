//! Every requirement checked against a running front end.
#![expect(clippy::unwrap_used, reason = "a check that cannot go on has failed")]

mod discovery;
mod errors;
mod pull;

use std::collections::BTreeSet;

use conformance::REQUIREMENTS;
use conformance::sample::{NAME, Sample};
use oci_mirror::digest::Digest;
use registry_proxy::config::{Config, Crawler};
use registry_proxy::server::FrontEnd;
use reqwest::{Method, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Makes each function a test with a registry of its own, and keeps the names.
macro_rules! checks {
    ($($name:ident)*) => {
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

        mod check {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(&$crate::Registry::start().await).await;
                }
            )*
        }
    };
}
pub(crate) use checks;

#[test]
fn every_requirement_has_a_check() {
    let lists = [pull::NAMES, discovery::NAMES, errors::NAMES];
    let checks: BTreeSet<&str> = lists.into_iter().flatten().copied().collect();
    let listed: BTreeSet<&str> = REQUIREMENTS.iter().map(|it| it.name).collect();
    assert_eq!(checks, listed);
}

/// A front end that serves the sample tree; stopped when dropped.
pub(crate) struct Registry {
    pub(crate) sample: Sample,
    base: String,
    client: reqwest::Client,
    _running: JoinSet<()>,
    _directory: TempDir,
}

impl Registry {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let sample = Sample::publish(&tree).unwrap();
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            tree,
            database: directory.path().join("none.db"),
            crawler: Crawler {
                enabled: false,
                ..Crawler::default()
            },
            ..Config::default()
        };
        let front_end = FrontEnd::bind(&config).await.unwrap();
        let base = format!("http://{}", front_end.local_addresses()[0]);
        let mut running = JoinSet::new();
        running.spawn(front_end.run(CancellationToken::new()));
        Self {
            sample,
            base,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            _running: running,
            _directory: directory,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, &[]).await
    }

    pub(crate) async fn head(&self, path: &str) -> Response {
        self.send(Method::HEAD, path, &[]).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// The manifest, the index and the manifest of the other algorithm: path, digest, bytes, type.
    pub(crate) fn manifests(&self) -> [(String, &conformance::sample::Content); 3] {
        let sample = &self.sample;
        [&sample.manifest, &sample.index, &sample.sha512.0]
            .map(|content| (format!("/v2/{NAME}/manifests/{}", content.digest), content))
    }

    /// The layer, under both algorithms.
    pub(crate) fn layers(&self) -> [(String, &conformance::sample::Content); 2] {
        let sample = &self.sample;
        [&sample.layer, &sample.sha512.1]
            .map(|content| (format!("/v2/{NAME}/blobs/{}", content.digest), content))
    }
}

pub(crate) async fn json_of(answer: Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// A field of an answer; empty if it is absent.
pub(crate) fn field<'a>(answer: &'a Response, name: &str) -> &'a str {
    let value = answer.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

/// A digest nothing has.
pub(crate) fn unknown() -> Digest {
    Digest::Sha256([7; 32])
}
