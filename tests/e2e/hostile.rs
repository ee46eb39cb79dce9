//! Requests, trees and mirrors made to deceive, against the running program.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{TreePath, TreeWriter};
use serde_json::json;
use support::peer::nginx;
use support::process::{program, run};

use crate::network::{AUSTRALIAN, FrontEnd, GERMAN, Tools, fails};

/// What must never be read through a front end.
const SECRET: &str = "the content of a file beside the tree";

/// An answer as it came over the socket.
#[derive(Debug)]
struct Raw {
    status: u16,
    /// Field names in lower case, with their values.
    fields: Vec<(String, String)>,
    body: String,
}

impl Raw {
    /// Reads the first of the answers in `bytes`, and gives the rest.
    fn split(bytes: &str) -> Option<(Self, &str)> {
        let (head, rest) = bytes.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').expect("a field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = fields.iter().find(|(name, _)| name == "content-length");
        let length = length
            .map_or(0, |(_, value)| value.parse().unwrap())
            .min(rest.len());
        let (body, rest) = rest.split_at(length);
        Some((
            Self {
                status,
                fields,
                body: body.to_owned(),
            },
            rest,
        ))
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(found, _)| found == name)
    }

    /// Everything a client sees.
    fn text(&self) -> String {
        format!("{:?} {}", self.fields, self.body)
    }
}

/// Sends bytes on a connection from `source` and gives all that comes back until it is closed.
fn exchange(front_end: &FrontEnd, source: &str, bytes: &[u8]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let address = front_end.address.parse().unwrap();
    let source: IpAddr = source.parse().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        socket.connect(address).await.unwrap().into_std().unwrap()
    });
    let mut stream = stream;
    stream.set_nonblocking(false).unwrap();
    // Only to end a hang.
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // A server that has seen enough may close before all is written.
    let _ = stream.write_all(bytes);
    let (mut answer, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(bytes)),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The answer to one request, given as request line and further fields, each with its line end.
#[track_caller]
fn send(front_end: &FrontEnd, line: &str, fields: &str) -> Raw {
    let request = format!("{line}\r\nHost: x\r\n{fields}Connection: close\r\n\r\n");
    let answer = exchange(front_end, "127.0.0.1", request.as_bytes());
    Raw::split(&answer)
        .unwrap_or_else(|| panic!("no answer to {request}: {answer}"))
        .0
}

/// A tree with one image, `a:1`: its layer and its manifest.
fn small_tree(root: &Path) -> (Digest, Digest) {
    let writer = TreeWriter::open(root).unwrap();
    let stage = |bytes: &[u8]| {
        let digest = Algorithm::Sha256.digest(bytes);
        writer.stage_bytes(digest, bytes).unwrap();
        Descriptor::new(
            "application/vnd.oci.empty.v1+json".parse().unwrap(),
            digest,
            bytes.len() as u64,
        )
    };
    let (config, layer) = (stage(b"{}"), stage(&[7; 100_000]));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer],
    });
    let manifest = Descriptor {
        media_type: MediaType::OCI_MANIFEST,
        ..stage(manifest.to_string().as_bytes())
    };
    let image = Image {
        repo: "a".parse().unwrap(),
        tag: Some("1".parse().unwrap()),
        root: manifest.clone(),
        reach: vec![config.digest, layer.digest, manifest.digest],
        tag_referrers: None,
    };
    writer.publish(&[image]).unwrap();
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    (layer.digest, manifest.digest)
}

/// A directory with a tree and, beside it, a secret.
fn place() -> (tempfile::TempDir, Digest) {
    let directory = tempfile::tempdir().unwrap();
    let (layer, _) = small_tree(&directory.path().join("tree"));
    std::fs::write(directory.path().join("secret"), SECRET).unwrap();
    (directory, layer)
}

fn serve(directory: &Path) -> FrontEnd {
    FrontEnd::start(Tools::new(&directory.join("tree"), directory))
}

