//! Bytes that mean something in a field or in markup.

use oci_mirror::digest::Algorithm;
use support::peer::nginx;
use support::process::{program, run};

use super::{exchange, place, send, serve, small_tree};
use crate::network::{FrontEnd, Tools, fails};

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
