//! Clients that cannot go on with a broken transfer, and get the bytes through the front end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use oci_mirror::digest::Digest;
use support::peer::authority::Authority;
use support::peer::podman::Podman;
use support::peer::{free_address, nginx, rsyncd, skopeo};

use super::{Fault, Goes, IMAGE, NAME, Site, TAG, tree};
use crate::network::{FrontEnd, Tools, wait};

/// podman calls itself by the library it is made of.
const THROUGH_MIRRORS: &str =
    "[stream]\nclients = [\"containers<5.25\", \"skopeo<1.12\"]\nfrom = \"mirrors\"\n";

const THROUGH_TREE: &str = "[stream]\nclients = [\"containers<5.25\"]\n";

const PODMAN: (&str, &str) = (
    "user-agent",
    "containers/5.23.1 (github.com/containers/image)",
);

const FROM_MIRRORS: &str = "registry_proxy_streamed_bytes_total{from=\"mirror\"} ";
const FROM_TREE: &str = "registry_proxy_streamed_bytes_total{from=\"tree\"} ";

#[test]
fn podman_survives_whatever_a_mirror_does() {
    for fault in [
        Fault::Missing,
        Fault::Unavailable,
        Fault::Corrupt,
        Fault::Short,
        Fault::Cut,
        Fault::Refused,
    ] {
        let mut site = Site::start(THROUGH_MIRRORS);
        let podman = Podman::new(&site.directory.path().join("podman")).unwrap();
        site.fail(fault);
        let reference = site.front_end.reference(IMAGE);
        podman
            .pull(&reference)
            .unwrap_or_else(|error| panic!("{fault:?}: {error:#}"));
        assert!(site.metric(FROM_MIRRORS) > 0, "the other one had it");
        assert_eq!(site.metric(FROM_TREE), 0);
    }
}

#[test]
fn skopeo_survives_a_cut_and_wrong_bytes_even_if_there_is_no_other_mirror() {
    for fault in [Fault::Cut, Fault::Corrupt] {
        let mut site = Site::start(THROUGH_MIRRORS);
        site.well.stop();
        site.fail(fault);
        let source = format!("docker://{}", site.front_end.reference(IMAGE));
        let target = format!(
            "oci:{}:pulled",
            site.directory.path().join("copy").display()
        );
        skopeo::copy(&["--preserve-digests"], &source, &target)
            .unwrap_or_else(|error| panic!("{fault:?}: {error:#}"));
        assert!(site.metric(FROM_TREE) > 0);
    }
}

#[test]
fn who_is_named_is_sent_nowhere_and_all_others_are() {
    for (settings, from_mirrors) in [(THROUGH_TREE, false), (THROUGH_MIRRORS, true)] {
        let site = Site::start(settings);
        let (layer, length) = site.front_end.largest_layer(NAME, TAG);
        let digest: Digest = layer.rsplit('/').next().unwrap().parse().unwrap();
        for _ in 0..2 {
            let (answer, goes) = site.ask(&[PODMAN]);
            assert_eq!((goes, answer.status.as_u16()), (Goes::Here, 200));
            assert_eq!(answer.field("content-length"), length.to_string());
            assert_eq!(answer.field("docker-content-digest"), digest.to_string());
            assert_eq!(digest.algorithm().digest(&answer.body), digest);
            let (part, _) = site.ask(&[PODMAN, ("range", "bytes=1048570-1048580")]);
            assert_eq!(part.status.as_u16(), 206);
            let said = format!("bytes 1048570-1048580/{length}");
            assert_eq!(part.field("content-range"), said);
            assert_eq!(part.body, answer.body[1_048_570..=1_048_580]);
            let parts = site.ask(&[PODMAN, ("range", "bytes=0-1,5-6")]).0;
            assert!(
                parts
                    .field("content-type")
                    .starts_with("multipart/byteranges")
            );
        }
        assert_eq!(site.metric(FROM_MIRRORS) > 0, from_mirrors);
        assert_eq!(site.metric(FROM_TREE), 0);
        let newer = (
            "user-agent",
            "containers/5.25.0 (github.com/containers/image)",
        );
        assert_eq!(site.goes(&[newer]), Goes::Failing);
        assert_eq!(site.goes(&[]), Goes::Failing);
    }
}