#[test]
fn no_spelling_of_a_path_leads_out_of_the_tree() {
    let (directory, layer) = place();
    let front_end = serve(directory.path());
    let ups = [
        "..",
        "%2e%2e",
        "%2E%2e",
        ".%2e",
        "%252e%252e",
        "..%2f",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "....",
        "..;",
        "..%00",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%uff0e%uff0e",
        "%ff%fe",
        "..%20",
        "...",
    ];
    let starts = [
        "/tree",
        "/tree/",
        "/tree/blobs",
        "/tree/blobs/sha256/00",
        "/tree/repos/a",
        "/tree/repos/a/blobs/sha256",
        "/v2",
        "/v2/a/blobs",
        "/v2/a/manifests",
        "/v2/a/tags",
        "/v2/a/referrers",
        "//tree",
        "/./tree",
    ];
    let ends = [
        "/secret",
        "/tree/../secret",
        "/etc/passwd",
        "//etc/passwd",
        "/secret%00.json",
        "/secret%0a",
    ];
    let mut tried = 0;
    for start in starts {
        for up in ups {
            for depth in [1, 2, 5] {
                let end = ends[tried % ends.len()];
                let path = format!("{start}/{}{end}", vec![up; depth].join("/"));
                let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
                assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
                assert!(
                    !answer.body.contains(SECRET) && !answer.body.contains("root:"),
                    "{path}: {answer:?}"
                );
                tried += 1;
            }
        }
    }
    // Detours that lead back to a file do not lead to it either: a cache in between may see it otherwise.
    let blob = TreePath::Blob(layer).to_string();
    for path in [
        "/tree/./state.json",
        "/tree/x/../state.json",
        "/tree//state.json",
        "/tree/state.json/",
        "/tree/state.json%00",
        "/tree/%2e/state.json",
        &format!("/tree/blobs/../{blob}"),
        &format!("/tree/{}", blob.to_uppercase()),
        "/tree/.~tmp~/",
        "/tree/.~tmp~/dirty",
        "/tree/",
        "/tree/repos/",
        "/tree/repos/a/",
    ] {
        let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
    assert_eq!(
        send(&front_end, &format!("GET /tree/{blob} HTTP/1.1"), "").status,
        200
    );
}

#[test]
fn links_out_of_the_tree_are_not_followed() {
    let (directory, layer) = place();
    let tree = directory.path().join("tree");
    let secret = directory.path().join("secret");
    let front_end = serve(directory.path());
    let blob = TreePath::Blob(layer);
    let file = blob.under(&tree);
    let paths = [format!("/tree/{blob}"), format!("/v2/a/blobs/{layer}")];

    // The file itself, by a relative and by an absolute link; then the directory it is in.
    let outside = directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join(layer.hex().to_string()), vec![b'!'; 100_000]).unwrap();
    let fan = file.parent().unwrap();
    for target in [
        secret.clone(),
        "../../../../secret".into(),
        outside.join(layer.hex().to_string()),
    ] {
        std::fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
        for path in &paths {
            let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
            assert!(answer.status >= 400, "{target:?} {path}: {answer:?}");
            assert!(
                !answer.body.contains(SECRET) && !answer.body.contains("!!!"),
                "{path}"
            );
        }
    }
    std::fs::remove_dir_all(fan).unwrap();
    symlink(&outside, fan).unwrap();
    for path in &paths {
        let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
        assert!(
            answer.status >= 400 && !answer.body.contains("!!!"),
            "{path}: {answer:?}"
        );
    }
}

#[test]
fn an_index_or_state_outside_the_tree_is_not_read() {
    let (directory, _) = place();
    let tree = directory.path().join("tree");
    let (_other, _) = {
        let other = directory.path().join("other");
        (small_tree(&other), ())
    };
    // A whole repository that belongs to another tree, by its index and by its directory.
    let index = tree.join("repos/a/index.json");
    std::fs::remove_file(&index).unwrap();
    symlink(directory.path().join("other/repos/a/index.json"), &index).unwrap();
    symlink(directory.path().join("other/repos/a"), tree.join("repos/b")).unwrap();
    let front_end = serve(directory.path());
    for path in [
        "/v2/a/manifests/1",
        "/v2/a/tags/list",
        "/v2/b/manifests/1",
        "/v2/b/tags/list",
        "/tree/repos/a/index.json",
        "/tree/repos/b/index.json",
    ] {
        let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
        assert!(answer.status >= 400, "{path}: {answer:?}");
    }
    drop(front_end);

    let (directory, _) = place();
    let state = directory.path().join("tree/state.json");
    std::fs::rename(&state, directory.path().join("state.json")).unwrap();
    symlink("../state.json", &state).unwrap();
    let front_end = serve(directory.path());
    assert_eq!(send(&front_end, "GET /readyz HTTP/1.1", "").status, 503);
    assert!(send(&front_end, "GET /tree/state.json HTTP/1.1", "").status >= 400);
}

