//! Parts of blobs, and blobs that a client has already.

use std::path::Path;
use std::time::Duration;

use oci_mirror::digest::Digest;
use oci_mirror::tree::TreePath;
use reqwest::Method;
use support::peer::podman::Podman;
use support::process::run;

use crate::held_line::HeldLine;
use crate::http::{self, Answer};
use crate::network::{FrontEnd, Network, Tools, program, tree};

/// The bytes of a blob, named by its path at the front end.
fn content(path: &str) -> Vec<u8> {
    let digest: Digest = path.rsplit('/').next().unwrap().parse().unwrap();
    std::fs::read(TreePath::Blob(digest).under(tree())).unwrap()
}

/// The parts of a `multipart/byteranges` answer: what `Content-Range` says, and the bytes.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let boundary = answer
        .field("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap_or_else(|| panic!("not in parts: {answer:?}"));
    assert!(boundary.bytes().all(|c| c.is_ascii_alphanumeric()));
    assert_eq!(
        answer.field("content-length"),
        answer.body.len().to_string()
    );
    let delimiter = format!("\r\n--{boundary}");
    let body = [b"\r\n", answer.body.as_slice()].concat();
    let mut rest = body.strip_prefix(delimiter.as_bytes()).unwrap();
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let head_end = part.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&part[..head_end]).unwrap();
        let (content_type, range) = head.split_once("\r\nContent-Range: ").unwrap();
        assert_eq!(content_type, "Content-Type: application/octet-stream");
        let (first, last) = range["bytes ".len()..].split_once('-').unwrap();
        let last = last.split('/').next().unwrap();
        let length = last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap();
        let bytes = &part[head_end + 4..][..length];
        parts.push((range.to_owned(), bytes.to_vec()));
        rest = part[head_end + 4 + length..]
            .strip_prefix(delimiter.as_bytes())
            .unwrap();
    }
    assert_eq!(rest, b"--\r\n");
    parts
}

#[test]
fn several_ranges_are_sent_from_here_in_the_order_asked_for_and_one_is_redirected() {
    let network = Network::shared();
    let front_end = &network.front_end;
    let (layer, size) = front_end.largest_layer("debian", "12");
    let whole = content(&layer);
    let answer = front_end.get(&layer, &[("range", "bytes=900000-1299999,0-9,-1,0-0")]);
    assert_eq!(answer.status, 206);
    let expected = [
        900_000..1_300_000,
        0..10,
        whole.len() - 1..whole.len(),
        0..1,
    ];
    let expected = expected.map(|part| {
        let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        (range, whole[part].to_vec())
    });
    assert!(parts(&answer) == expected, "{:?}", answer.headers);
    for name in ["docker-content-digest", "etag", "vary", "accept-ranges"] {
        assert!(!answer.field(name).is_empty(), "{name}");
    }

    let one = front_end.get(&layer, &[("range", "bytes=0-9")]);
    assert_eq!(one.status, 302);
    // What a mirror then answers is what we would.
    let from_mirror = http::get(one.field("location"), &[("range", "bytes=0-9")]);
    assert_eq!(
        (from_mirror.status.as_u16(), from_mirror.body),
        (206, whole[..10].to_vec())
    );

    // One of several is left over: an ordinary partial answer, but from here.
    let left = front_end.get(&layer, &[("range", &format!("bytes=0-9,{size}-"))]);
    assert_eq!(
        (left.status.as_u16(), left.body),
        (206, whole[..10].to_vec())
    );
    let none = front_end.get(&layer, &[("range", &format!("bytes={size}-,-0"))]);
    assert_eq!(
        (none.status.as_u16(), none.field("content-range")),
        (416, format!("bytes */{size}").as_str())
    );
    let more = front_end.get(&layer, &[("range", "bytes=0-,0-")]);
    assert_eq!(more.status, 200);
    assert!(more.body == whole);
}

