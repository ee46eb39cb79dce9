//! Metalinks, read by the downloaders that understand them, and what each of those cannot bear.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_mirror::digest::{Algorithm, Digest};
use registry_proxy::metalink::{Document, Resource, v3};
use reqwest::Method;
use support::peer::{aria2, librepo, nginx, rsyncd, wget2};
use support::process::{program, run};

use crate::http::{self, Answer};
use crate::network::{FrontEnd, GERMAN, Network, Tools, tree};

const METALINK: &str = "application/metalink4+xml";
/// What aria2 always sends first, told to follow metalinks or not.
const ARIA2: &str = "*/*,application/metalink4+xml,application/metalink+xml";

fn digest_of(path: &str) -> Digest {
    path.rsplit('/').next().unwrap().parse().unwrap()
}

#[test]
fn aria2_loads_one_blob_from_two_mirrors_at_once() {
    let network = Network::start();
    let (layer, size) = network.front_end.largest_layer("debian", "12");
    let directory = network.directory.path().join("download");
    let options = ["--follow-metalink=mem", "-k1M", "-s4", "-x1"];
    // aria2 asks for a metalink by itself, in its Accept field.
    aria2::download(&options, &network.front_end.url(&layer), &directory).unwrap();
    let name = digest_of(&layer).to_string().replace(':', "-");
    let bytes = std::fs::read(directory.join(name)).unwrap();
    assert_eq!(
        (bytes.len() as u64, Algorithm::Sha256.digest(&bytes)),
        (size, digest_of(&layer))
    );
    let hex = digest_of(&layer).hex().to_string();
    for requests in [
        network.nginx.requests().unwrap(),
        network.apache.requests().unwrap(),
    ] {
        let ranged = requests
            .iter()
            .filter(|line| line.contains(&hex) && line.contains(" 206 "))
            .count();
        assert!(ranged > 0, "one mirror was not used: {requests:#?}");
    }
}

#[test]
fn a_metalink_is_given_only_to_who_asks_for_one() {
    let network = Network::shared();
    let (layer, size) = network.front_end.largest_layer("debian", "12");
    for accept in [
        None,
        Some("*/*"),
        Some("application/octet-stream, */*"),
        Some("application/*"),
        Some("application/metalink4+xml;q=0"),
        Some("application/metalink4+xml;q=0.5, */*"),
    ] {
        let fields: Vec<_> = accept
            .map(|accept| ("accept", accept))
            .into_iter()
            .collect();
        let answer = network.front_end.get(&layer, &fields);
        assert_eq!(answer.status, 302, "{accept:?}");
        assert_eq!(
            (answer.field("vary"), answer.field("cache-control")),
            ("Accept", "no-store")
        );
    }
    let ranged = network
        .front_end
        .get(&layer, &[("accept", METALINK), ("range", "bytes=0-1")]);
    assert_eq!(ranged.status, 302);
    for answer in [
        network.front_end.get(&layer, &[("accept", METALINK)]),
        network.front_end.get(&layer, &[("accept", ARIA2)]),
        network.front_end.get(
            &layer,
            &[("accept", "text/html;q=0.9"), ("accept", METALINK)],
        ),
        network.front_end.get(&format!("{layer}?metalink"), &[]),
    ] {
        assert_eq!(
            (answer.status.as_u16(), answer.field("content-type")),
            (200, METALINK)
        );
        let xml = answer.text();
        assert!(xml.contains(&format!("<size>{size}</size>")), "{xml}");
        assert_eq!(xml.matches("<url ").count(), 3, "{xml}");
        assert!(
            xml.contains("<pieces length=\"1048576\" type=\"sha-256\">") || size > 64 << 20,
            "{xml}"
        );
    }
}

#[test]
fn a_manifest_can_be_had_by_metalink_too() {
    let network = Network::shared();
    let answer = network
        .front_end
        .get("/v2/debian/manifests/12", &[("accept", METALINK)]);
    assert_eq!(
        (answer.status.as_u16(), answer.field("content-type")),
        (200, METALINK)
    );
    let plain = network.front_end.get("/v2/debian/manifests/12", &[]);
    let digest = Algorithm::Sha256.digest(&plain.body);
    assert!(
        answer.text().contains(&digest.hex().to_string()),
        "{}",
        answer.text()
    );
}

/// The links of an answer, one a line.
fn links(answer: &Answer) -> Vec<String> {
    let lines = answer.headers.get_all("link").iter();
    lines
        .map(|link| link.to_str().unwrap().to_owned())
        .collect()
}

