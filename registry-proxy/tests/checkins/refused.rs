//! Who may check in, how often, and with how much.

use std::collections::BTreeSet;
use std::time::Duration;

use registry_proxy::checkin::Token;
use registry_proxy::network::By;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bench::name;
use crate::hall::{Hall, call, private, public};

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
