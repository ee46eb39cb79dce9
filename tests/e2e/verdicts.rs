//! Real web servers that are set up in ways no client bears.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use oci_mirror::digest::Digest;
use oci_mirror::tree::pieces::{PieceHash, Pieces};
use oci_mirror::tree::{Tree, TreePath};
use registry_proxy::crawler::check::Answer;
use registry_proxy::crawler::guard::Policy;
use registry_proxy::crawler::identity::Identity;
use registry_proxy::crawler::pace::Pace;
use registry_proxy::crawler::probe::probe;
use registry_proxy::crawler::wire::{Settings, Wire};
use registry_proxy::db::{Database, Probe, ProbeName, ProbeResult};
use serde_json::Value;
use support::peer::authority::Authority;
use support::peer::web_server::WebServer;
use support::peer::{free_address, nginx};
use tempfile::TempDir;

use crate::network::Tools;
use crate::served;

/// nginx as a mirror of a small tree.
struct Scene {
    directory: TempDir,
    tools: Tools,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tools = Tools::new(served::tree().0, directory.path());
        Self { directory, tools }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts nginx with more in its server section, entered under `name`.
    fn mirror(&self, name: &str, scheme: &str, address: SocketAddr, settings: &str) -> WebServer {
        let ssl = if scheme == "https" { " ssl" } else { "" };
        let copy = self.path(&format!("{name}.tree"));
        support::peer::rsyncd::sync(served::tree().0, &copy, &[]).unwrap();
        let site = format!(
            "server {{ listen {address}{ssl}; root \"{}\"; {settings} }}",
            copy.display()
        );
        let server = nginx::start_site(&site, address, &self.path(name)).unwrap();
        let url = format!("{scheme}://{address}");
        self.tools.add_mirror(name, &url, "DE");
        server
    }

    /// Crawls one mirror, trusting one more authority.
    fn crawl(&self, name: &str, trusted: Option<&Authority>) -> Value {
        let config = self.path("config.toml");
        let authorities = trusted.map(|trusted| {
            let path = trusted.certificate();
            format!("authorities = [\"{}\"]\n", path.display())
        });
        let settings = format!("[crawler]\n{}", authorities.unwrap_or_default());
        std::fs::write(&config, settings).unwrap();
        let config = config.display().to_string();
        let output = self
            .tools
            .run(&["crawl", "--once", "--json", name, "--config", &config]);
        let report: Value = serde_json::from_str(&output.stdout).unwrap();
        report["hosts"][0].clone()
    }