/// The metalinks of version 4 of a layer, a config and a manifest.
fn documents(front_end: &FrontEnd) -> [String; 3] {
    let (layer, _) = front_end.largest_layer("app", "1.0");
    let manifest = front_end.get("/v2/app/manifests/1.0", &[]).json();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = format!("/v2/app/blobs/{config}");
    [layer, config, "/v2/app/manifests/1.0".to_owned()]
        .map(|path| front_end.get(&format!("{path}?metalink"), &[]).text())
}

/// The names of all elements of a document, in order.
fn elements(xml: &str) -> Vec<&str> {
    let tags = xml.split('<').skip(1);
    let opening = tags.filter(|tag| !tag.starts_with(['/', '?', '!']));
    opening
        .map(|tag| tag.split([' ', '>', '/']).next().unwrap())
        .collect()
}

#[test]
fn the_document_has_one_namespace_without_prefix_and_nothing_foreign_below_its_root() {
    let network = Network::shared();
    for xml in documents(&network.front_end) {
        assert_eq!(xml.matches("xmlns").count(), 1, "{xml}");
        let root = "<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">";
        assert!(xml.contains(root), "{xml}");
        let known = [
            "metalink",
            "generator",
            "origin",
            "published",
            "file",
            "size",
            "hash",
            "pieces",
            "url",
        ];
        let elements = elements(&xml);
        assert!(
            elements.iter().all(|name| known.contains(name)),
            "{elements:?}"
        );
        assert_eq!(elements[..5], known[..5], "{xml}");
        assert_eq!(xml.matches("<file ").count(), 1);
    }
}

#[test]
fn no_value_has_white_space_around_it() {
    let network = Network::shared();
    for xml in documents(&network.front_end) {
        // Text right before a closing tag is a value; between elements it is indentation.
        let values = xml.split("</").filter_map(|before| before.rsplit_once('>'));
        let values: Vec<&str> = values
            .map(|(_, value)| value)
            .filter(|it| !it.trim().is_empty())
            .collect();
        assert!(values.len() >= 6, "{xml}");
        for value in values {
            assert_eq!(value, value.trim(), "{xml}");
        }
    }
}

