//! What must end well although something is wrong, seen from outside.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use reqwest::Method;
use support::peer::nginx;
use support::process::run;

use crate::http;
use crate::network::{FrontEnd, Network, Tools, fails, program, tree, wait};

fn front_end() -> (tempfile::TempDir, FrontEnd) {
    let directory = tempfile::tempdir().unwrap();
    let front_end = FrontEnd::start(Tools::new(tree(), directory.path()));
    (directory, front_end)
}

/// Sends bytes as they are: a client library would tidy the path up.
fn raw(front_end: &FrontEnd, request: &str) -> String {
    let mut stream = TcpStream::connect(&front_end.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn unknown_and_malformed_names_have_their_codes() {
    let (_directory, front_end) = front_end();
    let zeros = "0".repeat(64);
    for (path, status, code) in [
        (
            "/v2/nothing/manifests/latest".to_owned(),
            404,
            "NAME_UNKNOWN",
        ),
        ("/v2/nothing/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        (
            "/v2/debian/manifests/nothing".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("/v2/debian/manifests/sha256:{zeros}"),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("/v2/debian/blobs/sha256:{zeros}"),
            404,
            "BLOB_UNKNOWN",
        ),
        (
            "/v2/debian/blobs/sha256:123".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "/v2/debian/manifests/sha256:123".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        ("/v2/DEBIAN/manifests/12".to_owned(), 400, "NAME_INVALID"),
        ("/v2/debian/tags/list?n=many".to_owned(), 400, "UNSUPPORTED"),
    ] {
        let answer = front_end.get(&path, &[]);
        let envelope = answer.json();
        assert_eq!(
            (
                answer.status.as_u16(),
                envelope["errors"][0]["code"].as_str()
            ),
            (status, Some(code)),
            "{path}"
        );
        assert_eq!(answer.field("content-type"), "application/json");
    }
}

#[test]
fn the_version_check_and_health_answer() {
    let (_directory, front_end) = front_end();
    let answer = front_end.get("/v2/", &[]);
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "{}")
    );
    assert_eq!(
        answer.field("docker-distribution-api-version"),
        "registry/2.0"
    );
    for path in ["/healthz", "/readyz"] {
        assert_eq!(front_end.get(path, &[]).status, 200, "{path}");
    }
}

#[test]
fn writes_are_refused() {
    let (_directory, front_end) = front_end();
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = http::send(
            method.clone(),
            &front_end.url("/v2/debian/manifests/12"),
            &[],
        );
        assert_eq!(
            (answer.status.as_u16(), answer.field("allow")),
            (405, "GET, HEAD"),
            "{method}"
        );
        assert_eq!(answer.json()["errors"][0]["code"], "UNSUPPORTED");
        assert_eq!(
            http::send(method, &front_end.url("/tree/state.json"), &[]).status,
            405
        );
    }
}

#[test]
fn no_path_leads_out_of_the_tree() {
    let (_directory, front_end) = front_end();
    for path in [
        "/tree/../../../../etc/passwd",
        "/tree/..%2f..%2f..%2fetc/passwd",
        "/tree/%2e%2e/%2e%2e/etc/passwd",
        "/tree//etc/passwd",
        "/tree/.~tmp~/",
        "/tree/blobs/sha256/../../state.json",
        "/v2/../tree/state.json",
        "/v2/debian/blobs/../../../etc/passwd",
        "/v2/debian/manifests/..%2f..%2fstate.json",
        "/v2/%00/manifests/x",
        "/v2/debian/manifests/%ff",
    ] {
        let answer = raw(
            &front_end,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        );
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status == "404" || status == "400", "{path}: {answer}");
        assert!(!answer.contains("root:"), "{path}: {answer}");
    }
}

#[test]
fn a_head_that_is_too_large_is_refused_and_the_next_request_served() {
    let (_directory, front_end) = front_end();
    let answer = raw(
        &front_end,
        &format!(
            "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
            "x".repeat(200_000)
        ),
    );
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert_eq!(front_end.get("/v2/", &[]).status, 200);
}

#[test]
fn a_hostile_host_field_is_not_repeated() {
    let (_directory, front_end) = front_end();
    let (layer, _) = front_end.largest_layer("debian", "12");
    let answer = raw(
        &front_end,
        &format!("GET {layer}?metalink HTTP/1.1\r\nHost: x\"><evil>\r\nConnection: close\r\n\r\n"),
    );
    assert!(!answer.contains("evil"), "{answer}");
}

#[test]
fn a_missing_tree_is_said_at_the_start() {
    let (code, failure) = fails(program("registry-proxy").args([
        "serve",
        "--tree",
        "/nowhere",
        "--listen",
        "127.0.0.1:0",
    ]));
    assert_eq!(code, 1, "{failure}");
    assert!(failure.stderr.contains("/nowhere"), "{failure}");
}

