//! What a request says of itself: who asks, and under which name we are known.

use super::{Raw, exchange, place};
use crate::network::{AUSTRALIAN, FrontEnd, GERMAN, Tools};

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
