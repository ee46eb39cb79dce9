use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_mirror::digest::Algorithm;
use oci_mirror::tree::{TreePath, TreeWriter};
use serde_json::Value;

use super::*;

/// A front end that gives the answers it was told to, and remembers what it was sent.
fn front_end(answers: &'static [(&str, &str)]) -> (Url, JoinHandle<Vec<(String, Value)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mirrors/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let answer = |(status, body): &(&str, &str)| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut from = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                from.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
                head.push_str(&line);
            }
            let mut sent = vec![0; length];
            from.read_exact(&mut sent).unwrap();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
            (head, serde_json::from_slice(&sent).unwrap())
        };
        answers.iter().map(answer).collect()
    });
    (url.parse().unwrap(), thread)
}

fn to(url: Url) -> To {
    To {
        url,
        token: Token::new(" omt_ab_cd\n"),
        tls_ca: None,
    }
}

/// A tree of one blob, published.
fn tree() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(directory.path()).unwrap();
    let blob = TreePath::Blob(Algorithm::Sha256.digest(b"x")).under(directory.path());
    std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
    std::fs::write(&blob, "x").unwrap();
    writer.mark_stale().unwrap();
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    (directory, blob)
}

const TAKEN: (&str, &str) = (
    "200 OK",
    r#"{"status":"recorded","presence":"taken","crawl":"none","later":1}"#,
);
const WANTED: (&str, &str) = (
    "200 OK",
    r#"{"status":"recorded","presence":"wanted","crawl":"none"}"#,
);

#[tokio::test]
async fn blobs_are_told_to_whom_asks_for_them() {
    let (directory, _) = tree();
    let (url, thread) = front_end(&[WANTED, TAKEN]);
    let answer = check_in(directory.path(), &to(url), false).await.unwrap();
    assert_eq!((answer.presence.as_str(), answer.damaged), ("taken", None));
    let sent = thread.join().unwrap();
    assert_eq!(sent.len(), 2);
    let (head, first) = &sent[0];
    assert!(head.starts_with("POST /mirrors/api/v1/checkin HTTP/1.1"));
    assert!(
        head.contains("authorization: Bearer omt_ab_cd\r\n"),
        "{head}"
    );
    assert_eq!(
        (&first["version"], &first["serial"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        (&first["blobs"], &first["verified"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(first["repositories"], Value::Array(Vec::new()));
    let state = std::fs::read(directory.path().join("state.json")).unwrap();
    let digest = Algorithm::Sha256.digest(&state).to_string();
    assert_eq!(first["state"], Value::String(digest));
    let blobs = sent[1].1["blobs"]["sha256"].as_str().unwrap();
    let expected = Algorithm::Sha256.digest(b"x");
    assert_eq!(STANDARD.decode(blobs).unwrap(), expected.as_bytes());
}

#[tokio::test]
async fn a_blob_that_is_about_to_go_is_not_told() {
    let (directory, kept) = tree();
    let gone = TreePath::Blob(Algorithm::Sha256.digest(b"gone"));
    let path = gone.under(directory.path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "gone").unwrap();
    let told = async || {
        let (url, thread) = front_end(&[WANTED, TAKEN]);
        check_in(directory.path(), &to(url), false).await.unwrap();
        let sent = thread.join().unwrap();
        let blobs = sent[1].1["blobs"]["sha256"].as_str().unwrap();
        STANDARD.decode(blobs).unwrap().len() / 32
    };
    assert_eq!(told().await, 2);
    let grace = directory.path().join(".~tmp~/sync/gone");
    std::fs::create_dir_all(grace.parent().unwrap()).unwrap();
    std::fs::write(grace, format!("gone 1\n1767225600 {gone}\nend 1\n")).unwrap();
    assert_eq!(told().await, 1);
    assert!(kept.exists() && path.exists(), "both are there still");
}

#[tokio::test]
async fn what_a_verification_found_is_told() {
    let (directory, blob) = tree();
    std::fs::write(&blob, "y").unwrap();
    let (url, thread) = front_end(&[TAKEN]);
    let answer = check_in(directory.path(), &to(url), true).await.unwrap();
    assert_eq!((answer.damaged, answer.exit()), (Some(1), Exit::Damage));
    let sent = thread.join().unwrap();
    let expected = Algorithm::Sha256.digest(b"x").to_string();
    assert_eq!(sent[0].1["verified"]["damaged"][0], Value::String(expected));
}

#[tokio::test]
async fn a_front_end_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let (directory, _) = tree();
    let (url, thread) = front_end(&[("503 Busy", ""), TAKEN]);
    check_in(directory.path(), &to(url), false).await.unwrap();
    assert_eq!(thread.join().unwrap().len(), 2);

    let (url, thread) = front_end(&[(
        "401 Unauthorized",
        r#"{"status":"refused","reason":"the token is not known here"}"#,
    )]);
    let refused = check_in(directory.path(), &to(url), false).await;
    let text = format!("{:#}", refused.unwrap_err());
    assert!(
        text.contains("401 Unauthorized: `the token is not known here`"),
        "{text}"
    );
    assert!(!text.contains("omt_"), "{text}");
    assert_eq!(thread.join().unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_goes_nowhere_but_where_it_was_meant_for() {
    let (directory, _) = tree();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let status = format!(
        "307 Temporary Redirect\r\nlocation: http://{}/",
        elsewhere.local_addr().unwrap()
    );
    let answers: &'static [(&str, &str)] = vec![(&*status.leak(), "")].leak();
    let (url, thread) = front_end(answers);
    check_in(directory.path(), &to(url), false)
        .await
        .unwrap_err();
    assert_eq!(thread.join().unwrap().len(), 1);
    let nobody = elsewhere.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn plain_http_is_overheard_but_for_this_machine() {
    for (url, is_overheard) in [
        ("https://mirrors.example", false),
        ("http://mirrors.example", true),
        ("http://192.0.2.1", true),
        ("http://localhost.example", true),
        ("http://localhost:8080", false),
        ("http://127.0.0.3", false),
        ("http://[::1]:80", false),
    ] {
        assert_eq!(
            to(url.parse().unwrap()).is_overheard(),
            is_overheard,
            "{url}"
        );
    }
    let shown = format!("{:?}", to("https://a".parse().unwrap()));
    assert!(!shown.contains("omt_"), "{shown}");
}