#[test]
fn only_a_trusted_proxy_is_believed_about_who_asks_and_where() {
    let (directory, layer) = place();
    let tools = Tools::new(&directory.path().join("tree"), directory.path());
    let front_end = FrontEnd::start_trusting("127.0.0.2/32", tools);
    let seen = |source: &str, fields: &str| {
        let request = format!(
            "GET /v2/a/blobs/{layer}?mirrorlist HTTP/1.1\r\nHost: inner\r\nAccept: application/json\r\n{fields}Connection: close\r\n\r\n"
        );
        let answer = exchange(&front_end, source, request.as_bytes());
        let (answer, _) = Raw::split(&answer).unwrap();
        let list: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let origin = list["origin"]
            .as_str()
            .unwrap()
            .split("/tree/")
            .next()
            .unwrap()
            .to_owned();
        (
            list["client"]["address"].as_str().unwrap().to_owned(),
            origin,
        )
    };
    let outer = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.example\r\n";
    for field in [
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
    ] {
        let value = if field == "Forwarded" {
            format!("for={GERMAN}")
        } else {
            GERMAN.to_owned()
        };
        let said = seen("127.0.0.1", &format!("{field}: {value}\r\n{outer}"));
        assert_eq!(
            said,
            ("127.0.0.1".to_owned(), "http://inner".to_owned()),
            "{field}"
        );
    }
    let outside = "https://outer.example".to_owned();
    for (fields, client) in [
        (format!("X-Forwarded-For: {GERMAN}\r\n"), GERMAN),
        (format!("X-Forwarded-For: 1.2.3.4, {GERMAN}\r\n"), GERMAN),
        (
            format!("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: {GERMAN}\r\n"),
            GERMAN,
        ),
        (
            format!("X-Forwarded-For: 1.2.3.4, {GERMAN}, 127.0.0.2\r\n"),
            GERMAN,
        ),
        (
            format!("X-Forwarded-For: {GERMAN}, nonsense\r\n"),
            "127.0.0.2",
        ),
        (
            format!("Forwarded: for=1.2.3.4, for=\"{AUSTRALIAN}:4711\";proto=https\r\n"),
            AUSTRALIAN,
        ),
    ] {
        assert_eq!(
            seen("127.0.0.2", &format!("{fields}{outer}")),
            (client.to_owned(), outside.clone()),
            "{fields}"
        );
    }
    // A host that is none is not repeated, whoever says it.
    for host in [
        "a\"><evil",
        "a/../b",
        "user@evil",
        "evil evil",
        "evil:99999",
        "[::evil",
        "evil%0d%0aX: y",
    ] {
        let (_, origin) = seen("127.0.0.2", &format!("X-Forwarded-Host: {host}\r\n"));
        assert!(!origin.contains("evil"), "{host}: {origin}");
    }
}

