//! Clients are sent to a mirror near them, as long as one is verified.

use crate::network::{AUSTRALIAN, GERMAN, Network};

const FORWARDED: &str = "x-forwarded-for";

#[test]
fn clients_are_sent_to_the_mirror_of_their_country() {
    let network = Network::shared();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    for (client, mirror) in [
        (GERMAN, network.nginx.url()),
        (AUSTRALIAN, network.apache.url()),
    ] {
        let answer = network.front_end.get(&layer, &[(FORWARDED, client)]);
        assert_eq!(answer.status, 302);
        assert!(
            answer.field("location").starts_with(&mirror),
            "{client}: {answer:?}"
        );
        let metalink = network
            .front_end
            .get(&format!("{layer}?metalink"), &[(FORWARDED, client)])
            .text();
        assert!(metalink.find(&mirror).unwrap() < metalink.find("/tree/").unwrap());
        let first = metalink.split("priority=\"1\">").nth(1).unwrap();
        assert!(first.starts_with(&mirror), "{metalink}");
    }
}

#[test]
fn a_mirror_that_lost_or_damaged_a_blob_gets_no_redirect_for_it() {
    let network = Network::start();
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    let hex = layer.rsplit(':').next().unwrap();
    let file = network
        .directory
        .path()
        .join("nginx/blobs/sha256")
        .join(&hex[..2])
        .join(hex);
    // rsync made a file of its own here; a damaged copy has the right length.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    network.front_end.tools.crawl();
    network.wait_for(&layer, |answer| {
        answer.field("location").starts_with(&network.apache.url())
    });

    let file = network
        .directory
        .path()
        .join("apache/blobs/sha256")
        .join(&hex[..2])
        .join(hex);
    std::fs::remove_file(file).unwrap();
    network.front_end.tools.crawl();
    network.wait_for(&layer, |answer| answer.status == 200);
}

#[test]
fn when_every_mirror_is_gone_the_tree_answers() {
    let mut network = Network::start();
    let (layer, size) = network.front_end.largest_layer("debian", "12");
    network.nginx.stop();
    network.apache.stop();
    network.front_end.tools.crawl();
    network.wait_for(&layer, |answer| {
        answer.status == 200 && answer.body.len() as u64 == size
    });
    let part = network.front_end.get(&layer, &[("range", "bytes=10-19")]);
    assert_eq!((part.status.as_u16(), part.body.len()), (206, 10));
    assert_eq!(part.field("content-range"), format!("bytes 10-19/{size}"));
    let directory = network.directory.path().join("podman");
    let podman = support::peer::podman::Podman::new(&directory).unwrap();
    podman
        .pull(&network.front_end.reference("app:1.0"))
        .unwrap();
}

impl Network {
    /// Asks as a German client until the answer is as wanted, as the front end takes up the crawl.
    #[track_caller]
    fn wait_for(&self, path: &str, wanted: impl Fn(&crate::http::Answer) -> bool) {
        let mut last = None;
        for _ in 0..100 {
            let answer = self.front_end.get(path, &[(FORWARDED, GERMAN)]);
            if wanted(&answer) {
                return;
            }
            last = Some((answer.status, answer.headers));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("{path} is still answered {last:?}");
    }
}