    /// Tries what else clients do with the layer.
    fn probe(&self, name: &str, base: &str) -> Vec<Probe> {
        let database = Database::open(&self.path("mirrors.db")).unwrap();
        let host = database.host(&name.parse().unwrap()).unwrap().host;
        let url = format!("{base}/{}", TreePath::Blob(layer()));
        block_on(async {
            let wire = Wire::new(&Settings::default()).unwrap();
            let pace = Arc::new(Pace::new(None, None));
            let with = (&*url, served::LAYER as u64);
            probe(&wire, &host, Policy::Any, pace, &ProbeName::ALL, with).await
        })
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

fn layer() -> Digest {
    let (_, digest) = served::tree().1.rsplit_once('/').unwrap();
    digest.parse().unwrap()
}

#[track_caller]
fn result(probes: &[Probe], name: ProbeName) -> (ProbeResult, &str) {
    let probe = probes.iter().find(|probe| probe.name == name).unwrap();
    (probe.result, &probe.detail)
}

#[test]
fn a_certificate_that_no_client_accepts_fails_the_crawl_and_says_why() {
    let scene = Scene::new();
    for (name, reason) in [
        ("good", None),
        ("expired", Some("expired")),
        ("foreign", Some("issuer")),
        ("self-signed", Some("certificate")),
    ] {
        let authority = Authority::new(&scene.path(&format!("{name}.authority"))).unwrap();
        let trusted = Some(&authority).filter(|_| name != "foreign");
        match name {
            "expired" => {
                authority.sign(0).unwrap();
                thread::sleep(Duration::from_secs(2));
            }
            "self-signed" => authority.leave_unsigned().unwrap(),
            _ => {}
        }
        let address = free_address().unwrap();
        let _nginx = scene.mirror(name, "https", address, &authority.nginx_settings());
        let report = scene.crawl(name, trusted);
        let failure = report["failure"].as_str();
        match reason {
            None => assert_eq!(failure, None, "{report}"),
            Some(reason) => {
                let failure = failure.unwrap().to_lowercase();
                assert!(
                    failure.contains("certificate") && failure.contains(reason),
                    "{name}: {failure}"
                );
                let base = format!("https://{address}");
                let probes = scene.probe(name, &base);
                assert_eq!(
                    result(&probes, ProbeName::Tls).0,
                    ProbeResult::Failed,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_mirror_that_leads_from_https_to_http_fails() {
    let scene = Scene::new();
    let authority = Authority::new(&scene.path("authority")).unwrap();
    let plain = scene.mirror("plain", "http", free_address().unwrap(), "");
    let leads = format!("return 301 {}$request_uri;", plain.url());
    let settings = format!("{} {leads}", authority.nginx_settings());
    let _nginx = scene.mirror("secure", "https", free_address().unwrap(), &settings);
    let report = scene.crawl("secure", Some(&authority));
    let failure = report["failure"].as_str().unwrap();
    assert!(failure.contains("from https to http"), "{failure}");
    assert_eq!(scene.crawl("plain", None)["failure"], Value::Null);
}

#[test]
fn a_server_that_encodes_or_sends_no_parts_fails_the_probe() {
    let scene = Scene::new();
    for (name, settings, encoding, range) in [
        ("plain", "", ProbeResult::Passed, ProbeResult::Passed),
        (
            "encodes",
            "gzip_types *; gzip_http_version 1.0;",
            ProbeResult::Failed,
            ProbeResult::Passed,
        ),
        (
            "whole",
            "max_ranges 0;",
            ProbeResult::Passed,
            ProbeResult::Failed,
        ),
    ] {
        let address = free_address().unwrap();
        let server = scene.mirror(name, "http", address, settings);
        let probes = scene.probe(name, &server.url());
        assert_eq!(
            result(&probes, ProbeName::Encoding).0,
            encoding,
            "{name}: {probes:?}"
        );
        assert_eq!(
            result(&probes, ProbeName::Range).0,
            range,
            "{name}: {probes:?}"
        );
        assert_eq!(result(&probes, ProbeName::Ipv4).0, ProbeResult::Passed);
        assert_eq!(result(&probes, ProbeName::Ipv6).0, ProbeResult::Absent);
    }
}

#[test]
fn a_mirror_with_an_ipv6_address_is_tried_there() {
    let scene = Scene::new();
    let mut address = free_address().unwrap();
    address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
    if std::net::TcpListener::bind(address).is_err() {
        // There is no IPv6 here.
        return;
    }
    let server = scene.mirror("six", "http", address, "");
    let probes = scene.probe("six", &server.url());
    assert_eq!(
        result(&probes, ProbeName::Ipv6).0,
        ProbeResult::Passed,
        "{probes:?}"
    );
    assert_eq!(result(&probes, ProbeName::Ipv4).0, ProbeResult::Absent);
    let by_name = format!("http://localhost:{}", address.port());
    let probes = scene.probe("six", &by_name);
    assert_eq!(
        result(&probes, ProbeName::Ipv4).0,
        ProbeResult::Failed,
        "{probes:?}"
    );
}

#[test]
fn a_piece_of_a_real_server_is_right_and_of_a_spoilt_file_wrong() {
    let scene = Scene::new();
    let server = scene.mirror("m", "http", free_address().unwrap(), "");
    let (layer, size) = (layer(), served::LAYER as u64);
    let tree = Tree::open(served::tree().0).unwrap();
    let pieces: Pieces = tree.pieces(&layer, size).unwrap().unwrap();
    let url = format!("{}/{}", server.url(), TreePath::Blob(layer));
    let read = |number: usize| {
        let hash: PieceHash = pieces.hashes()[number];
        let start = number as u64 * pieces.length();
        let range = start..(start + pieces.length()).min(size);
        block_on(async {
            let wire = Wire::new(&Settings::default()).unwrap();
            let mut mirror = wire.mirror(Policy::Any, Arc::new(Pace::new(None, None)));
            mirror
                .piece(Identity::Browser, &url, size, range, &hash)
                .await
        })
    };
    let last = pieces.hashes().len() - 1;
    assert_eq!((read(0), read(last)), (Answer::Right, Answer::Right));

    let file = scene.path("m.tree").join(TreePath::Blob(layer).to_string());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[served::LAYER - 1] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(read(0), Answer::Right);
    assert!(matches!(read(last), Answer::Damaged(_)));
}
