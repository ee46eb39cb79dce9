//! Mirrors that check in at a real front end, and what is believed of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with the tests of the crawler")]
mod bench;
#[expect(dead_code, reason = "shared with the tests of the crawler")]
mod hostile_mirror;

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
use registry_proxy::crawler::Depth;
use registry_proxy::crawler::identity::Identity;
use registry_proxy::db::{Crawl, Evidence, Outcome, Scope, Verdict};
use registry_proxy::network::{By, HostId, NewHost, Visibility};
use registry_proxy::server::FrontEnd;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use bench::{BLOBS, Bench, large_layer, name, new_host};

/// A front end that does not crawl, and the mirrors that check in there.
struct Hall {
    bench: Bench,
    address: String,
    client: reqwest::Client,
    /// Ends with it.
    _serving: JoinSet<()>,
}

impl Hall {
    async fn open() -> Self {
        let bench = Bench::new();
        let mut config = Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..bench.config()
        };
        config.crawler.enabled = false;
        let front_end = FrontEnd::bind(&config).await.unwrap();
        let address = front_end.local_addresses()[0].to_string();
        let mut serving = JoinSet::new();
        serving.spawn(front_end.run(CancellationToken::new()));
        Self {
            bench,
            address,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            _serving: serving,
        }
    }

    /// Enters a mirror nobody can reach, and gives it a token.
    fn enter(&self, host: &NewHost) -> Token {
        self.bench.enter(host);
        self.token(host.name.as_str())
    }

    fn token(&self, host: &str) -> Token {
        let token = Token::new().unwrap();
        let now = Timestamp::now();
        let mut database = self.bench.database();
        database.set_token(&name(host), &token, now).unwrap();
        token
    }

    fn post(&self, token: Option<&Token>) -> RequestBuilder {
        let url = format!("http://{}/api/v1/checkin", self.address);
        let request = self.client.post(url);
        match token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    /// What a mirror is told to its report.
    async fn told(&self, token: &Token, report: &Value) -> Value {
        let answer = self.post(Some(token)).json(report).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    /// A report of the tree as it is, without its blobs.
    fn report(&self) -> Value {
        let catalog = self.bench.catalog();
        let state = catalog.state();
        let bytes = std::fs::read(TreePath::State.under(&self.bench.tree())).unwrap();
        json!({
            "version": 1,
            "tool": "mirror-tool 0.1",
            "serial": state.serial,
            "state": Algorithm::Sha256.digest(&bytes),
            "list": state.list.as_ref().map(|list| list.digest),
        })
    }

    fn id(&self, host: &str) -> HostId {
        let listed = self.bench.database().host(&name(host)).unwrap();
        listed.host.id
    }

    /// Until the front end has seen what the tree is now.
    async fn catch_up(&self) {
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
    fn held(&self, host: &str) -> BTreeSet<Digest> {
        let catalog = self.bench.catalog();
        let known = self.bench.database().known(self.id(host), &catalog);
        let verified = known.unwrap().verified;
        let digest = |id| catalog.blob(BlobId(id)).digest;
        verified.iter().map(digest).collect()
    }

    async fn call(&self, text: String) -> Response {
        let request = self.client.post(format!("http://{}/xmlrpc", self.address));
        let request = request.header("content-type", "text/xml").body(text);
        request.send().await.unwrap()
    }

    /// What a mirror is told that checks in as with MirrorManager.
    async fn called(&self, host: &str, token: &Token, directories: &[&str]) -> String {
        let tree: serde_json::Map<String, Value> = directories
            .iter()
            .map(|path| ((*path).to_owned(), json!({})))
            .collect();
        let text = json!({
            "version": 0,
            "global": {"enabled": "1", "server": "x"},
            "site": {"enabled": "1", "name": host, "password": token.reveal()},
            "host": {"enabled": "1", "name": host, "user_active": "1"},
            "stats": {},
            "containers": {"enabled": "1", "dirtree": tree},
        });
        let answer = self.call(call(text.to_string().as_bytes())).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.unwrap()
    }
}

/// A call that holds this text, packed as MirrorManager's clients do.
fn call(text: &[u8]) -> String {
    let mut encoder = BzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    let packed = URL_SAFE.encode(encoder.finish().unwrap());
    format!(
        "<?xml version='1.0'?><methodCall><methodName>checkin</methodName><params><param><value><string>{packed}\
         </string></value></param></params></methodCall>"
    )
}

fn private(name: &str) -> NewHost {
    NewHost {
        visibility: Visibility::Private,
        netblocks: vec!["127.0.0.0/8".parse().unwrap()],
        ..public(name)
    }
}

/// Nobody listens there.
fn public(name: &str) -> NewHost {
    new_host(name, "http://127.0.0.1:9/tree")
}

fn packed(blobs: &BTreeSet<Digest>) -> Value {
    let bytes: Vec<u8> = blobs.iter().flat_map(|it| it.as_bytes().to_vec()).collect();
    json!({"sha256": STANDARD.encode(bytes)})
}

// What is believed.

#[tokio::test]
async fn a_private_mirror_holds_what_it_says_and_is_not_crawled() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    for _ in 0..4 {
        hall.bench.crawl(Depth::Incremental).await;
    }
    assert!(hall.bench.standing("m").is_err(), "nobody can reach it");

    let told = hall.told(&token, &hall.report()).await;
    let expected = json!({"status": "recorded", "presence": "taken", "crawl": "none"});
    assert_eq!(told, expected);
    assert_eq!(hall.held("m"), hall.bench.blobs());
    assert_eq!(hall.bench.standing("m"), Ok(()));
    let report = hall.bench.crawl(Depth::Incremental).await;
    assert!(report.hosts.is_empty(), "{report:?}");
    assert_eq!(hall.bench.standing("m"), Ok(()));

    let database = hall.bench.database();
    let [check_in] = &database.check_ins(hall.id("m")).unwrap()[..] else {
        panic!("it is written down once");
    };
    let serial = hall.bench.catalog().state().serial;
    assert_eq!((check_in.blobs, check_in.serial), (BLOBS, Some(serial)));
}

#[tokio::test]
async fn a_mirror_that_is_behind_is_not_credited_with_what_is_newer() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (mut report, had) = (hall.report(), hall.bench.blobs());
    hall.bench.publish("later", &[b"later"]);
    hall.catch_up().await;
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    assert!(hall.held("m").is_empty(), "nothing is known yet");
    let mut more = had.clone();
    more.insert(Algorithm::Sha256.digest(b"of no tree"));
    report["blobs"] = packed(&more);
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), had);
    // Nor one that has our serial, and another list.
    let mut report = hall.report();
    report["list"] = json!(Algorithm::Sha256.digest(b"another"));
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
}