#[test]
fn nothing_in_a_request_gets_into_the_fields_or_the_markup_of_an_answer() {
    let (directory, layer) = place();
    let front_end = serve(directory.path());
    let evil = [
        "%0d%0aX-Evil:%20y",
        "%0aX-Evil:%20y",
        "%22%3E%3Cevil%3E",
        "%3C/url%3E%3Cevil/%3E",
        "%00evil",
        "%7f",
        "%e2%80%a8evil",
        "%c3%a9",
        "a%20b",
        "%F0%9F%98%80",
    ];
    let unknown = Algorithm::Sha256.digest(b"unknown");
    for evil in evil {
        for path in [
            format!("/v2/{evil}/tags/list"),
            format!("/v2/a/{evil}/manifests/1"),
            format!("/v2/a/manifests/{evil}"),
            format!("/v2/a/manifests/1{evil}"),
            format!("/v2/a/blobs/{evil}"),
            format!("/v2/a/blobs/{layer}{evil}"),
            format!("/v2/a/referrers/{evil}"),
            format!("/v2/a/referrers/{unknown}?artifactType={evil}"),
            format!("/v2/a/tags/list?n={evil}"),
            format!("/v2/a/tags/list?n=0&last={evil}&{evil}={evil}"),
            format!("/v2/_catalog?n=0&ns={evil}"),
            format!("/v2/a/blobs/{layer}?metalink&ns={evil}"),
            format!("/v2/a/blobs/{layer}?metalink={evil}"),
            format!("/v2/a/blobs/{layer}?mirrorlist={evil}"),
            format!("/v2/a/manifests/1?ns={evil}"),
            format!("/v2/a/blobs/{layer}?{evil}"),
            format!("/tree/{evil}"),
            format!("/{evil}"),
        ] {
            let fields = "Accept: text/html\r\nAccept: application/metalink4+xml\r\n";
            let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), fields);
            assert!(!answer.has("x-evil"), "{path}: {answer:?}");
            assert!(answer.status < 500, "{path}: {answer:?}");
            let content_type = answer
                .fields
                .iter()
                .find(|(name, _)| name == "content-type");
            let content_type = content_type.map_or("", |(_, value)| value);
            if content_type.contains("html") || content_type.contains("xml") {
                assert!(!answer.text().contains("evil"), "{path}: {answer:?}");
            } else if content_type.contains("json") {
                let parsed: Result<serde_json::Value, _> = serde_json::from_str(&answer.body);
                assert!(parsed.is_ok(), "{path}: {answer:?}");
            }
        }
    }
    // Hosts, in every document that repeats one.
    for host in [
        "evil\"><x>",
        "evil'",
        "<evil>",
        "evil\tx",
        "ev il",
        "evil/..",
        "u:p@evil",
        "evil:1:2",
        "\u{e9}vil",
    ] {
        for target in [
            format!("/v2/a/blobs/{layer}?metalink"),
            format!("/v2/a/blobs/{layer}?metalink=3"),
            format!("/v2/a/blobs/{layer}?mirrorlist"),
            format!("/v2/a/blobs/{layer}"),
        ] {
            for fields in [
                format!("Host: {host}\r\n"),
                format!("Host: x\r\nX-Forwarded-Host: {host}\r\n"),
                format!("Host: x\r\nX-Forwarded-Proto: {host}\r\n"),
            ] {
                let request = format!("GET {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
                let answer = exchange(&front_end, "127.0.0.1", request.as_bytes());
                assert!(!answer.contains("vil"), "{fields} {target}: {answer}");
            }
        }
    }
    let unknown = send(
        &front_end,
        &format!("GET /v2/a/blobs/{unknown} HTTP/1.1"),
        "",
    );
    assert_eq!((unknown.status, unknown.has("etag")), (404, false));
}

