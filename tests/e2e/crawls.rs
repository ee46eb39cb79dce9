//! Crawls by the program as a whole: what is listed is not yet offered, and who is told when a mirror is lost.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{TreePath, TreeWriter};
use serde_json::{Value, json};
use support::peer::authority::Authority;
use support::peer::rsyncd::RsyncDaemon;
use support::peer::{free_address, nginx, rsyncd};

use crate::network::{FrontEnd, Tools, tree};

/// Many more than a crawl reads with so few bytes a day: the others are looked up in a listing, if there is one.
const LAYERS: u32 = 400;
const FEW_BYTES: &str = "[crawler]\nenabled = false\ndaily-bytes = \"4MiB\"\n";

/// A tree with an image of many layers, all of which are redirected; their digests.
fn many_layers(tree: &Path) -> Vec<Digest> {
    let writer = TreeWriter::open(tree).unwrap();
    let mut reach = Vec::new();
    let mut stage = |kind: &str, bytes: &[u8]| {
        let (digest, size) = (Algorithm::Sha256.digest(bytes), bytes.len() as u64);
        writer.stage_bytes(digest, bytes).unwrap();
        reach.push(digest);
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": digest.to_string(), "size": size })
    };
    let config = stage("config.v1+json", b"{}");
    let layers: Vec<_> = (0..LAYERS)
        .map(|number| stage("layer.v1.tar", &number.to_le_bytes().repeat(17 << 10)))
        .collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
    stage("manifest.v1+json", manifest.as_bytes());
    let root = *reach.last().unwrap();
    let image = Image {
        repo: "many".parse().unwrap(),
        tag: Some("1".parse().unwrap()),
        root: Descriptor::new(MediaType::OCI_MANIFEST, root, manifest.len() as u64),
        reach: reach.clone(),
        tag_referrers: None,
    };
    writer.publish(&[image]).unwrap();
    writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    reach[1..=LAYERS as usize].to_vec()
}

#[test]
fn what_is_listed_by_rsync_and_not_served_is_not_offered() {
    // A daemon may also lack what is served.
    for lists_all in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let layers = many_layers(&path("tree"));
        for copy in ["web/containers", "module/containers"] {
            rsyncd::sync(path("tree"), path(copy), &["--mkpath"]).unwrap();
        }
        let remove = |root: &str, layer: Digest| {
            let file = TreePath::Blob(layer).under(&path(root));
            fs::remove_file(file).unwrap();
        };
        remove("web/containers", layers[7]);
        if !lists_all {
            remove("module/containers", layers[9]);
        }
        let web = nginx::start(&path("web"), &path("nginx")).unwrap();
        let daemon = RsyncDaemon::start("pub", &path("module"), &path("rsyncd")).unwrap();
        let tools = Tools::new(&path("tree"), directory.path());
        let url = format!("{}/containers", web.url());
        let listing = format!("{}/containers", daemon.url());
        tools.run(&["mirror", "add", "m", "--url", &url, "--url", &listing]);
        fs::write(path("crawl.toml"), FEW_BYTES).unwrap();
        let config = path("crawl.toml");
        let config = config.to_str().unwrap();
        let sampled = tools.run(&["crawl", "--once", "--sample", "--config", config]);
        let report = sampled.stdout;

        let log = daemon.log().unwrap();
        assert!(log.contains("pub/containers/blobs/"), "{log} {report}");
        assert!(!log.contains("send "), "nothing is transferred: {log}");

        let front_end = FrontEnd::start(tools.clone());
        let some: Vec<Digest> = layers.iter().copied().skip(7).step_by(40).collect();
        let offered = || {
            let is_offered = |layer: &&Digest| {
                let answer = front_end.get(&format!("/v2/many/blobs/{layer}"), &[]);
                answer.status.as_u16() == 302
            };
            some.iter().filter(is_offered).copied().collect::<Vec<_>>()
        };
        assert!(!offered().contains(&layers[7]), "{report}");
        // And once everything was read that can be, that is offered.
        tools.crawl();
        wait_for_crawls(|| offered() == some[1..]);
    }
}

/// The notices in a file, one a line.
fn notices(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Waits for what takes a few crawls.
#[track_caller]
fn wait_for_crawls(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(180), "it did not come to pass");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_server_tells_once_of_a_mirror_it_loses_and_once_of_its_return() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    rsyncd::sync(tree(), path("mirror"), &[]).unwrap();
    let address = free_address().unwrap();
    let start = || nginx::start_at(address, &path("mirror"), &path("nginx")).unwrap();
    let mut web = start();
    let tools = Tools::new(tree(), directory.path());
    tools.add_mirror("m", &web.url(), "DE");
    tools.crawl();

    // By a certificate that only those know who are told. The body is read where it is handed on.
    let authority = Authority::new(&path("authority")).unwrap();
    let hook = free_address().unwrap();
    let posted = path("posted");
    let site = format!(
        "log_format body escape=none '$request_body';
         server {{
             listen {hook} ssl;
             {}
             access_log \"{}\" body;
             location = /notices {{ proxy_pass https://{hook}/taken; }}
             location = /taken {{ access_log off; return 204; }}
         }}",
        authority.nginx_settings(),
        posted.display()
    );
    let _hook = nginx::start_site(&site, hook, &path("hook")).unwrap();
    let told = path("told");
    web.stop();
    let failed = || {
        let shown = tools.run(&["mirror", "show", "m", "--json"]).stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let crawls = shown["health"]["crawls"].as_u64();
        crawls.unwrap_or_else(|| panic!("{shown:#}"))
    };
    let settings = format!(
        "[notify]\ncommand = [\"tee\", \"-a\", \"{}\"]\nwebhook = \"https://{hook}/notices\"\nauthorities = [{:?}]\n",
        told.display(),
        authority.certificate()
    );
    // The server begins a crawl twice in a minute; so the first ones are by hand, and told of just the same.
    let notify = path("notify.toml");
    fs::write(&notify, &settings).unwrap();
    for count in 1..=3 {
        let notify = notify.to_str().unwrap();
        let crawl = tools.run(&["crawl", "--once", "--config", notify]);
        assert_eq!(failed(), count, "{}", crawl.stdout);
    }
    assert!(notices(&told).is_empty(), "it may be back at any moment");
    let settings = format!("[crawler]\ninterval = \"1s\"\n{settings}");
    let _front_end = FrontEnd::with(&settings, tools.clone());
    wait_for_crawls(|| failed() >= 5);
    for file in [&told, &posted] {
        let notices = notices(file);
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert_eq!(notices[0]["mirror"], "m");
        let reason = notices[0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("4 crawls in a row failed"), "{reason}");
    }
    let _web = start();
    for file in [&told, &posted] {
        wait_for_crawls(|| notices(file).len() >= 2);
    }
    for file in [&told, &posted] {
        let notices = notices(file);
        let events: Vec<_> = notices.iter().map(|notice| &notice["event"]).collect();
        assert_eq!(events, ["disabled", "returned"]);
    }
}