#[test]
fn a_torn_tree_is_not_served_and_a_good_one_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("tree");
    support::peer::rsyncd::sync(tree(), &copy, &[]).unwrap();
    let state = std::fs::read(copy.join("state.json")).unwrap();
    std::fs::write(copy.join("state.json"), &state[..state.len() / 2]).unwrap();
    let front_end = FrontEnd::start(Tools::new(&copy, directory.path()));
    assert_eq!(front_end.get("/readyz", &[]).status, 503);
    assert_eq!(front_end.get("/healthz", &[]).status, 200);
    assert_eq!(front_end.get("/v2/", &[]).status, 200);

    let replace = |bytes: &[u8]| {
        std::fs::write(copy.join("new"), bytes).unwrap();
        std::fs::rename(copy.join("new"), copy.join("state.json")).unwrap();
    };
    replace(&state);
    wait(|| front_end.get("/readyz", &[]).status == 200);
    // Torn again: the last good snapshot stays.
    replace(&state[..state.len() / 2]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(front_end.get("/v2/debian/manifests/12", &[]).status, 200);
}

#[test]
fn what_the_tree_has_lost_comes_from_a_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("tree");
    let mirror = directory.path().join("mirror");
    for target in [&copy, &mirror] {
        support::peer::rsyncd::sync(tree(), target, &[]).unwrap();
    }
    let nginx = nginx::start(&mirror, &directory.path().join("state")).unwrap();
    let tools = Tools::new(&copy, directory.path());
    tools.add_mirror("m", &nginx.url(), "DE");
    tools.crawl();
    let front_end = FrontEnd::start(tools);
    let manifest = front_end.get("/v2/app/manifests/1.0", &[]).json();
    let config = manifest["config"]["digest"].as_str().unwrap().to_owned();
    let path = format!("/v2/app/blobs/{config}");
    assert_eq!(
        front_end.get(&path, &[]).status,
        200,
        "small blobs come from the tree"
    );
    let hex = config.rsplit(':').next().unwrap();
    let file = copy.join("blobs/sha256").join(&hex[..2]).join(hex);
    // By a new file, as the old one is linked into the repository.
    std::fs::remove_file(&file).unwrap();
    for cut in [None, Some("{")] {
        if let Some(content) = cut {
            std::fs::write(&file, content).unwrap();
        }
        let answer = front_end.get(&path, &[]);
        assert_eq!(answer.status, 302, "{cut:?}");
        assert!(
            answer.field("location").starts_with(&nginx.url()),
            "{cut:?}"
        );
    }
}

#[test]
fn a_broken_database_of_mirrors_costs_only_the_mirrors() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("mirrors.db"),
        "this is not a database, whatever it is called",
    )
    .unwrap();
    let front_end = FrontEnd::start(Tools::new(tree(), directory.path()));
    assert_eq!(front_end.get("/v2/debian/manifests/12", &[]).status, 200);
    let (layer, _) = front_end.largest_layer("debian", "12");
    assert_eq!(front_end.get(&layer, &[]).status, 200);
}

#[test]
fn mirrors_stay_known_while_their_database_is_broken() {
    let network = Network::start();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    assert_eq!(network.front_end.get(&layer, &[]).status, 302);
    let database = network.directory.path().join("mirrors.db");
    let broken = network.directory.path().join("broken");
    std::fs::write(&broken, "this is not a database").unwrap();
    std::fs::rename(broken, database).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(network.front_end.get(&layer, &[]).status, 302);
}

#[test]
fn a_damaged_manifest_costs_only_its_tag() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("tree");
    support::peer::rsyncd::sync(tree(), &copy, &[]).unwrap();
    let index = std::fs::read_to_string(copy.join("repos/app/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let digest = index["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .trim_start_matches("sha256:")
        .to_owned();
    std::fs::write(
        copy.join("blobs/sha256").join(&digest[..2]).join(&digest),
        "damaged",
    )
    .unwrap();
    let front_end = FrontEnd::start(Tools::new(&copy, directory.path()));
    assert_eq!(front_end.get("/v2/app/manifests/1.0", &[]).status, 404);
    assert_eq!(front_end.get("/v2/debian/manifests/12", &[]).status, 200);
}

#[test]
fn an_export_is_taken_up_without_dropping_a_request() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("tree");
    support::peer::rsyncd::sync(tree(), &copy, &[]).unwrap();
    let front_end = FrontEnd::start(Tools::new(&copy, directory.path()));
    let images = support::samples::images().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pulls = scope.spawn(|| {
            let mut answered = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(front_end.get("/v2/debian/manifests/12", &[]).status, 200);
                answered += 1;
            }
            answered
        });
        for number in 0..3 {
            let mut command = program("mirror-tool");
            command
                .args(["export", "--tree"])
                .arg(&copy)
                .args(["--dest-name", &format!("new/app{number}")]);
            run(command.arg(format!("oci:{}:1.0", images.app.display()))).unwrap();
            wait(|| {
                front_end
                    .get(&format!("/v2/new/app{number}/manifests/1.0"), &[])
                    .status
                    == 200
            });
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(pulls.join().unwrap() > 0);
    });
}
