//! Metalinks, read by the downloader that understands them.

use oci_mirror::digest::{Algorithm, Digest};
use support::peer::aria2;

use crate::network::Network;

const METALINK: &str = "application/metalink4+xml";

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
    let network = Network::start();
    let (layer, size) = network.front_end.largest_layer("debian", "12");
    for accept in [
        None,
        Some("*/*"),
        Some("application/octet-stream, */*"),
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
    let network = Network::start();
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

#[test]
fn a_redirect_carries_the_fields_of_rfc_6249() {
    let network = Network::start();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    let answer = network.front_end.get(&layer, &[]);
    let links: Vec<&str> = answer
        .headers
        .get_all("link")
        .iter()
        .map(|link| link.to_str().unwrap())
        .collect();
    assert_eq!(
        links
            .iter()
            .filter(|link| link.contains("rel=duplicate"))
            .count(),
        2,
        "{links:?}"
    );
    let described = format!(
        "<{}?metalink>; rel=describedby; type=\"{METALINK}\"",
        network.front_end.url(&layer)
    );
    assert!(links.contains(&described.as_str()), "{links:?}");
    assert!(
        links[0].starts_with(&format!("<{}>", answer.field("location"))),
        "{links:?}"
    );
    assert!(
        answer.field("digest").starts_with("SHA-256=")
            && answer.field("repr-digest").starts_with("sha-256=:")
    );
}