#[tokio::test]
async fn an_equal_serial_proves_nothing_and_a_state_that_was_told_is_remembered() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let mut report = hall.report();
    report["state"] = json!(Algorithm::Sha256.digest(b"its own"));
    report["repositories"] = json!(["alpine", "debian/base"]);
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    let alpine = hall.bench.blobs_of("alpine");
    report["blobs"] = packed(&alpine);
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), alpine);
    report["blobs"] = Value::Null;
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("m"), alpine);
    let check_ins = hall.bench.database().check_ins(hall.id("m")).unwrap();
    let blobs: Vec<u64> = check_ins.iter().map(|it| it.blobs).collect();
    assert_eq!(blobs, [alpine.len() as u64; 2]);
    // More of it may count once it is there for other repositories.
    let all = |host| {
        Ok(NewHost {
            repositories: vec!["*".parse().unwrap()],
            ..host
        })
    };
    let mut database = hall.bench.database();
    database.change_host(&name("m"), all).unwrap();
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    // What was forgotten has to be told again.
    assert_eq!(database.expire_check_ins(Timestamp::now()).unwrap(), ["m"]);
    assert_eq!(hall.told(&token, &report).await["presence"], "wanted");
    assert!(hall.held("m").is_empty());
}

#[tokio::test]
async fn told_damage_holds_until_that_blob_was_verified() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let layer = large_layer();
    let mut report = hall.report();
    report["verified"] = json!({"at": Timestamp::now(), "damaged": [layer]});
    hall.told(&token, &report).await;
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    hall.told(&token, &hall.report()).await;
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    hall.bench.publish("later", &[b"later"]);
    hall.catch_up().await;
    let mut report = hall.report();
    hall.told(&token, &report).await;
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    let check_ins = hall.bench.database().check_ins(hall.id("m")).unwrap();
    assert_eq!(
        check_ins[2].blobs,
        BLOBS - 1,
        "what is damaged is not there"
    );
    // Another one is, and this one is mended.
    let other = Algorithm::Sha256.digest(b"later");
    report["verified"] = json!({"at": Timestamp::now(), "damaged": [other]});
    hall.told(&token, &report).await;
    assert_eq!(hall.held("m"), hall.bench.all_but(&other));
    assert_eq!(
        hall.bench.standing("m"),
        Ok(()),
        "its word is no quarantine"
    );
}

