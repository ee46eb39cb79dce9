//! A front end at which mirrors check in, and mirrors that do.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bzip2::Compression;
use bzip2::write::BzEncoder;
use jiff::{SignedDuration, Timestamp};
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::TreePath;
use oci_mirror::tree::catalog::BlobId;
use registry_proxy::checkin::Token;
use registry_proxy::config::Config;
use registry_proxy::db::{CheckIn, Verdict, Way};
use registry_proxy::network::{HostId, NewHost, Visibility};
use registry_proxy::server::{FrontEnd, Live};
use reqwest::{RequestBuilder, Response, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, name, new_host};

/// A front end that does not crawl, and the mirrors that check in there.
pub(crate) struct Hall {
    pub(crate) bench: Bench,
    pub(crate) address: String,
    pub(crate) client: reqwest::Client,
    pub(crate) live: Live,
    /// Ends with it.
    _serving: JoinSet<()>,
}

impl Hall {
    pub(crate) async fn open() -> Self {
        let bench = Bench::new();
        let config = config(&bench);
        Self::of(bench, &config).await
    }

    /// With a configuration of the bench.
    pub(crate) async fn of(bench: Bench, config: &Config) -> Self {
        let front_end = FrontEnd::bind(config).await.unwrap();
        let address = front_end.local_addresses()[0].to_string();
        let live = front_end.live();
        let mut serving = JoinSet::new();
        serving.spawn(front_end.run(CancellationToken::new()));
        Self {
            bench,
            address,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            live,
            _serving: serving,
        }
    }

    /// Enters a mirror nobody can reach, and gives it a token.
    pub(crate) fn enter(&self, host: &NewHost) -> Token {
        self.bench.enter(host);
        self.token(host.name.as_str())
    }

    pub(crate) fn token(&self, host: &str) -> Token {
        let token = Token::new().unwrap();
        let now = Timestamp::now();
        let mut database = self.bench.database();
        database.set_token(&name(host), &token, now).unwrap();
        token
    }

