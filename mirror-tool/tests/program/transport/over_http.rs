//! Files over HTTP.

use std::time::{Duration, Instant};

use super::server::{Answer, Server};
use super::*;

fn served(all: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    all.iter().map(|it| (path_of(it), it.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_file_is_asked_for_once_over_few_connections() {
    let mut place = Place::new();
    let all = many();
    let server = Server::start(served(&all), |_, _| Answer::Content).await;
    let fetched = place.fetch(&server.url(), blobs(&all)).await.unwrap();
    all_there(&place, &all, &fetched);
    assert_eq!(fetched.files, all.len() as u64);
    let bytes: usize = all.iter().map(Vec::len).sum();
    assert_eq!(
        (fetched.bytes, fetched.received),
        (bytes as u64, bytes as u64)
    );
    let mut paths: Vec<_> = server.requests().into_iter().map(|it| it.path).collect();
    paths.sort();
    let mut expected: Vec<_> = all.iter().map(|it| path_of(it)).collect();
    expected.sort();
    assert_eq!(paths, expected);
    assert!(server.busiest() <= 4, "{}", server.busiest());
    // The client may open one while another becomes free.
    assert!(server.connections() <= 8, "{}", server.connections());
    let asks_plainly = |head: &str| head.contains("accept-encoding: identity\r\n");
    assert!(server.requests().iter().all(|it| asks_plainly(&it.head)));

    // Killed now, it fetches nothing a second time.
    place.again();
    let fetched = place.fetch(&server.url(), blobs(&all)).await.unwrap();
    assert_eq!((fetched.files, fetched.received), (0, 0));
    assert_eq!(server.requests().len(), all.len());
    all_there(&place, &all, &fetched);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_resume() {
    let place = Place::new();
    let all = [noise(1, 3 * MIB)];
    let rule = |_: &_, before| match before {
        0 => Answer::Cut(MIB + 5),
        1 => Answer::Cut(MIB),
        _ => Answer::Content,
    };
    let server = Server::start(served(&all), rule).await;
    let fetched = place.fetch(&server.url(), blobs(&all)).await.unwrap();
    all_there(&place, &all, &fetched);
    let starts: Vec<_> = server.requests().iter().map(|it| it.start).collect();
    assert_eq!(starts, [None, Some(MIB + 5), Some(2 * MIB + 5)]);
    assert_eq!(server.sent(), 3 * MIB);
    assert_eq!(fetched.received, 3 * MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_run_resumes_and_a_beginning_that_was_wrong_is_found_out() {
    for (begun, starts) in [
        (noise(1, 3 * MIB)[..MIB].to_vec(), vec![Some(MIB)]),
        (noise(2, MIB), vec![Some(MIB), None]),
        // All of it and more: there is nothing to go on with.
        (noise(2, 3 * MIB), vec![None]),
        (noise(2, 4 * MIB), vec![None]),
    ] {
        let place = Place::new();
        let all = [noise(1, 3 * MIB)];
        let server = Server::start(served(&all), |_, _| Answer::Content).await;
        let mut part = place.staging.path(&blob(&all[0]).path).into_os_string();
        part.push(".part");
        fs::create_dir_all(Path::new(&part).parent().unwrap()).unwrap();
        fs::write(&part, begun).unwrap();
        let fetched = place.fetch(&server.url(), blobs(&all)).await.unwrap();
        all_there(&place, &all, &fetched);
        let found: Vec<_> = server.requests().iter().map(|it| it.start).collect();
        assert_eq!(found, starts);
        assert!(!Path::new(&part).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_go_on_starts_anew() {
    let other_part = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 7-8/9".to_owned();
    for refusal in [
        Answer::Whole,
        Answer::Head("HTTP/1.1 416 Range Not Satisfiable".to_owned()),
        Answer::Head(other_part),
    ] {
        let place = Place::new();
        let all = [noise(1, 3 * MIB)];
        let rule = move |request: &server::Request, before| match (before, request.start) {
            (0, _) => Answer::Cut(MIB),
            (_, Some(_)) => refusal.clone(),
            (_, None) => Answer::Content,
        };
        let server = Server::start(served(&all), rule).await;
        let fetched = place.fetch(&server.url(), blobs(&all)).await.unwrap();
        all_there(&place, &all, &fetched);
    }
}

/// Each new start brings as much as would pass for an advance.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_goes_on_is_given_up() {
    for refusal in [
        Answer::Cut(2 * MIB),
        Answer::Head("HTTP/1.1 416 Range Not Satisfiable".to_owned()),
    ] {
        let place = Place::new();
        let all = [noise(1, 3 * MIB)];
        let is_whole = matches!(refusal, Answer::Cut(_));
        let rule = move |request: &server::Request, _| match request.start {
            // A part that is cut before its first byte is no advance either.
            Some(_) if is_whole => Answer::Cut(0),
            Some(_) => refusal.clone(),
            None => Answer::Cut(2 * MIB),
        };
        let server = Server::start(served(&all), rule).await;
        let mut options = options(&server.url());
        options.retries = 1;
        let fetch = place.fetch_by(&options, blobs(&all));
        let fetched = tokio::time::timeout(Duration::from_secs(20), fetch).await;
        assert!(matches!(fetched, Ok(Err(Error::Unreachable { .. }))));
        assert!(server.requests().len() < 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_asked_for_twice_and_what_is_gone_is_told() {
    let place = Place::new();
    let (good, gone) = (noise(1, 500), noise(9, 500));
    let (cached, cached_large) = (noise(2, 500), noise(3, 2 * MIB));
    let (bad, short, long, large) = (
        noise(4, 500),
        noise(5, 500),
        noise(6, 500),
        noise(7, 2 * MIB),
    );
    let index = summed("repos/a/index.json", b"index of the list");
    let all = [&good, &cached, &cached_large, &bad, &short, &long, &large];
    let names = all.map(|it| path_of(it));
    let rule = move |request: &server::Request, before| {
        let place = names.iter().position(|name| *name == request.path);
        match (place, before) {
            (Some(1), 0) | (Some(3), _) => Answer::Other(noise(20, 500)),
            (Some(2), 0) | (Some(6), _) => Answer::Other(noise(20, 2 * MIB)),
            (Some(4), _) => Answer::Other(noise(5, 500)[..499].to_vec()),
            (Some(5), _) => Answer::Other([noise(6, 500), vec![0]].concat()),
            (None, _) if request.path == "repos/a/index.json" => {
                Answer::Other(b"index of a later.".to_vec())
            }
            _ => Answer::Content,
        }
    };
    let server = Server::start(served(&all.map(Clone::clone)), rule).await;
    let mut wanted = blobs(&all.map(Clone::clone));
    wanted.extend([index.clone(), blob(&gone)]);
    let fetched = place.fetch(&server.url(), wanted).await.unwrap();
    assert_eq!(fetched.files, 3);
    assert!(place.has(&good) && place.has(&cached) && place.has(&cached_large));
    assert_eq!(fetched.missing, [blob(&gone).path]);
    let wrong: std::collections::HashSet<_> =
        fetched.wrong.iter().map(|(path, _)| path.clone()).collect();
    let mut expected: Vec<_> = [&bad, &short, &long, &large].map(|it| blob(it).path).into();
    expected.push(index.path);
    assert_eq!(wrong, expected.into_iter().collect());
    for path in wrong {
        assert!(!place.staging.path(&path).exists());
        assert!(!place.staging.is_right(&path));
        let asked = server.requests();
        let asked = asked.iter().filter(|it| it.path == path.to_string());
        let past_caches: Vec<_> = asked.map(|it| it.head.contains("no-cache")).collect();
        assert_eq!(past_caches, [false, true]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_given_the_time_it_asks_for() {
    let place = Place::new();
    let all = [noise(1, 500)];
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2".to_owned();
    let rule = move |_: &_, before| match before {
        0 => Answer::Head(busy.clone()),
        _ => Answer::Content,
    };
    let server = Server::start(served(&all), rule).await;
    let began = Instant::now();
    let fetched = place.fetch(&server.url(), blobs(&all)).await.unwrap();
    all_there(&place, &all, &fetched);
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_broken_is_given_up_and_keeps_what_came() {
    let place = Place::new();
    let (good, bad) = (noise(1, 2 * MIB), noise(2, 500));
    let name = path_of(&bad);
    let rule = move |request: &server::Request, _| {
        if request.path == name {
            Answer::Head("HTTP/1.1 500 Internal Server Error".to_owned())
        } else {
            Answer::Content
        }
    };
    let all = [good.clone(), bad.clone()];
    let server = Server::start(served(&all), rule).await;
    let mut options = options(&server.url());
    options.retries = 1;
    let error = place.fetch_by(&options, blobs(&all)).await.unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert!(!error.is_lie());
    let asked = server
        .requests()
        .iter()
        .filter(|it| it.path == path_of(&bad))
        .count();
    assert_eq!(asked, 2);
    assert!(place.has(&good));
}

#[tokio::test(flavor = "multi_thread")]
async fn bandwidth_is_kept() {
    let place = Place::new();
    let all = [1, 2, 3, 4].map(|seed| noise(seed, MIB));
    let server = Server::start(served(&all), |_, _| Answer::Content).await;
    let mut options = options(&server.url());
    options.bandwidth = Some(MIB as u64);
    options.jobs = NonZeroUsize::MIN;
    let began = Instant::now();
    let fetched = place.fetch_by(&options, blobs(&all)).await.unwrap();
    all_there(&place, &all, &fetched);
    // What a second may bring is let through at once, and the last that came is not waited for.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2400), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_but_not_in_circles() {
    let place = Place::new();
    let all = [noise(1, 500), noise(2, 2 * MIB)];
    let server = Server::start(served(&all), |_, _| Answer::Content).await;
    let target = server.url();
    let rule = move |request: &server::Request, _| {
        let path = &request.path;
        Answer::Head(format!("HTTP/1.1 302 Found\r\nLocation: {target}/{path}"))
    };
    let front = Server::start([], rule).await;
    let fetched = place.fetch(&front.url(), blobs(&all)).await.unwrap();
    all_there(&place, &all, &fetched);

    let circle = "HTTP/1.1 302 Found\r\nLocation: /tree/state.json".to_owned();
    let server = Server::start([], move |_, _| Answer::Head(circle.clone())).await;
    let error = open(&options(&server.url())).state(&place.staging).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("too many redirects"), "{error}");
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_list_are_bounded_and_compared() {
    let place = Place::new();
    let list = noise(1, 100_000);
    let files = [
        ("state.json".to_owned(), b"{}".to_vec()),
        ("fullfiletimelist-containers".to_owned(), list.clone()),
        ("fullfiletimelist-long".to_owned(), noise(2, 500_000)),
    ];
    let server = Server::start(files, |_, _| Answer::Content).await;
    let upstream = open(&options(&server.url()));
    assert_eq!(&upstream.state(&place.staging).await.unwrap()[..], b"{}");
    let path = upstream.list(&list_of(&list), None, &place.staging).await;
    assert_eq!(fs::read(path.unwrap()).unwrap(), list);
    let lie = upstream
        .list(&list_of(b"x"), None, &place.staging)
        .await
        .unwrap_err();
    assert!(lie.is_lie(), "{lie}");
    let module = |module: &str| ListRef {
        module: module.parse().unwrap(),
        ..list_of(b"x")
    };
    let long = upstream
        .list(&module("long"), None, &place.staging)
        .await
        .unwrap_err();
    assert!(long.to_string().contains("longer than"), "{long}");
    let gone = upstream
        .list(&module("gone"), None, &place.staging)
        .await
        .unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");

    let server = Server::start([("state.json".to_owned(), noise(1, 70_000))], |_, _| {
        Answer::Content
    })
    .await;
    let long = open(&options(&server.url()))
        .state(&place.staging)
        .await
        .unwrap_err();
    assert!(long.is_lie(), "{long}");
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip".to_owned();
    let server = Server::start([], move |_, _| Answer::Head(gzip.clone())).await;
    let gzip = open(&options(&server.url()))
        .state(&place.staging)
        .await
        .unwrap_err();
    assert!(gzip.to_string().contains("compressed"), "{gzip}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_ends_at_once() {
    let place = Place::new();
    let all = [noise(1, 3 * MIB)];
    let server = Server::start(served(&all), |_, _| Answer::Content).await;
    let mut options = options(&server.url());
    options.bandwidth = Some(1000);
    let stop = CancellationToken::new();
    let upstream = open(&options);
    let progress = Progress::default();
    let fetch = upstream.fetch(blobs(&all), &place.staging, &progress, &stop);
    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.cancel();
    };
    let (fetched, ()) = tokio::join!(fetch, end);
    assert!(matches!(fetched, Err(Error::Stopped)));
}