#[test]
fn a_mirror_with_an_odd_address_is_entered_safely_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let odd = "a&b'c;d,e=\u{e9} <x>";
    let (layer, _) = small_tree(&root.join(odd));
    let server = nginx::start(&root, &directory.path().join("nginx")).unwrap();
    let tree = root.join(odd);
    let tools = Tools::new(&tree, directory.path());
    let base = server.url();
    for (name, url) in [
        ("evil\"><x>", base.as_str()),
        ("evil\r\nX: y", &base),
        ("../evil", &base),
        ("", &base),
        ("evil", "https://evil.example/\r\nX-Evil: y"),
        ("evil", "https://evil.example/>; rel=next, <https://x"),
        ("evil", "https://evil.example/a b"),
        ("evil", "https://evil\".example/"),
        ("evil", "javascript:alert(1)"),
        ("evil", "https://u:p@evil.example/"),
        ("evil", "https://evil.example/?a=<b>"),
        ("evil", "https://evil.example/#\"><x>"),
        ("evil", "file:///etc"),
    ] {
        let (code, failure) = fails(&mut tools.command(&["mirror", "add", name, "--url", url]));
        assert!(code == 1 || code == 2, "{name} {url}: {failure}");
    }
    // This one is legal: everything odd in it is encoded or stands in no field's way.
    let url = format!("{base}/{}", odd.replace(' ', "%20"));
    tools.run(&["mirror", "add", "odd", "--url", &url]);
    tools.crawl();
    let front_end = FrontEnd::start(tools);
    let path = format!("/v2/a/blobs/{layer}");
    let redirect = front_end.get(&path, &[]);
    assert_eq!(redirect.status, 302, "{redirect:?}");
    let location = redirect.field("location").to_owned();
    assert!(
        !location.contains([' ', '<', '>', '"', '\u{e9}']),
        "{location}"
    );
    let link = format!("<{location}>; rel=duplicate; pri=1");
    let mut links = redirect.headers.get_all("link").iter();
    assert_eq!(links.next().unwrap().to_str().unwrap(), link);
    assert_eq!(crate::http::get(&location, &[]).body, vec![7; 100_000]);
    for query in ["metalink", "metalink=3"] {
        let xml = front_end.get(&format!("{path}?{query}"), &[]).text();
        let file = directory.path().join(query);
        std::fs::write(&file, &xml).unwrap();
        let mut xmllint = program("xmllint").unwrap();
        let name = "string((//*[local-name()='url'])[1])";
        let found = run(xmllint.args(["--nonet", "--xpath", name]).arg(&file)).unwrap();
        assert_eq!(found.stdout.trim_end(), location, "{xml}");
    }
    let html = front_end
        .get(&format!("{path}?mirrorlist"), &[("accept", "text/html")])
        .text();
    let escaped = location.replace('&', "&#38;").replace('\'', "&#39;");
    assert!(html.contains(&format!("href=\"{escaped}\"")), "{html}");
}

#[test]
fn requests_that_two_servers_would_read_differently_are_refused() {
    let (directory, _) = place();
    let front_end = serve(directory.path());
    let smuggled = "GET /healthz?smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = format!("0\r\n\r\n{smuggled}");
    let length = chunked.len();
    for fields in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: 5\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: 5, {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: 5 5\r\n".to_owned(),
        "Content-Length: 0x10\r\n".to_owned(),
        "Content-Length: 99999999999999999999999\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        " Transfer-Encoding: chunked\r\n".to_owned(),
        "X: y\r\n Transfer-Encoding: chunked\r\n".to_owned(),
        "X\r\n".to_owned(),
        "X: a\0b\r\n".to_owned(),
        "X Y: z\r\n".to_owned(),
    ] {
        for method in ["GET", "POST"] {
            let request = format!("{method} /v2/ HTTP/1.1\r\nHost: x\r\n{fields}\r\n{chunked}");
            let answer = exchange(&front_end, "127.0.0.1", request.as_bytes());
            let (first, rest) = Raw::split(&answer).unwrap_or_else(|| panic!("{fields}: {answer}"));
            // A well-formed push in chunks is told, as always, that nothing can be pushed.
            let push = method == "POST" && first.status == 405 && fields.contains("chunked\r\n");
            assert!(first.status == 400 || push, "{method} {fields}: {answer}");
            // Whatever comes after is not looked at.
            assert_eq!(rest, "", "{method} {fields}");
        }
    }
    // A body where there need be none is passed over, not read as a request.
    let request = "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n";
    let request = format!(
        "{request}{:50}GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        smuggled
    );
    let answers = exchange(&front_end, "127.0.0.1", request.as_bytes());
    let (first, rest) = Raw::split(&answers).unwrap();
    let (second, rest) = Raw::split(rest).unwrap();
    assert_eq!(
        (first.status, second.status, second.body.as_str(), rest),
        (200, 200, "ok\n", "")
    );
}

