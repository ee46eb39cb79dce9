//! Which images are exported.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use mirror_tool::exit::Exit;
use mirror_tool::export::report::Status;
use mirror_tool::export::{self, Options, Report};
use oci_mirror::digest::Digest;
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::{Catalog, Tree, TreePath};
use regex::Regex;

use crate::bench::{Bench, noise, only};
use crate::fake_registry::descriptor;

/// The time all tests live at.
const NOW: &str = "2026-06-15T12:00:00Z";

/// An image whose config says when it was made.
pub(crate) fn image_of(bench: &Bench, name: &str, tag: &str, created: &str) -> Digest {
    let config = format!(r#"{{"created":"{created}","os":"linux","tag":"{tag}"}}"#);
    let content = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[]}}"#,
        MediaType::OCI_MANIFEST,
        descriptor(
            "application/vnd.oci.image.config.v1+json",
            &bench.registry.blob(config.clone()),
            config.len()
        )
    );
    let manifest = MediaType::OCI_MANIFEST;
    bench.registry.manifest(name, Some(tag), &manifest, content)
}

/// An artifact about `subject`; the empty config is the one the image specification names.
pub(crate) fn artifact(
    bench: &Bench,
    name: &str,
    tag: Option<&str>,
    kind: &str,
    subject: &Digest,
) -> Digest {
    let payload = format!("{kind} of {subject}");
    let content = format!(
        r#"{{"schemaVersion":2,"mediaType":"{manifest}","artifactType":"application/{kind}","config":{config},"layers":[{layer}],"subject":{subject}}}"#,
        manifest = MediaType::OCI_MANIFEST,
        config = descriptor(
            "application/vnd.oci.empty.v1+json",
            &bench.registry.blob("{}"),
            2
        ),
        layer = descriptor(
            "application/octet-stream",
            &bench.registry.blob(payload.clone()),
            payload.len()
        ),
        subject = descriptor(MediaType::OCI_MANIFEST.as_str(), subject, 2),
    );
    let manifest = MediaType::OCI_MANIFEST;
    bench.registry.manifest(name, tag, &manifest, content)
}

/// The tag that stands in for the referrers API, or cosign's.
pub(crate) fn digest_tag(subject: &Digest, suffix: &str) -> String {
    format!("{}{suffix}", subject.to_string().replace(':', "-"))
}

pub(crate) fn tags(bench: &Bench, name: &str) -> BTreeSet<String> {
    let tree = Tree::open(&bench.tree()).unwrap();
    let index = tree.index(&name.parse().unwrap()).unwrap();
    index.tags().map(|(tag, _)| tag.to_string()).collect()
}

pub(crate) fn set(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(ToString::to_string).collect()
}

/// What the tree lists as belonging to `subject`.
pub(crate) fn referrers(bench: &Bench, name: &str, subject: &Digest) -> BTreeSet<Digest> {
    let catalog = Catalog::load(&Tree::open(&bench.tree()).unwrap(), None).unwrap();
    let name: RepoName = name.parse().unwrap();
    let repository = catalog.repository(&name).unwrap();
    let ids = repository.referrers(subject).iter();
    ids.map(|id| catalog.blob(*id).digest).collect()
}

pub(crate) async fn run(options: Options) -> Report {
    export::run(options).await.unwrap()
}