#[tokio::test]
async fn a_crawl_that_ends_after_a_check_in_changes_nothing_but_for_damage() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (id, catalog) = (hall.id("m"), hall.bench.catalog());
    let layer = large_layer();
    let blob = catalog.id(&layer).unwrap();
    let until = Timestamp::now() + SignedDuration::from_secs(60);
    let claim = || {
        let database = hall.bench.database();
        database.claim(id, Timestamp::now(), until).unwrap()
    };
    let found = |verdict, evidence| Outcome::Finished {
        scope: Scope::Whole,
        verdicts: vec![(blob, verdict)],
        evidence,
    };
    assert!(claim());
    let began = Timestamp::now();
    hall.told(&token, &hall.report()).await;
    let failed = || Outcome::Failed("refused".to_owned());
    for outcome in [
        failed(),
        failed(),
        failed(),
        found(Verdict::Missing, Vec::new()),
    ] {
        let crawl = Crawl::new(began, outcome);
        let mut database = hall.bench.database();
        let recorded = database.record_crawl(id, &crawl, &catalog).unwrap();
        assert_eq!(recorded, None);
        assert_eq!(hall.held("m"), hall.bench.blobs());
        assert_eq!(hall.bench.standing("m"), Ok(()));
    }
    assert!(claim(), "it was given back");
    let evidence = Evidence {
        digest: layer,
        url: "http://127.0.0.1:9/tree".to_owned(),
        expected: "others".to_owned(),
        found: "these".to_owned(),
        identity: Identity::Crawler,
    };
    let crawl = Crawl::new(began, found(Verdict::Damaged, vec![evidence]));
    let mut database = hall.bench.database();
    database.record_crawl(id, &crawl, &catalog).unwrap();
    assert!(hall.bench.standing("m").is_err());
}

#[tokio::test]
async fn only_what_a_mirror_carries_and_is_there_for_counts() {
    let hall = Hall::open().await;
    let [debian, alpine] = ["debian/base", "alpine"].map(|name| hall.bench.blobs_of(name));
    let mut report = hall.report();
    report["repositories"] = json!(["alpine", "not/here"]);
    let token = hall.enter(&private("some"));
    assert_eq!(hall.told(&token, &report).await["presence"], "taken");
    assert_eq!(hall.held("some"), alpine);

    let picky = NewHost {
        repositories: vec!["debian/*".parse().unwrap()],
        ..private("picky")
    };
    let token = hall.enter(&picky);
    hall.told(&token, &report).await;
    assert!(hall.held("picky").is_empty());
    hall.told(&token, &hall.report()).await;
    assert_eq!(hall.held("picky"), debian);
    report["serial"] = json!(0);
    report["blobs"] = packed(&hall.bench.blobs());
    hall.told(&token, &report).await;
    assert_eq!(hall.held("picky"), debian);
}