/// A request over HTTP/2 from its first byte.
fn get_by_http2(url: &str, range: &str) -> Answer {
    let request = async {
        let client = reqwest::Client::builder()
            .http2_prior_knowledge()
            .no_proxy();
        let client = client.timeout(Duration::from_secs(60)).build()?;
        let response = client.get(url).header("range", range).send().await?;
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        Ok::<_, reqwest::Error>(Answer {
            status,
            headers,
            body,
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .unwrap()
        .block_on(request)
        .unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn as_many_ranges_as_podman_sends_fit_a_request_and_more_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let front_end = FrontEnd::start(Tools::new(tree(), directory.path()));
    let (layer, _) = front_end.largest_layer("debian", "12");
    let whole = content(&layer);
    // Numbers as long as those of a layer of 100 GB.
    let ranges = |count: usize| {
        let each = (0..count).map(|i| format!("{:011}-{:011}", i * 1000, i * 1000 + 2));
        format!("bytes={}", each.collect::<Vec<_>>().join(","))
    };
    let answer = front_end.get(&layer, &[("range", &ranges(1024))]);
    assert_eq!(answer.status, 206, "{}", answer.text());
    let parts = parts(&answer);
    assert_eq!(parts.len(), 1024);
    for (i, (_, bytes)) in parts.iter().enumerate() {
        assert_eq!(bytes, &whole[i * 1000..][..3]);
    }
    // The other version of the protocol counts the size of a head in its own way.
    let again = get_by_http2(&front_end.url(&layer), &ranges(1024));
    assert_eq!(
        (again.status.as_u16(), again.body.len()),
        (206, answer.body.len())
    );
    let refused = front_end.get(&layer, &[("range", &ranges(1025))]);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["errors"][0]["code"], "UNSUPPORTED");
    // Below `/tree/` nobody knows how to ask again: the whole is sent, as the RFC allows.
    let digest: Digest = layer.rsplit('/').next().unwrap().parse().unwrap();
    let below = format!("/tree/{}", TreePath::Blob(digest));
    assert_eq!(
        front_end.get(&below, &[("range", &ranges(1025))]).status,
        200
    );
    assert_eq!(
        front_end.get(&below, &[("range", &ranges(1024))]).status,
        206
    );
}

#[test]
fn what_a_client_has_is_neither_sent_nor_redirected() {
    let network = Network::shared();
    let front_end = &network.front_end;
    let (layer, size) = front_end.largest_layer("debian", "12");
    let digest = layer.rsplit('/').next().unwrap();
    let etag = format!("\"{digest}\"");
    let manifest = "/v2/debian/manifests/12".to_owned();
    let manifest_etag = front_end.get(&manifest, &[]).field("etag").to_owned();
    for (path, etag) in [(&layer, &etag), (&manifest, &manifest_etag)] {
        for method in [Method::GET, Method::HEAD] {
            for condition in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
                let fields = [("if-none-match", condition.as_str())];
                let answer = http::send(method.clone(), &front_end.url(path), &fields);
                assert_eq!(answer.status, 304, "{method} {path}");
                assert!(answer.body.is_empty());
                assert_eq!(
                    (answer.field("etag"), answer.field("vary")),
                    (etag.as_str(), "Accept")
                );
                assert_eq!(
                    answer.field("docker-content-digest"),
                    etag.trim_matches('"')
                );
                assert_eq!(answer.field("location"), "");
            }
        }
    }
    // Other content is sent, and `HEAD` knows no ranges.
    let other = front_end.get(&layer, &[("if-none-match", "\"x\"")]);
    assert_eq!(other.status, 302);
    let head = http::send(
        Method::HEAD,
        &front_end.url(&layer),
        &[("range", "bytes=0-1")],
    );
    assert_eq!(
        (head.status.as_u16(), head.field("content-length")),
        (200, size.to_string().as_str())
    );
    let ranged = |condition: &str| {
        let fields = [("range", "bytes=0-0,2-2"), ("if-range", condition)];
        front_end.get(&layer, &fields).status.as_u16()
    };
    assert_eq!(
        (ranged(&etag), ranged("\"x\""), ranged(&format!("W/{etag}"))),
        (206, 302, 302)
    );

    for list in [
        "/v2/debian/tags/list",
        "/v2/_catalog",
        &format!("/v2/debian/referrers/{digest}"),
    ] {
        let etag = front_end.get(list, &[]).field("etag").to_owned();
        let again = front_end.get(list, &[("if-none-match", &etag)]);
        assert_eq!(
            (again.status.as_u16(), again.field("etag")),
            (304, etag.as_str()),
            "{list}"
        );
    }
    let state = front_end.get("/tree/state.json", &[]);
    let since = state.field("last-modified");
    let again = front_end.get("/tree/state.json", &[("if-modified-since", since)]);
    assert_eq!(again.status, 304);
}

/// Two images that differ in three files of forty, pushed by podman as zstd:chunked into a layout.
fn chunked_images(podman: &Podman, directory: &Path) {
    for version in ["1", "2"] {
        let context = directory.join(version);
        std::fs::create_dir(&context).unwrap();
        for number in 0..40_u64 {
            let changed = version == "2" && number % 13 == 5;
            let mut noise = number + 1 + u64::from(changed) * 1000;
            let words = std::iter::repeat_with(|| {
                // Xorshift: bytes that do not compress.
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise.to_le_bytes()
            });
            let bytes: Vec<u8> = words.take(30_000).flatten().collect();
            std::fs::write(context.join(format!("file{number}")), bytes).unwrap();
        }
        std::fs::write(
            context.join("Dockerfile"),
            "FROM scratch\nCOPY file* /data/\n",
        )
        .unwrap();
        let image = format!("localhost/parts:{version}");
        let command = |arguments: &[&str]| {
            let mut command = podman.client().unwrap();
            command.args(arguments);
            command
        };
        run(command(&["build", "--isolation=chroot", "--quiet", "--tag", &image]).arg(&context))
            .unwrap();
        let layout = format!("oci:{}:{version}", directory.join("layout").display());
        run(command(&[
            "push",
            "--quiet",
            "--compression-format=zstd:chunked",
            &image,
        ])
        .arg(layout))
        .unwrap();
    }
}

#[test]
fn podman_fetches_only_the_parts_of_a_layer_it_does_not_have() {
    let directory = tempfile::tempdir().unwrap();
    let maker = Podman::new(&directory.path().join("maker")).unwrap();
    chunked_images(&maker, directory.path());
    let tree = directory.path().join("tree");
    let mut export = program("mirror-tool");
    export
        .args(["export", "--dest-name", "parts", "--tree"])
        .arg(&tree);
    for version in ["1", "2"] {
        let layout = directory.path().join("layout");
        export.arg(format!("oci:{}:{version}", layout.display()));
    }
    run(&mut export).unwrap();
    let front_end = FrontEnd::start(Tools::new(&tree, directory.path()));
    let (_, size) = front_end.largest_layer("parts", "2");
    let puller = Podman::new(&directory.path().join("puller")).unwrap();
    puller.fetch_parts().unwrap();
    puller.pull(&front_end.reference("parts:1")).unwrap();

    // More than it will say: the line only counts.
    let plenty = usize::MAX;
    let line = HeldLine::to(&front_end.address, plenty);
    let reference = format!("{}/parts:2", line.address());
    puller.pull(&reference).unwrap();
    let fetched = line.said_of(plenty) as u64;
    // Three files of forty, and the list of all.
    assert!(fetched < size / 8, "{fetched} bytes of {size}");
    let mounted = puller.mount(&reference).unwrap();
    for number in 0..40 {
        let file = format!("file{number}");
        let found = std::fs::read(mounted.join("data").join(&file)).unwrap();
        assert!(
            found == std::fs::read(directory.path().join("2").join(&file)).unwrap(),
            "{file}"
        );
    }
}