#[test]
fn odd_targets_and_methods_get_an_answer_of_their_own() {
    let (directory, layer) = place();
    let front_end = serve(directory.path());
    for (line, status) in [
        ("GET http://other.example/v2/ HTTP/1.1", 200),
        (
            "GET http://other.example/v2/../tree/state.json HTTP/1.1",
            400,
        ),
        ("GET other.example:80 HTTP/1.1", 404),
        ("CONNECT other.example:80 HTTP/1.1", 405),
        ("CONNECT 127.0.0.1:22 HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 405),
        ("OPTIONS /v2/ HTTP/1.1", 405),
        ("TRACE /v2/ HTTP/1.1", 405),
        ("TRACE /healthz HTTP/1.1", 405),
        ("TRACE /tree/state.json HTTP/1.1", 405),
        ("BREW /v2/ HTTP/1.1", 405),
        ("PROPFIND / HTTP/1.1", 405),
        ("DELETE /v2/a/manifests/1 HTTP/1.1", 405),
        ("PUT /tree/state.json HTTP/1.1", 405),
        ("GET /v2/ HTTP/9.9", 400),
        ("GET /v2/", 400),
        ("GET  /v2/ HTTP/1.1", 400),
        ("GET /v2/ x HTTP/1.1", 400),
        ("G\u{e9}T /v2/ HTTP/1.1", 400),
        ("GET /v2/a b HTTP/1.1", 400),
    ] {
        let answer = send(&front_end, line, "Cookie: echo-me\r\n");
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(!answer.text().contains("echo-me"), "{line}: {answer:?}");
    }
    // The host of an absolute target is the one that was asked; what it is not, is not repeated.
    let target = format!("GET http://other.example/v2/a/blobs/{layer}?metalink HTTP/1.1");
    assert!(
        send(&front_end, &target, "")
            .body
            .contains("http://other.example/tree/")
    );
}

#[test]
fn what_is_very_long_is_refused_and_the_next_request_served() {
    let (directory, layer) = place();
    let front_end = serve(directory.path());
    let long = "x".repeat(20_000);
    for (line, fields, allowed) in [
        (
            format!("GET /v2/{long}/tags/list HTTP/1.1"),
            String::new(),
            [400, 414],
        ),
        (
            format!("GET /v2/a/manifests/{long} HTTP/1.1"),
            String::new(),
            [404, 414],
        ),
        (
            format!("GET /tree/{long} HTTP/1.1"),
            String::new(),
            [404, 414],
        ),
        (
            format!("GET /v2/{}/tags/list HTTP/1.1", "a/".repeat(10_000)),
            String::new(),
            [400, 414],
        ),
        (
            format!("GET /v2/_catalog?{} HTTP/1.1", "n=1&".repeat(5000)),
            String::new(),
            [200, 414],
        ),
        (
            format!("GET /v2/_catalog?last={long} HTTP/1.1"),
            String::new(),
            [200, 414],
        ),
        (
            format!("GET /{}{long} HTTP/1.1", long.repeat(3)),
            String::new(),
            [431, 414],
        ),
        (
            "GET /v2/ HTTP/1.1".to_owned(),
            format!("X: {}\r\n", long.repeat(3)),
            [431, 400],
        ),
        (
            "GET /v2/ HTTP/1.1".to_owned(),
            "X: y\r\n".repeat(1000),
            [431, 400],
        ),
        (
            "GET /v2/a/manifests/1 HTTP/1.1".to_owned(),
            "Accept: a/b\r\n".repeat(1000),
            [431, 200],
        ),
        (
            "GET /v2/a/manifests/1 HTTP/1.1".to_owned(),
            format!("Accept: {}\r\n", "a/b;q=0.1,".repeat(2000)),
            [200, 431],
        ),
        (
            format!("GET /v2/a/blobs/{layer} HTTP/1.1"),
            format!("If-None-Match: {}\r\n", "\"x\",".repeat(5000)),
            [200, 431],
        ),
        (
            format!("GET /v2/a/blobs/{layer} HTTP/1.1"),
            format!("X-Forwarded-For: {}\r\n", "1.2.3.4,".repeat(2500)),
            [200, 431],
        ),
    ] {
        let answer = send(&front_end, &line, &fields);
        assert!(
            allowed.contains(&answer.status),
            "{:.60} {:.60}: {} {:.200}",
            line,
            fields,
            answer.status,
            answer.body
        );
        // What was sent is not sent back at full length.
        assert!(
            answer.body.len() < 150_000 && !answer.text().contains(&long),
            "{line:.60}"
        );
        assert_eq!(send(&front_end, "GET /v2/ HTTP/1.1", "").status, 200);
    }
}