#[tokio::test]
async fn told_damage_is_not_offered_and_a_whole_verification_ends_a_quarantine() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (layer, catalog) = (large_layer(), hall.bench.catalog());
    let outcome = Outcome::Finished {
        scope: Scope::Part,
        verdicts: vec![(catalog.id(&layer).unwrap(), Verdict::Damaged)],
        evidence: vec![Evidence {
            digest: layer,
            url: "http://127.0.0.1:9/tree".to_owned(),
            expected: "others".to_owned(),
            found: "these".to_owned(),
            identity: Identity::Crawler,
        }],
    };
    let crawl = Crawl::new(Timestamp::now(), outcome);
    let id = hall.id("m");
    hall.bench
        .database()
        .record_crawl(id, &crawl, &catalog)
        .unwrap();

    let mut report = hall.report();
    hall.told(&token, &report).await;
    assert!(hall.bench.standing("m").is_err(), "its word is not enough");
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    report["verified"] = json!({"at": Timestamp::now(), "damaged": [layer]});
    hall.told(&token, &report).await;
    assert!(hall.bench.standing("m").is_err());
    assert_eq!(hall.held("m"), hall.bench.all_but(&layer));
    report["verified"] = json!({"at": Timestamp::now(), "damaged": []});
    hall.told(&token, &report).await;
    assert_eq!(hall.bench.standing("m"), Ok(()));
    assert_eq!(hall.held("m"), hall.bench.blobs());
}

#[tokio::test]
async fn a_liar_gains_nothing() {
    let hall = Hall::open().await;
    let token = hall.enter(&public("m"));
    let mut report = hall.report();
    report["blobs"] = packed(&hall.bench.blobs());
    report["verified"] = json!({"at": Timestamp::now(), "damaged": []});
    let told = hall.told(&token, &report).await;
    assert_eq!(
        (&told["presence"], &told["crawl"]),
        (&json!("none"), &json!("soon"))
    );
    let answer = hall
        .called("m", &token, &["repos/alpine/blobs/sha256"])
        .await;
    assert!(answer.contains("checked in successful"), "{answer}");
    hall.called("m", &token, &["repos/alpine/blobs/sha256"])
        .await;
    assert!(hall.held("m").is_empty());
    let turn = hall.bench.database().turns().unwrap().remove(0);
    assert!(turn.hinted_at.is_some() && turn.checked_in_at.is_none());
}

#[tokio::test]
async fn a_hint_holds_until_a_crawl_that_began_after_it() {
    let hall = Hall::open().await;
    let _mirror = hall.bench.mirror("m").await;
    let token = hall.token("m");
    let hinted = || hall.bench.database().turns().unwrap()[0].hinted_at;
    let old = Crawl::new(Timestamp::now(), Outcome::Failed("silent".to_owned()));
    assert_eq!(hall.told(&token, &hall.report()).await["crawl"], "soon");
    assert!(hinted().is_some());
    let (id, catalog) = (hall.id("m"), hall.bench.catalog());
    hall.bench
        .database()
        .record_crawl(id, &old, &catalog)
        .unwrap();
    assert!(hinted().is_some(), "that crawl began before");
    let check = Crawl {
        has_looked_for_news: false,
        ..Crawl::new(Timestamp::now(), Outcome::Failed("silent".to_owned()))
    };
    hall.bench
        .database()
        .record_crawl(id, &check, &catalog)
        .unwrap();
    assert!(hinted().is_some(), "that crawl looked for nothing new");
    hall.bench.crawl(Depth::Incremental).await;
    assert_eq!(hinted(), None);
    // What was seen there is no news, unless something is wrong with it.
    let mut report = hall.report();
    assert_eq!(hall.told(&token, &report).await["crawl"], "none");
    assert_eq!(hinted(), None);
    report["verified"] = json!({"damaged": [large_layer()]});
    assert_eq!(hall.told(&token, &report).await["crawl"], "soon");
    hall.bench.crawl(Depth::Incremental).await;
    report["verified"] = Value::Null;
    report["state"] = json!(Algorithm::Sha256.digest(b"newer"));
    assert_eq!(hall.told(&token, &report).await["crawl"], "soon");
}

#[tokio::test]
async fn a_crawl_under_way_keeps_the_mirror_it_has_claimed() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let (id, now) = (hall.id("m"), Timestamp::now());
    let until = now + SignedDuration::from_secs(60);
    assert!(hall.bench.database().claim(id, now, until).unwrap());
    hall.told(&token, &hall.report()).await;
    assert!(!hall.bench.database().claim(id, now, until).unwrap());
}

// What becomes of it.

