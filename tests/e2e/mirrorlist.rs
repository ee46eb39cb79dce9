//! `?mirrorlist`: each client sees its own list, and nobody sees what is for others.

use std::io::Write as _;

use reqwest::Method;
use support::process::{program, run};

use crate::http;
use crate::network::{AUSTRALIAN, GERMAN, Network, names};

#[test]
fn each_client_sees_the_order_it_is_sent_by() {
    let network = Network::shared();
    let front_end = &network.front_end;
    let (layer, size) = front_end.largest_layer("debian", "12");
    for (client, tier, order) in [
        (GERMAN, "country", ["heidelberg", "sydney"]),
        (AUSTRALIAN, "country", ["sydney", "heidelberg"]),
    ] {
        let list = front_end.mirrorlist(&layer, client);
        assert_eq!(names(&list, "mirrors"), order);
        assert_eq!(list["client"]["address"], client);
        assert_eq!(
            (&list["size"], &list["redirected"]),
            (&size.into(), &true.into())
        );
        assert_eq!(list["mirrors"][0]["tier"], tier);
        let redirect = front_end.get(&layer, &[("x-forwarded-for", client)]);
        assert_eq!(list["mirrors"][0]["url"], redirect.field("location"));
        // The origin is the front end itself, and has the bytes.
        let origin = http::get(list["origin"].as_str().unwrap(), &[]);
        assert_eq!(origin.body.len() as u64, size);
    }
    let manifest = front_end.mirrorlist("/v2/debian/manifests/12", GERMAN);
    assert_eq!(
        (names(&manifest, "mirrors").len(), &manifest["redirected"]),
        (2, &false.into())
    );
    let unknown = front_end.get("/v2/debian/manifests/nothing?mirrorlist", &[]);
    assert_eq!(unknown.status, 404);
}

#[test]
fn the_form_is_what_the_client_prefers_and_head_has_its_length() {
    let network = Network::shared();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    let path = format!("{layer}?mirrorlist");
    for (accept, content_type) in [
        ("*/*", "text/plain; charset=utf-8"),
        ("text/html, text/plain", "text/plain; charset=utf-8"),
        ("image/png", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        (
            "text/html,application/xml;q=0.9,*/*;q=0.8",
            "text/html; charset=utf-8",
        ),
    ] {
        let answer = network.front_end.get(&path, &[("accept", accept)]);
        assert_eq!(
            (answer.status.as_u16(), answer.field("content-type")),
            (200, content_type),
            "{accept}"
        );
        assert_eq!(
            (
                answer.field("vary"),
                answer.field("cache-control"),
                answer.field("x-content-type-options")
            ),
            ("Accept", "private, no-store", "nosniff")
        );
        assert!(
            answer
                .field("content-security-policy")
                .starts_with("default-src 'none'")
        );
        let head = http::send(
            Method::HEAD,
            &network.front_end.url(&path),
            &[("accept", accept)],
        );
        assert_eq!(
            (head.field("content-length"), head.field("content-type")),
            (answer.body.len().to_string().as_str(), content_type)
        );
    }
}

#[test]
fn a_private_mirror_is_shown_to_its_own_networks_only() {
    let network = Network::start();
    let tools = &network.front_end.tools;
    let url = network.nginx.url();
    // Another name of the same server would be the same mirror to a client.
    let url = url.replace("127.0.0.1", "localhost");
    let arguments = [
        "mirror",
        "add",
        "campus",
        "--url",
        &url,
        "--private",
        "--netblock",
        "130.149.7.0/24",
    ];
    tools.run(&arguments);
    tools.crawl();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    crate::network::wait(|| {
        names(&network.front_end.mirrorlist(&layer, GERMAN), "mirrors").len() == 3
    });
    let own = network.front_end.mirrorlist(&layer, GERMAN);
    assert_eq!(names(&own, "mirrors")[0], "campus");
    assert_eq!(own["private-mirrors"], 0);
    for accept in ["text/plain", "text/html", "application/json"] {
        let fields = [("accept", accept), ("x-forwarded-for", AUSTRALIAN)];
        let text = network
            .front_end
            .get(&format!("{layer}?mirrorlist"), &fields)
            .text();
        assert!(
            !text.contains("campus") && !text.contains("localhost"),
            "{text}"
        );
        assert!(text.contains("private") && !text.contains(GERMAN), "{text}");
    }
    let other = network.front_end.mirrorlist(&layer, AUSTRALIAN);
    assert_eq!(other["private-mirrors"], 1);
}

#[test]
fn a_reason_to_leave_a_mirror_out_cannot_break_out_of_any_form() {
    let network = Network::start();
    let evil = "</td><script>alert(1)</script>\" onload='x'\r\n1\tevil\tcountry ]]> &amp;";
    network
        .front_end
        .tools
        .run(&["mirror", "disable", "sydney", "--reason", evil]);
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    crate::network::wait(|| {
        names(&network.front_end.mirrorlist(&layer, GERMAN), "left-out") == ["sydney"]
    });
    let json = network.front_end.mirrorlist(&layer, GERMAN);
    assert_eq!(json["left-out"][0]["inactive"], "disabled-by-admin");
    let why = json["left-out"][0]["why"].as_str().unwrap();
    assert!(why.ends_with(evil), "{why}");
    let form = |accept: &str| {
        let path = format!("{layer}?mirrorlist");
        network.front_end.get(&path, &[("accept", accept)]).text()
    };
    let text = form("text/plain");
    assert!(
        !text.contains('\r') && !text.contains("\n1\tevil"),
        "{text}"
    );
    let html = form("text/html");
    assert!(!html.contains("<script") && !html.contains("' "), "{html}");
    let mut page = tempfile::NamedTempFile::new().unwrap();
    page.write_all(html.as_bytes()).unwrap();
    // It says nothing of a page in order.
    let mut xmllint = program("xmllint").unwrap();
    let checked = run(xmllint
        .args(["--html", "--nonet", "--noout"])
        .arg(page.path()))
    .unwrap();
    assert_eq!(checked.stderr, "", "{html}");
}