pub(crate) fn at(mut options: Options) -> Options {
    options.now = Some(NOW.parse().unwrap());
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_the_newest_are_combined() {
    let bench = Bench::new().await;
    for tag in [
        "41",
        "42",
        "42.1",
        "43",
        "43-rc1",
        "44",
        "44.1-debug",
        "latest",
        "rawhide",
    ] {
        bench.registry.image("a", Some(tag), &[tag.as_bytes()]);
    }
    let mut options = bench.options(&["/a"]);
    let selection = &mut options.orders[0].selection;
    selection.tags = Some(Regex::new(r"^\d").unwrap());
    selection.exclude_tags = Some(Regex::new("debug").unwrap());
    selection.semver = Some(">=42 <44".parse().unwrap());
    selection.latest = Some(2.try_into().unwrap());
    let report = run(options).await;
    bench.sound(&report);
    assert_eq!(tags(&bench, "a"), set(&["42.1", "43"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_are_no_versions_are_ordered_by_their_age() {
    let bench = Bench::new().await;
    for (tag, created) in [
        ("quiet", "2026-01-01T00:00:00Z"),
        ("loud", "2026-03-01T00:00:00Z"),
        ("calm", "2026-02-01T00:00:00Z"),
        ("odd", "yesterday"),
    ] {
        image_of(&bench, "a", tag, created);
    }
    let mut options = bench.options(&["/a"]);
    options.orders[0].selection.latest = Some(2.try_into().unwrap());
    let report = run(options).await;
    bench.sound(&report);
    assert_eq!(tags(&bench, "a"), set(&["calm", "loud"]));
    // Versions go before all others.
    image_of(&bench, "a", "1.0", "2020-01-01T00:00:00Z");
    let mut options = bench.options(&["/a"]);
    options.orders[0].selection.latest = Some(2.try_into().unwrap());
    options.orders[0].prune = true;
    let report = run(options).await;
    bench.sound(&report);
    assert_eq!(tags(&bench, "a"), set(&["1.0", "loud"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_must_be_old_enough_and_until_then_the_tag_stays() {
    let bench = Bench::new().await;
    let old = image_of(&bench, "a", "1", "2026-06-01T00:00:00Z");
    image_of(&bench, "a", "2", "2026-06-15T11:00:00Z");
    image_of(&bench, "a", "3", "never");
    let options = || {
        let mut options = at(bench.options(&["/a"]));
        options.orders[0].selection.min_age = Some(Duration::from_secs(7 * 24 * 60 * 60));
        options.orders[0].prune = true;
        options
    };
    let report = run(options()).await;
    bench.sound(&report);
    assert_eq!((report.totals.exported, report.totals.skipped), (1, 2));
    assert_eq!(tags(&bench, "a"), set(&["1"]));
    image_of(&bench, "a", "1", "2026-06-15T11:30:00Z");
    let report = run(options()).await;
    bench.sound(&report);
    assert_eq!(report.totals.skipped, 3, "{report:#?}");
    let tree = Tree::open(&bench.tree()).unwrap();
    let index = tree.index(&"a".parse().unwrap()).unwrap();
    let target = index.target(&"1".parse().unwrap()).unwrap();
    assert_eq!(target.digest, old);
    let leftovers = bench.tree().join(".~tmp~");
    assert_eq!(fs::read_dir(leftovers).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_the_real_one_does() {
    let bench = Bench::new().await;
    let (shared, large) = (noise(1, 5000), noise(2, 3 << 20));
    bench.registry.image("a", Some("1"), &[&shared]);
    bench.sound(&bench.export(&["/a"]).await);
    bench.registry.image("a", Some("2"), &[&shared, &large]);
    bench
        .registry
        .image("a", Some("3"), &[&shared, &large, b"x"]);
    let mut options = bench.options(&["/a"]);
    options.dry_run = true;
    let dry = run(options).await;
    let real = bench.export(&["/a"]).await;
    bench.sound(&real);
    assert_eq!(
        (dry.totals.pending, dry.totals.unchanged),
        (real.totals.exported, real.totals.unchanged)
    );
    assert_eq!(dry.totals.bytes_fetched, real.totals.bytes_fetched);
    assert_eq!(dry.totals.bytes_shared, real.totals.bytes_shared);
    assert!(dry.totals.bytes_fetched > 3 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_content_is_kept_byte_for_byte() {
    let bench = Bench::new().await;
    // A manifest of zstd layers, and one of an index in an index.
    let zstd = noise(3, 4000);
    let layer = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":"{}","size":4000,"annotations":{{"io.github.containers.zstd-chunked.manifest-checksum":"x"}}}}"#,
        bench.registry.blob(zstd)
    );
    let config = descriptor(
        "application/vnd.oci.image.config.v1+json",
        &bench.registry.blob("{ }"),
        3,
    );
    let content = format!(
        "{{ \"layers\" : [ {layer} ],\n \"config\":{config}, \"schemaVersion\": 2, \"mediaType\":\"{}\" }}\n",
        MediaType::OCI_MANIFEST
    );
    let manifest = MediaType::OCI_MANIFEST;
    let image = bench
        .registry
        .manifest("a", None, &manifest, content.clone());
    let inner = bench.registry.index("a", None, &[(image, "linux/amd64")]);
    bench.registry.index("a", Some("nested"), &[(inner, "")]);
    // Many layers, as an ostree-native image has.
    let layers: Vec<Vec<u8>> = (0..70).map(|seed| noise(100 + seed, 2000)).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    bench.registry.image("a", Some("ostree"), &layers);
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    let stored = fs::read(TreePath::Blob(image).under(&bench.tree())).unwrap();
    assert_eq!(stored, content.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_reads_its_sources_from_a_file() {
    let bench = Bench::new().await;
    for tag in ["1", "2", "10"] {
        bench.registry.image("a", Some(tag), &[tag.as_bytes()]);
    }
    bench.registry.image("b", Some("x"), &[b"b"]);
    let host = bench.registry.address;
    let file = bench.dir.path().join("export.toml");
    let text = format!(
        r#"
        tree = "tree"
        [defaults]
        latest = 2
        [[source]]
        from = "docker://{host}/a"
        dest-name = "team/a"
        [[source]]
        from = "{host}/b"
        [registry."{host}"]
        plain-http = true
        requests = "1000/s"
        max-concurrent = 2
        "#
    );
    fs::write(&file, &text).unwrap();
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
        program.args(["export", "--json", "--config"]).arg(&file);
        program
    };
    let output = program().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.totals.exported, 3);
    assert_eq!(tags(&bench, "team/a"), set(&["10", "2"]));
    assert_eq!(tags(&bench, "b"), set(&["x"]));
    // A flag wins over the file.
    let output = program().args(["--latest", "1", "--prune"]).output();
    let report: Report = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(report.totals.removed, 1, "{report:#?}");
    assert_eq!(tags(&bench, "team/a"), set(&["10"]));
    // What is wrong with the file is wrong usage, and named.
    fs::write(&file, format!("{text}\nmax-concurent = 2\n")).unwrap();
    let output = program().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("max-concurent"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_an_image_names_what_is_skipped() {
    let bench = Bench::new().await;
    image_of(&bench, "a", "1", "2026-06-15T11:00:00Z");
    let mut options = at(bench.options(&["/a:1"]));
    options.orders[0].selection.min_age = Some(Duration::from_secs(3600 * 24));
    let report = run(options).await;
    let image = only(&report);
    assert_eq!(image.status, Status::Skipped);
    let why = image.error.as_deref().unwrap();
    assert!(why.contains("2026-06-15T11:00:00Z"), "{why}");
    assert_eq!(report.exit(), Exit::Fine);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_entries_of_a_layout_do_not_share_a_tag() {
    let bench = Bench::new().await;
    let image = |name: &str| bench.registry.image(name, Some("1"), &[name.as_bytes()]);
    let (fedora, debian) = (image("fedora"), image("debian"));
    bench.sound(&bench.export(&["/fedora", "/debian"]).await);
    let layout = bench.tree().join("repos/fedora");
    let text = |name: &str| {
        let index = bench.tree().join(format!("repos/{name}/index.json"));
        let index: serde_json::Value = serde_json::from_slice(&fs::read(index).unwrap()).unwrap();
        let mut entry = index["manifests"][0].clone();
        entry["annotations"]["org.opencontainers.image.ref.name"] = format!("{name}:1").into();
        entry.to_string()
    };
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
        text("fedora"),
        text("debian")
    );
    let copy = bench.dir.path().join("both");
    fs::create_dir_all(copy.join("blobs/sha256")).unwrap();
    for name in ["fedora", "debian"] {
        let blobs = bench.tree().join(format!("repos/{name}/blobs/sha256"));
        for blob in fs::read_dir(blobs).unwrap() {
            let blob = blob.unwrap();
            fs::copy(
                blob.path(),
                copy.join("blobs/sha256").join(blob.file_name()),
            )
            .unwrap();
        }
    }
    fs::write(copy.join("index.json"), index).unwrap();
    fs::copy(layout.join("oci-layout"), copy.join("oci-layout")).unwrap();
    let report = bench.export(&[&format!("oci:{}", copy.display())]).await;
    assert_eq!((report.totals.exported, report.totals.failed), (1, 1));
    let error = report.failures().next().unwrap().error.clone().unwrap();
    assert!(error.contains("both:1"), "{error}");
    assert!(bench.holds(fedora) && bench.holds(debian));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_choices_from_a_repository_cost_one_list_and_ages_no_second_question() {
    let bench = Bench::new().await;
    for (tag, created) in [
        ("1.0", "2026-01-01T00:00:00Z"),
        ("calm", "2026-02-01T00:00:00Z"),
        ("loud", "2026-03-01T00:00:00Z"),
    ] {
        image_of(&bench, "a", tag, created);
    }
    let options = || {
        let mut options = bench.options(&["/a", "/a"]);
        options.orders[0].selection.tags = Some(Regex::new(r"^\d").unwrap());
        options.orders[1].selection.tags = Some(Regex::new("^[a-z]").unwrap());
        options.orders[1].selection.latest = Some(1.try_into().unwrap());
        options.orders[1].dest_name = Some("named".parse().unwrap());
        for order in &mut options.orders {
            order.prune = true;
            order.referrers = false;
        }
        options
    };
    bench.sound(&run(options()).await);
    assert_eq!(tags(&bench, "named"), set(&["loud"]));
    bench.registry.take_log();
    let report = run(options()).await;
    assert_eq!(report.totals.unchanged, 2, "{report:#?}");
    assert_eq!(bench.registry.count("GET", "/tags/list"), 1);
    assert_eq!(bench.registry.count("HEAD", "/1.0"), 1);
    assert_eq!(bench.registry.count("HEAD", "/loud"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_over_what_is_no_tree_fails_as_the_real_one_does() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    fs::write(bench.tree(), "no directory").unwrap();
    for dry_run in [false, true] {
        let mut options = bench.options(&["/a"]);
        options.dry_run = dry_run;
        assert!(export::run(options).await.is_err(), "{dry_run}");
    }
}
