//! Web servers.

use super::*;

/// What every mirror should do, whatever it is served with.
#[track_caller]
fn has_good_manners(mirror: &Mirror, server: &WebServer) {
    let url = |path: &str| format!("{}/{path}", server.url());
    let get = |path: &str, fields: &[(&'static str, &str)]| http::get(&url(path), fields);
    let packed = [("accept-encoding", "gzip, br, zstd")];

    // Content has its name from its digest: cached for ever, never encoded, sent in parts.
    let hex = mirror.blob.rsplit('/').next().unwrap();
    for path in [&mirror.blob, &format!("repos/app/blobs/sha256/{hex}")] {
        let answer = get(path, &packed);
        assert_eq!(
            (answer.status.as_u16(), &answer.body),
            (200, &mirror.bytes),
            "{path}"
        );
        assert_eq!(
            answer.field("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(answer.field("content-type"), "application/octet-stream");
        assert_eq!(answer.field("content-encoding"), "");
        let part = get(path, &[("range", "bytes=5-9"), packed[0]]);
        assert_eq!(
            (part.status.as_u16(), &part.body[..]),
            (206, &mirror.bytes[5..10])
        );
        assert_eq!(part.field("content-encoding"), "");
    }
    // A layer that is gzip by content, whoever looks.
    let layer = gzip_layer(&mirror.tree());
    let answer = http::send(Method::HEAD, &url(&layer), &packed);
    assert_eq!(
        answer.field("content-type"),
        "application/octet-stream",
        "{layer}"
    );
    assert_eq!(answer.field("content-encoding"), "");

    // All else changes under its name, and is asked about again.
    for path in [
        "repos/app/index.json",
        "state.json",
        "fullfiletimelist-containers",
    ] {
        let answer = get(path, &[]);
        assert_eq!(
            (answer.status.as_u16(), answer.field("cache-control")),
            (200, "max-age=0, must-revalidate"),
            "{path}"
        );
        let etag = answer.field("etag").to_owned();
        let again = get(path, &[("if-none-match", &etag)]);
        assert_eq!(again.status.as_u16(), 304, "{path}: {etag}");
    }

    // What is not there, or not yet, is not kept by caches.
    let absent = mirror.blob.replace(&hex[10..20], "0000000000");
    for path in [
        &absent,
        ".~tmp~/x",
        "blobs/sha256/00/.~tmp~/x",
        "repos/app/",
    ] {
        let answer = get(path, &[]);
        assert!(
            [403, 404].contains(&answer.status.as_u16()),
            "{path}: {answer:?}"
        );
        assert!(
            !answer.field("cache-control").contains("immutable"),
            "{path}"
        );
        assert!(
            path.ends_with('/') || answer.status.as_u16() == 404,
            "{path}: {answer:?}"
        );
    }
    for method in [Method::PUT, Method::DELETE, Method::POST] {
        let answer = http::send(method.clone(), &url("state.json"), &[]);
        assert_eq!(answer.status.as_u16(), 405, "{method}");
    }
    assert_eq!(requests_in_one_connection(server.address(), 50), 50);

    // The front end's crawler takes it.
    let tools = Tools::new(tree(), mirror.directory.path());
    tools.add_mirror("mirror", &server.url(), "DE");
    let report = tools.run(&["crawl", "--once", "--json"]).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let host = &report["hosts"][0];
    assert_eq!(host["failure"], serde_json::Value::Null, "{report}");
    let counts = ["missing", "damaged", "unknown", "present"].map(|key| host[key].as_u64());
    assert_eq!(counts, [Some(0); 4], "{report}");
    assert_eq!(host["failed_probes"], serde_json::json!([]), "{report}");

    // The log has what was sent, which is more than the body, and which part was asked for.
    let log = mirror.log();
    assert!(log.contains("bytes=5-9"), "{log}");
}

/// The path of a blob that begins as gzip does.
fn gzip_layer(tree: &Path) -> String {
    let mut pending = vec![tree.join("blobs/sha256")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let mut magic = [0; 2];
        let read = fs::File::open(&path).unwrap().read_exact_at(&mut magic, 0);
        if read.is_ok() && magic == [0x1f, 0x8b] {
            return path
                .strip_prefix(tree)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
        }
    }
    panic!("no sample is compressed by gzip");
}

/// How many of so many requests a server answers before it closes the connection.
fn requests_in_one_connection(address: SocketAddr, count: usize) -> usize {
    let mut connection = TcpStream::connect(address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    for done in 0..count {
        let request = format!("HEAD /state.json HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let mut head = Vec::new();
        if connection.write_all(request.as_bytes()).is_err() {
            return done;
        }
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match connection.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return done,
            }
        }
        assert!(
            head.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&head)
        );
    }
    count
}

#[test]
fn nginx_serves_a_mirror_and_counts_connections() {
    let mirror = Mirror::new();
    let server = mirror.serve(Server::Nginx);
    has_good_manners(&mirror, &server);

    // Many may have one address, and somebody who opens a hundred is told to come again.
    let mut open = Vec::new();
    let mut busy = 0;
    for _ in 0..40 {
        let mut connection = TcpStream::connect(server.address()).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        write!(connection, "GET /{LARGE} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
        let mut status = [0; 12];
        connection.read_exact(&mut status).unwrap();
        match &status {
            b"HTTP/1.1 200" => open.push(connection),
            b"HTTP/1.1 429" => busy += 1,
            status => panic!("{}", String::from_utf8_lossy(status)),
        }
    }
    assert_eq!((open.len(), busy), (32, 8));
}

#[test]
fn apache_serves_a_mirror() {
    let mirror = Mirror::new();
    has_good_manners(&mirror, &mirror.serve(Server::Apache));
}

#[test]
fn caddy_serves_a_mirror() {
    let mirror = Mirror::new();
    has_good_manners(&mirror, &mirror.serve(Server::Caddy));
}

#[test]
fn two_mirrors_with_similar_names_keep_apart_in_one_nginx() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = ["a.example", "b.a.example", "a-b.example"];
    let sites = hosts.map(|host| {
        let tree = directory.path().join(host).join("containers");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("state.json"), host).unwrap();
        site_config_of(host, "nginx", &tree, &["--static-v2"])
    });
    let state = directory.path().join("state");
    let server = Server::Nginx.start(&sites.concat(), &state);
    for host in hosts {
        let url = format!("{}/state.json", server.url());
        let answer = http::get(&url, &[("host", host)]);
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, host)
        );
    }
    for host in hosts {
        let log = || fs::read_to_string(state.join(format!("{host}.log"))).unwrap();
        // It is written after the answer.
        crate::network::wait(|| !log().is_empty());
        assert_eq!(log().lines().count(), 1, "{host}: {}", log());
    }
}
