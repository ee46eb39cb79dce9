//! Mirrors that check in: by the real programs, at a real front end, from private mirrors nobody else can look at.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use oci_mirror::digest::Algorithm;
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use support::peer::web_server::WebServer;
use support::peer::{free_address, nginx, rsyncd};
use support::process::{Process, program as peer, run};
use tempfile::TempDir;

use crate::http;
use crate::network::{FrontEnd, Tools, fails, program, tree, wait};

/// A front end, and a mirror of its tree that is not served yet.
struct Scene {
    directory: TempDir,
    front_end: FrontEnd,
    address: SocketAddr,
    token: String,
}

impl Scene {
    /// With a mirror for clients of this machine only, and more settings.
    fn private(settings: &str) -> Self {
        let scene = Self::with(settings, &["--private", "--netblock", "127.0.0.0/8"]);
        let failed = scene.front_end.tools.crawl().stdout;
        assert!(failed.contains("campus"), "{failed}");
        scene
    }

    fn with(settings: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        rsyncd::sync(tree(), directory.path().join("mirror"), &[]).unwrap();
        let address = free_address().unwrap();
        let tools = Tools::new(tree(), directory.path());
        let url = format!("http://{address}");
        let add = ["mirror", "add", "campus", "--url", &url];
        tools.run(&[&add, arguments].concat());
        let token = tools.run(&["mirror", "token", "campus"]).stdout;
        Self {
            front_end: FrontEnd::with(settings, tools),
            directory,
            address,
            token: token.trim().to_owned(),
        }
    }

    fn mirror(&self) -> PathBuf {
        self.directory.path().join("mirror")
    }

    fn database(&self) -> Connection {
        Connection::open(self.directory.path().join("mirrors.db")).unwrap()
    }

    fn serve(&self) -> WebServer {
        let state = self.directory.path().join("nginx");
        nginx::start_at(self.address, &self.mirror(), &state).unwrap()
    }

    fn show(&self) -> Value {
        let show = ["mirror", "show", "campus", "--json"];
        serde_json::from_str(&self.front_end.tools.run(&show).stdout).unwrap()
    }

    /// Where a client is sent for a large layer: nowhere if it gets the bytes.
    fn sent_to(&self) -> Option<String> {
        let (path, _) = self.front_end.largest_layer("debian", "12");
        let answer = http::send(Method::GET, &self.front_end.url(&path), &[]);
        match answer.status.as_u16() {
            200 => None,
            302 => Some(answer.field("location").to_owned()),
            other => panic!("{other}: {}", answer.text()),
        }
    }

    /// What `report_mirror` prints after a sync.
    #[track_caller]
    fn call(&self, password: &str) -> String {
        let url = self.front_end.url("/xmlrpc");
        let mut python = peer("python3").unwrap();
        python.args(["-c", REPORT_MIRROR, &url, "campus", password]);
        run(python.arg(self.mirror())).unwrap().stdout
    }