#[tokio::test]
async fn what_silent_mirrors_have_said_is_forgotten() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let _reachable = hall.bench.mirror("reachable").await;
    hall.bench.crawl(Depth::Full).await;
    hall.told(&token, &hall.report()).await;
    let (before, mut database) = (Timestamp::now(), hall.bench.database());
    let earlier = before - SignedDuration::from_secs(60);
    assert!(!database.has_silent(earlier).unwrap());
    assert!(database.expire_check_ins(earlier).unwrap().is_empty());
    assert!(database.has_silent(before).unwrap());
    assert_eq!(database.expire_check_ins(before).unwrap(), ["m"]);
    assert!(hall.held("m").is_empty());
    assert_eq!(hall.held("reachable"), hall.bench.blobs());
    assert!(!database.has_silent(before).unwrap(), "once");
    // It is still the only one to ask.
    let report = hall.bench.crawl(Depth::Full).await;
    assert_eq!(report.hosts.len(), 1);
    hall.told(&token, &hall.report()).await;
    assert_eq!(hall.held("m"), hall.bench.blobs());
}

#[tokio::test]
async fn a_token_that_is_taken_back_or_replaced_is_worth_nothing() {
    let hall = Hall::open().await;
    let old = hall.enter(&private("m"));
    let token = hall.token("m");
    hall.told(&token, &hall.report()).await;
    let mut database = hall.bench.database();
    let status = async |token: Option<&Token>| {
        let request = hall.post(token).json(&hall.report());
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().get("www-authenticate").cloned();
        assert_eq!(challenge.is_some(), answer.status() == 401);
        (answer.status(), answer.text().await.unwrap())
    };
    let (refused, words) = status(Some(&old)).await;
    assert_eq!(refused, StatusCode::UNAUTHORIZED);
    assert!(database.revoke_token(&name("m")).unwrap());
    assert!(!database.revoke_token(&name("m")).unwrap());
    let stranger = Token::new().unwrap();
    for token in [Some(&token), Some(&stranger), None] {
        assert_eq!(status(token).await, (refused, words.clone()));
    }
    assert!(hall.held("m").is_empty(), "it rested on that word alone");
    let report = hall.bench.crawl(Depth::Full).await;
    assert_eq!(report.hosts.len(), 1, "it is crawled again");

    let files = std::fs::read_dir(hall.bench.directory.path()).unwrap();
    for file in files.map(|file| file.unwrap().path()) {
        if file.is_file() {
            let bytes = std::fs::read(&file).unwrap();
            let secret = &token.reveal().as_bytes()[13..];
            let is_there = bytes.windows(secret.len()).any(|it| it == secret);
            assert!(!is_there, "{}", file.display());
        }
    }
}

#[tokio::test]
async fn a_mirror_that_becomes_public_is_not_believed_what_it_said() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    hall.told(&token, &hall.report()).await;
    let mut database = hall.bench.database();
    let change = |visibility| move |host| Ok(NewHost { visibility, ..host });
    database
        .change_host(&name("m"), change(Visibility::Public))
        .unwrap();
    assert!(hall.held("m").is_empty());
    let told = hall.told(&token, &hall.report()).await;
    assert_eq!(told["presence"], "none");
    assert!(hall.held("m").is_empty());
}

// Who may, how often, and how much.