#[test]
fn size_and_lower_case_sha_256_are_always_there_and_pieces_only_of_large_blobs() {
    let network = Network::shared();
    let [layer, config, manifest] = documents(&network.front_end);
    for xml in [&layer, &config, &manifest] {
        let (_, rest) = xml.split_once("<size>").unwrap();
        assert!(rest.split('<').next().unwrap().parse::<u64>().unwrap() > 0);
        let (_, rest) = xml.split_once("<hash type=\"sha-256\">").unwrap();
        let hex = rest.split('<').next().unwrap();
        assert!(hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
    }
    assert_eq!(layer.matches("<pieces ").count(), 1, "{layer}");
    assert!(
        layer.contains("<pieces length=\"1048576\" type=\"sha-256\">"),
        "{layer}"
    );
    for xml in [config, manifest] {
        assert!(!xml.contains("<pieces"), "{xml}");
    }
}

#[test]
fn both_formats_are_what_their_schemas_say() {
    let network = Network::shared();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/metalink4.rng");
    let file = network.directory.path().join("document");
    let (layer, _) = network.front_end.largest_layer("app", "1.0");
    let third = network.front_end.get(&format!("{layer}?metalink=3"), &[]);
    assert_eq!(third.field("content-type"), "application/metalink+xml");
    let documents = documents(&network.front_end).into_iter();
    let fourth = documents.map(|xml| (xml, Some(&schema)));
    for (xml, schema) in fourth.chain([(third.text(), None)]) {
        std::fs::write(&file, &xml).unwrap();
        let mut xmllint = program("xmllint").unwrap();
        xmllint.args(["--nonet", "--noout"]);
        if let Some(schema) = schema {
            xmllint.arg("--relaxng").arg(schema);
        }
        run(xmllint.arg(&file)).unwrap_or_else(|error| panic!("{error}: {xml}"));
    }
}

#[test]
fn every_answer_about_a_blob_varies_and_has_the_same_links_and_digests() {
    let network = Network::shared();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    let url = network.front_end.url(&layer);
    let redirect = http::get(&url, &[]);
    let head = http::send(Method::HEAD, &url, &[]);
    let metalink = http::get(&url, &[("accept", METALINK)]);
    assert_eq!(
        [&redirect, &head, &metalink].map(|answer| answer.status.as_u16()),
        [302, 200, 200]
    );
    for answer in [&redirect, &head, &metalink] {
        assert_eq!(answer.field("vary"), "Accept", "{answer:?}");
    }
    assert_eq!(links(&redirect), links(&head));
    for name in ["digest", "repr-digest", "etag", "docker-content-digest"] {
        assert_eq!(redirect.field(name), head.field(name), "{name}");
        // They are the blob's; the metalink is not the blob.
        assert_eq!(metalink.field(name), "", "{name}");
    }
    // The raw bytes of the digest, not its text.
    let sha256 = digest_of(&layer);
    let old = redirect.field("digest").strip_prefix("SHA-256=").unwrap();
    let new = redirect
        .field("repr-digest")
        .strip_prefix("sha-256=:")
        .unwrap();
    let new = new.strip_suffix(':').unwrap();
    for base64 in [old, new] {
        assert_eq!(STANDARD.decode(base64).unwrap(), sha256.as_bytes());
    }
}

#[test]
fn each_link_has_a_line_and_the_document_an_absolute_url_that_leads_to_it() {
    let network = Network::shared();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    let redirect = network.front_end.get(&layer, &[]);
    let links = links(&redirect);
    assert_eq!(links.len(), 3, "{links:?}");
    for link in &links {
        assert_eq!(link.matches("rel=").count(), 1, "{link}");
        assert!(link.starts_with("<http://"), "{link}");
        // A preferred mirror has our entity tag; a plain web server makes its own.
        assert!(!link.contains("pref"), "{link}");
    }
    assert!(links[0].starts_with(&format!(
        "<{}>; rel=duplicate; pri=1",
        redirect.field("location")
    )));
    let described = links.last().unwrap();
    let document = described
        .strip_prefix('<')
        .and_then(|link| link.strip_suffix("; rel=describedby; type=\"application/metalink4+xml\""))
        .and_then(|link| link.strip_suffix('>'))
        .unwrap_or_else(|| panic!("{described}"));
    assert_eq!(http::get(document, &[]).field("content-type"), METALINK);
}

/// A front end before twelve mirrors with long names: directories of one web server.
fn wide_network(directory: &Path) -> (FrontEnd, support::peer::web_server::WebServer) {
    let root = directory.join("root");
    let copy = root.join("tree");
    std::fs::create_dir(&root).unwrap();
    rsyncd::sync(tree(), &copy, &[]).unwrap();
    let server = nginx::start(&root, &directory.join("nginx")).unwrap();
    let tools = Tools::new(tree(), directory);
    for number in 0..12 {
        let name = format!(
            "{}-{number}",
            "pub-linux-distributions-containers-mirror".repeat(3)
        );
        std::os::unix::fs::symlink("tree", root.join(&name)).unwrap();
        let url = format!("{}/{name}", server.url());
        tools.add_mirror(&format!("m{number}"), &url, "DE");
    }
    tools.crawl();
    (FrontEnd::start(tools), server)
}

#[test]
fn heads_and_documents_stay_small_however_many_mirrors_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let (front_end, _server) = wide_network(directory.path());
    let (layer, _) = front_end.largest_layer("debian", "12");
    // A client of the same continent: mirrors elsewhere are listed only until there are five.
    let near = [("x-forwarded-for", GERMAN)];
    let redirect = front_end.get(&layer, &near);
    assert_eq!(redirect.status, 302);
    let head: usize = redirect
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    // Reverse proxies have buffers of 4 KiB for a head.
    assert!(head < 4000, "{head}: {:?}", redirect.headers);
    assert_eq!(links(&redirect).len(), 7);
    let document = front_end.get(&format!("{layer}?metalink"), &near);
    assert_eq!(document.text().matches("<url ").count(), 11);
    assert!(document.body.len() < 1 << 20);
}

#[test]
fn what_a_client_says_of_itself_does_not_reach_a_mirror() {
    let network = Network::shared();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    let secrets = [("authorization", "Bearer hush"), ("cookie", "hush=1")];
    let path = format!("{layer}?token=hush");
    let redirect = network.front_end.get(&path, &secrets);
    assert_eq!(redirect.status, 302);
    let said = format!("{:?}", redirect.headers);
    assert!(
        !said.contains("hush") && !redirect.field("location").contains('?'),
        "{said}"
    );
    let document = network.front_end.get(&format!("{path}&metalink"), &secrets);
    assert!(!document.text().contains("hush"));
}

