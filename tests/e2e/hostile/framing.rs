//! Requests out of shape: their ends, methods, targets and sizes.

use super::{Raw, exchange, place, send, serve};

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
        "{request}{smuggled:50}GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
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
            404,
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
