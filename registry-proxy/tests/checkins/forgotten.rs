//! What becomes of it: notices, silence, tokens that are taken back, mirrors that become public.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use registry_proxy::checkin::Token;
use registry_proxy::crawler::{self, Depth};
use registry_proxy::db::{Crawl, Outcome};
use registry_proxy::network::{NewHost, Visibility};
use registry_proxy::snapshot::Settings;
use reqwest::StatusCode;
use serde_json::Value;

use crate::bench::{Bench, name};
use crate::hall::{Hall, config, private};

#[tokio::test]
async fn a_mirror_that_returns_by_its_word_is_told_to_whoever_is_to_be_told() {
    let bench = Bench::new();
    let mut config = config(&bench);
    let told = bench.directory.path().join("notices");
    let script = format!("cat >> {}", told.display());
    config.notify.command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    let hall = Hall::of(bench, &config).await;
    let notices = || -> Vec<Value> {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str);
        lines.map_while(Result::ok).collect()
    };
    let mut events = Vec::new();
    for host in ["m", "n"] {
        let token = hall.enter(&private(host));
        let (id, catalog) = (hall.id(host), hall.bench.catalog());
        for _ in 0..4 {
            let crawl = Crawl::new(Timestamp::now(), Outcome::Failed("silent".to_owned()));
            let mut database = hall.bench.database();
            database.record_crawl(id, &crawl, &catalog).unwrap();
        }
        assert!(hall.bench.standing(host).is_err());
        hall.told(&token, &hall.report()).await;
        assert_eq!(hall.bench.standing(host), Ok(()));
        events.push(format!("{host} returned"));
        for _ in 0..300 {
            if notices().len() >= events.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let word = |notice: &Value, field: &str| notice[field].as_str().unwrap().to_owned();
        let of = |notice: &Value| format!("{} {}", word(notice, "mirror"), word(notice, "event"));
        assert_eq!(notices().iter().map(of).collect::<Vec<_>>(), events);
        // Once more after the configuration was read anew.
        let settings = Settings::of(&config, hall.live.geo());
        let crawls = crawler::Settings::read(&config).unwrap();
        hall.live.put(&config, settings, Some(crawls)).await;
    }
}

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