#[test]
fn the_fields_of_a_redirect_are_those_of_the_snapshot() {
    let network = Network::shared();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    // The address decides the order, so the client is one whose country has a mirror.
    let fields = [("x-forwarded-for", GERMAN)];
    let redirect = network.front_end.get(&layer, &fields);
    let mut lines: Vec<String> = redirect
        .headers
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    let digest = digest_of(&layer);
    let hex = digest.hex().to_string();
    for (from, to) in [
        (network.front_end.address.clone(), "FRONT-END"),
        (network.nginx.url(), "http://HEIDELBERG"),
        (network.apache.url(), "http://SYDNEY"),
        (format!("/{}/{hex}", &hex[..2]), "/HH/HEX"),
        (hex, "HEX"),
        (STANDARD.encode(digest.as_bytes()), "BASE64"),
    ] {
        for line in &mut lines {
            *line = line.replace(&from, to);
        }
    }
    // Only now: addresses come in any order.
    lines.sort();
    insta::assert_snapshot!(format!("{}\n{}\n", redirect.status, lines.join("\n")));
}

#[test]
fn wget2_follows_the_document_that_describes_a_blob() {
    let network = Network::start();
    let (layer, size) = network.front_end.largest_layer("debian", "12");
    let url = network.front_end.url(&layer);
    let name = digest_of(&layer).to_string().replace(':', "-");
    // It leaves the port out of `Host`, so the proxy that a test may be says it.
    let host = format!("--header=X-Forwarded-Host: {}", network.front_end.address);
    let negotiate = format!("--header=Accept: {METALINK}");
    for (directory, options) in [
        ("link", vec![host.as_str()]),
        ("accept", vec![host.as_str(), &negotiate]),
    ] {
        let directory = network.directory.path().join(directory);
        wget2::download(&options, &url, &directory).unwrap();
        let bytes = std::fs::read(directory.join(&name)).unwrap();
        assert_eq!(
            (bytes.len() as u64, Algorithm::Sha256.digest(&bytes)),
            (size, digest_of(&layer))
        );
    }
    assert!(network.blobs_from_mirrors() > 0);
}

#[test]
fn librepo_reads_the_older_format_and_goes_on_to_the_next_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir_all(root.join("good/repodata")).unwrap();
    let content = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><revision>1</revision></repomd>\n";
    std::fs::write(root.join("good/repodata/repomd.xml"), content).unwrap();
    let server = nginx::start(&root, &directory.path().join("nginx")).unwrap();
    let bases = ["absent", "good"].map(|place| format!("{}/{place}/", server.url()));
    let resource = |base| Resource {
        base,
        country: "DE".parse().ok(),
        private: false,
    };
    let digest = Algorithm::Sha256.digest(content.as_bytes());
    let document = Document {
        origin: format!("{}/metalink", server.url()),
        published: jiff::Timestamp::from_second(1_795_000_000).unwrap(),
        size: content.len() as u64,
        digest: &digest,
        name: "repomd.xml".into(),
        pieces: None,
        path: "repodata/repomd.xml",
        resources: bases.iter().map(|base| resource(base)).collect(),
    };
    std::fs::write(root.join("metalink"), v3::render(&document)).unwrap();
    let downloaded = directory.path().join("downloaded");
    librepo::download(&format!("{}/metalink", server.url()), &downloaded).unwrap();
    let found = std::fs::read_to_string(downloaded.join("repodata/repomd.xml")).unwrap();
    assert_eq!(found, content);
    // What is not what the document says is refused.
    std::fs::write(
        root.join("good/repodata/repomd.xml"),
        content.replace('1', "2"),
    )
    .unwrap();
    let refused = directory.path().join("refused");
    librepo::download(&format!("{}/metalink", server.url()), &refused).unwrap_err();
}

#[test]
fn what_a_mirror_would_answer_worse_is_answered_here() {
    let network = Network::shared();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    let etag = format!("\"{}\"", digest_of(&layer));
    let known = network.front_end.get(&layer, &[("if-none-match", &etag)]);
    assert_eq!((known.status.as_u16(), known.field("etag")), (304, &*etag));
    let other = network.front_end.get(&layer, &[("if-none-match", "\"x\"")]);
    assert_eq!(other.status, 302);
    // A part goes to a mirror; several parts in one answer are not every mirror's trade.
    let part = network.front_end.get(&layer, &[("range", "bytes=0-1")]);
    assert_eq!(part.status, 302);
    let parts = network.front_end.get(&layer, &[("range", "bytes=0-1,4-5")]);
    assert!(parts.status.is_success(), "{}", parts.status);
}