#[test]
fn what_the_tree_has_lost_or_cannot_check_is_taken_where_it_is() {
    let whole = |site: &Site| {
        let (layer, _) = site.front_end.largest_layer(NAME, TAG);
        let digest: Digest = layer.rsplit('/').next().unwrap().parse().unwrap();
        let (answer, goes) = site.ask(&[PODMAN]);
        assert_eq!((goes, answer.status.as_u16()), (Goes::Here, 200));
        assert_eq!(digest.algorithm().digest(&answer.body), digest);
    };
    let mut site = Site::start(THROUGH_TREE);
    let tree = site.directory.path().join("tree");
    std::fs::remove_dir_all(tree.join("blobs")).unwrap();
    site.fail(Fault::Corrupt);
    whole(&site);
    assert!(site.metric(FROM_MIRRORS) > 0);
    assert_eq!(site.goes(&[]), Goes::Failing, "all others are sent there");

    let site = Site::start(THROUGH_MIRRORS);
    let tree = site.directory.path().join("tree");
    std::fs::remove_dir_all(tree.join("pieces")).unwrap();
    whole(&site);
    assert_eq!(site.metric(FROM_MIRRORS), 0);
}

#[test]
fn a_mirror_that_fails_the_front_end_is_asked_last_even_if_clients_are_not_remembered() {
    let mut site = Site::start(&format!(
        "[redirect]\nretry-window = \"0s\"\n{THROUGH_MIRRORS}"
    ));
    site.fail(Fault::Unavailable);
    for _ in 0..3 {
        let (answer, goes) = site.ask(&[PODMAN]);
        assert_eq!((goes, answer.status.as_u16()), (Goes::Here, 200));
        assert_eq!(site.metric("registry_proxy_suspects_total "), 1);
    }
    assert_eq!(site.metric(FROM_TREE), 0);
    assert_eq!(site.goes(&[]), Goes::Failing, "that is for us to remember");
}

#[test]
fn a_reload_forgets_nothing_of_what_went_through() {
    let site = Site::start(THROUGH_MIRRORS);
    let config = site.directory.path().join("config.toml");
    assert_eq!(site.goes(&[PODMAN]), Goes::Here);
    let streamed = site.metric(FROM_MIRRORS);
    assert!(streamed > 0);
    let settings = std::fs::read_to_string(&config).unwrap();
    let settings = settings.replace("containers<5.25", "containers<5.20");
    std::fs::write(&config, settings).unwrap();
    wait(|| site.goes(&[PODMAN]) == Goes::Failing);
    assert!(site.metric(FROM_MIRRORS) >= streamed);
}

#[test]
fn a_mirror_known_by_an_authority_of_the_crawler_is_read_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    rsyncd::sync(tree(), path("mirror"), &[]).unwrap();
    let authority = Authority::new(&path("authority")).unwrap();
    let address = free_address().unwrap();
    let (root, certificate) = (path("mirror"), authority.nginx_settings());
    let site = format!(
        "server {{ listen {address} ssl; {certificate} root \"{}\"; }}",
        root.display()
    );
    let _mirror = nginx::start_site(&site, address, &path("nginx")).unwrap();
    let tools = Tools::new(tree(), directory.path());
    tools.add_mirror("m", &format!("https://{address}"), "DE");
    let authorities = format!(
        "[crawler]\nenabled = false\nauthorities = [{:?}]\n",
        authority.certificate()
    );
    std::fs::write(path("crawl.toml"), &authorities).unwrap();
    let crawl = path("crawl.toml");
    tools.run(&["crawl", "--once", "--config", crawl.to_str().unwrap()]);
    let front_end = FrontEnd::with(&format!("{authorities}{THROUGH_MIRRORS}"), tools);
    let (layer, length) = front_end.largest_layer(NAME, TAG);
    let answer = front_end.get(&layer, &[PODMAN]);
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.body.len() as u64, length);
    let metrics = front_end.get("/metrics", &[]).text();
    assert!(
        metrics.contains(&format!("{FROM_MIRRORS}{length}")),
        "{metrics}"
    );
}

/// How many pull at once.
const PULLS: usize = 50;

/// What the front end may take for that beside the room it has for pieces.
const BESIDE: u64 = 64 << 20;

#[test]
fn many_pulls_at_once_take_no_more_memory_than_they_may() {
    let site = Site::start(THROUGH_MIRRORS);
    let (layer, length) = site.front_end.largest_layer(NAME, TAG);
    let digest: Digest = layer.rsplit('/').next().unwrap().parse().unwrap();
    let before = site.front_end.peak_memory();
    let all = Barrier::new(PULLS);
    let pull = || {
        let mut stream = TcpStream::connect(&site.front_end.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(300)))
            .unwrap();
        let (name, agent) = PODMAN;
        let head = format!(
            "GET {layer} HTTP/1.1\r\nhost: x\r\n{name}: {agent}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        // All have begun before any goes on.
        all.wait();
        assert_eq!(digest.algorithm().digest_of(stream).unwrap(), digest);
    };
    thread::scope(|scope| {
        for _ in 0..PULLS {
            scope.spawn(pull);
        }
    });
    assert!(site.metric(FROM_MIRRORS) > length);
    let taken = site.front_end.peak_memory() - before;
    assert!(taken < (64 << 20) + BESIDE, "{taken}");
}