    /// What the front end answers to a report.
    #[track_caller]
    fn post(&self, report: &Value) -> Value {
        let file = self.directory.path().join("report.json");
        fs::write(&file, report.to_string()).unwrap();
        let mut curl = peer("curl").unwrap();
        curl.args(["--silent", "--show-error", "--fail-with-body"])
            .args(["--header", "Content-Type: application/json"])
            .args(["--header", &format!("Authorization: Bearer {}", self.token)])
            .args(["--data-binary", &format!("@{}", file.display())])
            .arg(self.front_end.url("/api/v1/checkin"));
        let answer = run(&mut curl).unwrap().stdout;
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

/// What MirrorManager's client does, with nothing of its configuration.
const REPORT_MIRROR: &str = "
import base64, bz2, json, os, sys, xmlrpc.client
server, host, password, tree = sys.argv[1:]
directories = {os.path.relpath(path, tree).lstrip('.'): {} for path, _, _ in os.walk(tree)}
config = {
    'version': 0,
    'global': {'enabled': '1', 'server': server},
    'site': {'enabled': '1', 'name': host, 'password': password},
    'host': {'enabled': '1', 'name': host, 'user_active': '1'},
    'stats': {},
    'containers': {'enabled': '1', 'dirtree': directories},
}
data = base64.urlsafe_b64encode(bz2.compress(json.dumps(config).encode())).decode()
print(xmlrpc.client.ServerProxy(server).checkin(data))
";

#[test]
fn a_private_mirror_is_used_after_its_check_in_and_until_it_falls_silent() {
    let scene = Scene::private("[check-in]\nexpire = \"30s\"\n");
    assert_eq!(scene.sent_to(), None, "nobody knows what it holds");
    let report = |token: &str, verify: &[&str]| {
        let mut report = program("mirror-tool");
        report.args(["report", "--tree"]).arg(scene.mirror());
        let url = scene.front_end.url("");
        report.args(["--to", &url, "--json"]).args(verify);
        report.env("MIRROR_TOKEN", token);
        report
    };
    let (code, _) = fails(&mut report("omt_nonsense", &[]));
    assert_eq!(code, 1);
    let answer = run(&mut report(&scene.token, &["--verify"]))
        .unwrap()
        .stdout;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["presence"], "taken", "{answer}");
    wait(|| scene.sent_to().is_some());
    let web = scene.serve();
    let (path, size) = scene.front_end.largest_layer("debian", "12");
    let there = scene.sent_to().unwrap();
    assert!(there.starts_with(&web.url()), "{there}");
    assert_eq!(http::get(&there, &[]).body.len() as u64, size, "{path}");

    let shown = scene.show();
    assert_eq!(shown["inactive-because"], Value::Null, "{shown}");
    assert_eq!(shown["check-ins"][0]["way"], "report");
    assert_eq!(shown["check-ins"][0]["damaged"], 0);
    let ago = Timestamp::now() - SignedDuration::from_mins(1);
    let query = "UPDATE host SET checked_in_at = ?1";
    scene
        .database()
        .execute(query, [format!("{ago:.6}")])
        .unwrap();
    wait(|| scene.sent_to().is_none());
    assert_eq!(scene.show()["verified"], 0);
    let text = scene
        .front_end
        .tools
        .run(&["mirror", "show", "campus"])
        .stdout;
    assert!(text.contains("it is not known what it holds"), "{text}");
}

#[test]
fn pythons_client_checks_in_and_what_it_has_counts_the_second_time() {
    let scene = Scene::private("");
    let refused = scene.call("secret");
    assert!(refused.starts_with("error checking in: "), "{refused}");
    assert!(!refused.contains("successful"), "{refused}");
    let first = scene.call(&scene.token);
    assert!(
        first.contains("containers: directories updated: "),
        "{first}"
    );
    assert!(first.ends_with("checked in successful\n\n"), "{first:?}");
    assert_eq!(scene.show()["verified"], 0);
    // There was a sync since.
    let ago = Timestamp::now() - SignedDuration::from_hours(1);
    let query = "UPDATE category SET listed_at = ?1";
    let changed = scene.database().execute(query, [format!("{ago:.6}")]);
    assert_eq!(changed.unwrap(), 1);
    scene.call(&scene.token);
    wait(|| scene.sent_to().is_some());
    let shown = scene.show();
    assert_eq!(shown["check-ins"][0]["way"], "xml-rpc");
    assert_eq!(shown["verified"], shown["check-ins"][0]["blobs"]);

    let revoke = ["mirror", "token", "campus", "--revoke"];
    scene.front_end.tools.run(&revoke);
    wait(|| scene.sent_to().is_none());
    assert!(scene.call(&scene.token).starts_with("error checking in"));
}

#[test]
fn a_hint_brings_a_crawl_by_another_process() {
    let scene = Scene::with("", &[]);
    let mirror = scene.mirror();
    let _web = scene.serve();
    let tools = &scene.front_end.tools;
    tools.crawl();
    let first = scene.show();
    assert_ne!(first["verified"], 0, "{first}");
    // Some minutes ago, and not its turn for long.
    let ago = Timestamp::now() - SignedDuration::from_mins(10);
    let query = "UPDATE host SET crawled_at = ?1, finished_at = ?1";
    scene.database().execute(query, [ago.to_string()]).unwrap();
    let log = scene.directory.path().join("crawl.log");
    let crawler = Process::start(&mut tools.command(&["crawl"]), &log).unwrap();
    let last_crawl = || scene.show()["crawled-at"].clone();
    let before = last_crawl();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(last_crawl(), before, "it is not its turn");

    let bytes = fs::read(mirror.join("state.json")).unwrap();
    let known = Algorithm::Sha256.digest(&bytes);
    let newer = Algorithm::Sha256.digest(b"newer");
    let report =
        |state| json!({"version": 1, "serial": 1, "state": state, "blobs": {"sha256": ""}});
    let nothing = scene.post(&report(known));
    let told = json!({"status": "recorded", "presence": "none", "crawl": "none"});
    assert_eq!(nothing, told);
    assert_eq!(scene.post(&report(newer))["crawl"], "soon");
    // Whoever crawls looks every half minute.
    let began = Instant::now();
    while last_crawl() == before {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{}",
            crawler.log().unwrap()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(
        scene.show()["verified"],
        first["verified"],
        "and only the crawl counts"
    );
}

#[test]
fn a_token_is_shown_once() {
    let directory = tempfile::tempdir().unwrap();
    let tools = Tools::new(tree(), directory.path());
    tools.add_mirror("m", "https://m.example", "DE");
    let shown = |arguments: &[&str]| tools.run(arguments).stdout;
    let token = shown(&["mirror", "token", "m"]);
    assert!(token.starts_with("omt_") && token.lines().count() == 1);
    assert_ne!(shown(&["mirror", "token", "m"]), token);
    let json: Value = serde_json::from_str(&shown(&["mirror", "token", "m", "--json"])).unwrap();
    let token = json["token"].as_str().unwrap();
    for command in [
        &["mirror", "show", "m"][..],
        &["mirror", "show", "m", "--json"],
        &["export"],
    ] {
        assert!(!shown(command).contains(&token[13..]));
    }
    assert!(shown(&["mirror", "show", "m"]).contains("checks in     yes"));
    let revoke = ["mirror", "token", "m", "--revoke"];
    assert_eq!(shown(&revoke), "m cannot check in any more\n");
    assert_eq!(shown(&revoke), "m has no token\n");
    let (code, failure) = fails(&mut tools.command(&["mirror", "token", "n"]));
    assert_eq!(code, 1);
    assert!(failure.stderr.contains("there is no mirror called n"));
}
