//! The wire to a source registry: logging in, limits, proxies, and registries that mean harm.

mod answers;
mod limits;
mod login;
mod program;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use oci_mirror::reference::{Reference, RepoName};
use oci_mirror::registry::client::Options;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::retry::Retry;
use oci_mirror::registry::{Error, Registry};
use tokio::task::JoinSet;

use crate::fake_registry::FakeRegistry;

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