    pub(crate) fn post(&self, token: Option<&Token>) -> RequestBuilder {
        let url = format!("http://{}/api/v1/checkin", self.address);
        let request = self.client.post(url);
        match token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    /// What a mirror is told to its report.
    pub(crate) async fn told(&self, token: &Token, report: &Value) -> Value {
        let answer = self.post(Some(token)).json(report).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    /// A report of the tree as it is, without its blobs.
    pub(crate) fn report(&self) -> Value {
        report_of(&self.bench)
    }

    /// Writes down at once, without the front end, that a private mirror says it has all.
    pub(crate) fn write_down(&self, host: &str) {
        let catalog = self.bench.catalog();
        let entry = CheckIn {
            at: Timestamp::now(),
            way: Way::Report,
            serial: Some(catalog.state().serial),
            state: None,
            repositories: None,
            carried: None,
            blobs: catalog.blobs().len() as u64,
            damaged: None,
        };
        let all = (0..catalog.blobs().len()).map(|id| BlobId(u32::try_from(id).unwrap()));
        let verdicts = all.map(|id| (id, Verdict::Confirmed)).collect();
        let recorded = (self.bench.database()).check_in(self.id(host), &entry, verdicts, &catalog);
        assert!(recorded.unwrap().is_some());
    }

    pub(crate) fn id(&self, host: &str) -> HostId {
        let listed = self.bench.database().host(&name(host)).unwrap();
        listed.host.id
    }

    /// Until the front end has seen what the tree is now.
    pub(crate) async fn catch_up(&self) {
        let serial = self.bench.catalog().state().serial;
        let url = format!("http://{}/readyz", self.address);
        for _ in 0..200 {
            let answer = self.client.get(&url).send().await.unwrap();
            if answer.text().await.unwrap() == format!("ready: serial {serial}\n") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the front end has not seen serial {serial}");
    }

    /// The blobs that a mirror is known to hold.
    pub(crate) fn held(&self, host: &str) -> BTreeSet<Digest> {
        let catalog = self.bench.catalog();
        let known = self.bench.database().known(self.id(host), &catalog);
        let verified = known.unwrap().verified;
        let digest = |id| catalog.blob(BlobId(id)).digest;
        verified.iter().map(digest).collect()
    }

    pub(crate) async fn call(&self, text: String) -> Response {
        let request = self.client.post(format!("http://{}/xmlrpc", self.address));
        let request = request.header("content-type", "text/xml").body(text);
        request.send().await.unwrap()
    }

    /// What a mirror is told that checks in as with MirrorManager, after a sync.
    pub(crate) async fn called(&self, host: &str, token: &Token, directories: &[&str]) -> String {
        self.called_with(host, token, &[("containers", directories)])
            .await
    }

    /// The same, of these categories.
    pub(crate) async fn called_with(
        &self,
        host: &str,
        token: &Token,
        categories: &[(&str, &[&str])],
    ) -> String {
        // Whatever was listed before was longer ago than any sync takes.
        let ago = Timestamp::now() - SignedDuration::from_hours(1);
        let database = Connection::open(self.bench.database_path()).unwrap();
        let query = "UPDATE category SET listed_at = ?1";
        database.execute(query, [format!("{ago:.6}")]).unwrap();
        self.called_again(host, token, categories).await
    }

    /// The same, and there was no sync since the last time.
    pub(crate) async fn called_again(
        &self,
        host: &str,
        token: &Token,
        categories: &[(&str, &[&str])],
    ) -> String {
        let mut text = json!({
            "version": 0,
            "global": {"enabled": "1", "server": "x"},
            "site": {"enabled": "1", "name": host, "password": token.reveal()},
            "host": {"enabled": "1", "name": host, "user_active": "1"},
            "stats": {},
        });
        for (category, directories) in categories {
            let tree: serde_json::Map<String, Value> = directories
                .iter()
                .map(|path| ((*path).to_owned(), json!({})))
                .collect();
            text[category] = json!({"enabled": "1", "dirtree": tree});
        }
        let answer = self.call(call(text.to_string().as_bytes())).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.unwrap()
    }
}

/// That of a front end which does not crawl.
pub(crate) fn config(bench: &Bench) -> Config {
    let mut config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ..bench.config()
    };
    config.crawler.enabled = false;
    config
}

/// A report of a tree as it is, without its blobs.
pub(crate) fn report_of(bench: &Bench) -> Value {
    let catalog = bench.catalog();
    let state = catalog.state();
    let bytes = std::fs::read(TreePath::State.under(&bench.tree())).unwrap();
    json!({
        "version": 1,
        "tool": "mirror-tool 0.1",
        "serial": state.serial,
        "state": Algorithm::Sha256.digest(&bytes),
        "list": state.list.as_ref().map(|list| list.digest),
    })
}

/// A call that holds this text, packed as MirrorManager's clients do.
pub(crate) fn call(text: &[u8]) -> String {
    let mut encoder = BzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    let packed = URL_SAFE.encode(encoder.finish().unwrap());
    format!(
        "<?xml version='1.0'?><methodCall><methodName>checkin</methodName><params><param><value><string>{packed}\
         </string></value></param></params></methodCall>"
    )
}

pub(crate) fn private(name: &str) -> NewHost {
    NewHost {
        visibility: Visibility::Private,
        netblocks: vec!["127.0.0.0/8".parse().unwrap()],
        ..public(name)
    }
}

/// Nobody listens there.
pub(crate) fn public(name: &str) -> NewHost {
    new_host(name, "http://127.0.0.1:9/tree")
}

pub(crate) fn packed(blobs: &BTreeSet<Digest>) -> Value {
    let bytes: Vec<u8> = blobs.iter().flat_map(|it| it.as_bytes().to_vec()).collect();
    json!({"sha256": STANDARD.encode(bytes)})
}