#[tokio::test]
async fn a_mirror_out_of_service_is_told_why() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let mut database = hall.bench.database();
    database
        .set_switch(&name("m"), By::Site, Some("new disks"))
        .unwrap();
    assert_eq!(hall.told(&token, &hall.report()).await["presence"], "taken");
    database.set_disabled(&name("m"), Some("moving")).unwrap();
    let request = hall.post(Some(&token)).json(&hall.report());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["status"], "refused");
    assert_eq!(told["reason"], "disabled by an administrator: moving");
    let answer = hall.called("m", &token, &[]).await;
    assert!(
        answer.contains("error checking in: disabled by"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_mirror_that_comes_too_often_waits_and_no_other_does() {
    let hall = Hall::open().await;
    let (token, other) = (hall.enter(&public("m")), hall.enter(&public("n")));
    for _ in 0..6 {
        hall.told(&token, &hall.report()).await;
    }
    let request = hall.post(Some(&token)).json(&hall.report());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait = answer.headers()["retry-after"].to_str().unwrap();
    assert!((1..=11).contains(&wait.parse::<u64>().unwrap()), "{wait}");
    // However many try to guess.
    let mut refused = BTreeSet::new();
    for _ in 0..100 {
        let request = hall.post(Some(&Token::new().unwrap()));
        refused.insert(request.send().await.unwrap().status().as_u16());
    }
    assert_eq!(refused, [401, 429].into());
    hall.told(&other, &hall.report()).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let hall = Hall::open().await;
    let token = hall.enter(&public("m"));
    let post = || hall.post(Some(&token));
    let kind = "content-type";
    let packed = post()
        .json(&hall.report())
        .header("content-encoding", "gzip");
    for (request, status) in [
        (post().body("{}"), 415),
        (post().header(kind, "text/plain").body("{}"), 415),
        (packed, 415),
        (post().json(&json!({"version": 2})), 400),
        (
            post()
                .header(kind, "application/json; charset=utf-8")
                .body("{"),
            400,
        ),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        let told: Value = answer.json().await.unwrap();
        assert!(!told["reason"].as_str().unwrap().is_empty());
    }
    for (path, status, allowed) in [
        ("/api/v1/checkin", 405, "POST"),
        ("/xmlrpc", 405, "POST"),
        ("/mirrormanager/xmlrpc", 405, "POST"),
        ("/api/v1/other", 404, ""),
    ] {
        let url = format!("http://{}{path}", hall.address);
        let answer = hall.client.get(&url).send().await.unwrap();
        let allow = answer.headers().get("allow");
        let allow = allow.map_or("", |allow| allow.to_str().unwrap());
        assert_eq!(
            (answer.status().as_u16(), allow),
            (status, allowed),
            "{path}"
        );
    }
    let url = format!("http://{}/api/v1/other", hall.address);
    let answer = hall.client.post(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "GET, HEAD");
}

/// The status of the answer to a head whose body never comes.
async fn status_of(hall: &Hall, head: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(&hall.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let reading = stream.read_exact(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
    read.expect("nobody waits for the body").unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

#[tokio::test]
async fn nothing_is_read_of_strangers_or_of_what_is_too_much() {
    let hall = Hall::open().await;
    let token = hall.enter(&public("m"));
    let head = |path: &str, kind: &str, token: &str, length: u64| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    let (report, json) = ("/api/v1/checkin", "application/json");
    let stranger = Token::new().unwrap();
    for (head, status) in [
        (head(report, json, stranger.reveal(), 1000), "401"),
        (head(report, json, "", 1 << 40), "401"),
        (head(report, json, token.reveal(), (64 << 20) + 1), "413"),
        (head("/xmlrpc", "text/xml", "", (8 << 20) + 1), "413"),
        (head("/xmlrpc", json, "", 1000), "415"),
    ] {
        assert_eq!(status_of(&hall, &head).await, status, "{head}");
    }
    // One that does not say how much it is going to be.
    let endless =
        futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
    let request = hall.post(Some(&token)).header("content-type", json);
    let answer = request
        .body(reqwest::Body::wrap_stream(endless))
        .send()
        .await;
    // It may still be sending when it is told.
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}

// As with MirrorManager.

#[tokio::test]
async fn what_was_there_to_be_synced_counts_at_the_next_call() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let directories = ["", "repos/alpine/blobs/sha256"];
    let first = hall.called("m", &token, &directories).await;
    assert!(
        first.contains("containers: directories updated: 2"),
        "{first}"
    );
    assert!(first.contains("from the next time on"), "{first}");
    assert!(hall.held("m").is_empty());

    // What comes to the tree meanwhile it may have or not.
    let alpine = hall.bench.blobs_of("alpine");
    hall.bench.publish("later", &[b"later"]);
    hall.catch_up().await;
    let more = [
        "repos/alpine/blobs/sha256",
        "containers/repos/later/blobs/sha256",
    ];
    let second = hall.called("m", &token, &more).await;
    assert!(second.contains("checked in successful"), "{second}");
    assert_eq!(hall.held("m"), alpine);
    hall.called("m", &token, &more).await;
    let later = hall.bench.blobs_of("later");
    assert_eq!(hall.held("m"), alpine.union(&later).copied().collect());
    // Another part of it, told by itself, says nothing of these.
    let other = hall.called("m", &token, &["blobs"]).await;
    assert!(!other.contains("next time"), "{other}");
    assert_eq!(hall.held("m"), alpine.union(&later).copied().collect());
}

#[tokio::test]
async fn parts_are_told_one_by_one() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let [debian, alpine] = ["debian/base", "alpine"].map(|name| hall.bench.blobs_of(name));
    let parts = [
        "repos/debian/base/blobs/sha256",
        "repos/alpine/blobs/sha256",
    ];
    for part in parts {
        hall.called("m", &token, &[part]).await;
        let turn = hall.bench.database().turns().unwrap().remove(0);
        assert!(!turn.checks_in(), "nothing is known by it yet");
    }
    hall.called("m", &token, &parts[..1]).await;
    assert_eq!(hall.held("m"), debian);
    hall.called("m", &token, &parts[1..]).await;
    assert_eq!(hall.held("m"), debian.union(&alpine).copied().collect());
}

#[tokio::test]
async fn slow_or_senseless_calls_keep_nobody_out() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = tokio::net::TcpStream::connect(&hall.address).await.unwrap();
        let head = "POST /xmlrpc HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n<";
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut refused = BTreeSet::new();
    for _ in 0..100 {
        refused.insert(hall.call(String::new()).await.status().as_u16());
    }
    assert_eq!(refused, [200, 429].into());
    let answer = hall.called("m", &token, &["blobs"]).await;
    assert!(answer.contains("checked in successful"), "{answer}");
}

#[tokio::test]
async fn large_reports_of_public_mirrors_are_bounded_and_one_at_a_time() {
    let hall = Hall::open().await;
    let (token, own) = (hall.enter(&public("m")), hall.enter(&private("p")));
    let head = |token: &Token, length: u64| {
        let token = token.reveal();
        format!(
            "POST /api/v1/checkin HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let too_much = head(&token, (8 << 20) + 1);
    assert_eq!(status_of(&hall, &too_much).await, "413");
    let mut slow = tokio::net::TcpStream::connect(&hall.address).await.unwrap();
    slow.write_all(head(&token, 2 << 20).as_bytes())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(status_of(&hall, &head(&token, 2 << 20)).await, "503");
    let mut report = hall.report();
    report["later"] = json!(" ".repeat(9 << 20));
    assert_eq!(hall.told(&own, &report).await["presence"], "taken");
}

#[tokio::test]
async fn who_calls_has_to_be_who_he_says() {
    let hall = Hall::open().await;
    let (token, other) = (hall.enter(&private("m")), hall.enter(&private("n")));
    let stranger = Token::new().unwrap();
    for (host, token) in [("m", &stranger), ("m", &other), ("n", &token)] {
        let answer = hall.called(host, token, &[]).await;
        let words = "error checking in: the token is not known here";
        assert!(answer.contains(words), "{answer}");
        assert!(!answer.contains("successful"), "{answer}");
    }
    assert!(
        hall.bench
            .database()
            .check_ins(hall.id("m"))
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_no_call_gets_a_fault() {
    let hall = Hall::open().await;
    let bomb = vec![b' '; (64 << 20) + 1];
    let deep = [b"{\"stats\":".to_vec(), b"[".repeat(1 << 20)].concat();
    for (text, told) in [
        (String::new(), "no method"),
        ("<methodCall/>".to_owned(), "checkin"),
        (
            call(b"{}").replace("checkin", "system.multicall"),
            "no method",
        ),
        (format!("<!DOCTYPE x>{}", call(b"{}")), "one method"),
        (call(&bomb), "more than 67108864 bytes"),
        (
            call(b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."),
            "not JSON",
        ),
        (call(&deep), "not JSON"),
    ] {
        let answer = hall.call(text).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let answer = answer.text().await.unwrap();
        assert!(
            answer.contains("<fault>") && answer.contains(told),
            "{answer}"
        );
    }
}
