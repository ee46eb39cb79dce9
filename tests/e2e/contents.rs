//! Every kind of content there is in registries, from a real one through a tree and the front end to
//! a real client, byte for byte.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use oci_mirror::digest::{Algorithm, Digest};
use serde_json::{Value, json};
use support::peer::containerd::Containerd;
use support::peer::docker_registry::DockerRegistry;
use support::peer::podman::Podman;
use support::peer::{aria2, skopeo};
use support::process::{self, run};
use tempfile::TempDir;

use crate::network::{FrontEnd, Tools, export, verify};
use crate::upload::{
    CONFIG, EMPTY, GZIP, MANIFEST, TAR, Upload, config, descriptor, image, index, layer,
    small_image,
};

/// A registry to fill, and a place for all else.
struct Source {
    directory: TempDir,
    registry: DockerRegistry,
}

impl Source {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        Self {
            directory,
            registry,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// A front end over a sound tree with all tags of a repository.
    #[track_caller]
    fn publish(&self, name: &str) -> FrontEnd {
        let tree = self.path("tree");
        let report = export(&tree, &[self.url(name)]);
        assert!(report["totals"]["failed"] == 0, "{report}");
        run(&mut verify(&tree)).unwrap_or_else(|error| panic!("{error:#}"));
        FrontEnd::start(Tools::new(&tree, self.directory.path()))
    }

    fn url(&self, image: &str) -> String {
        format!("docker://{}", self.registry.reference(image))
    }

    /// skopeo copies an image through the front end and finds it to be what was published.
    #[track_caller]
    fn arrives(&self, front_end: &FrontEnd, image: &str) {
        let copy = self.path(&format!("copy-{}", image.replace([':', '/'], "-")));
        let served = format!("docker://{}", front_end.reference(image));
        let options = ["--all", "--preserve-digests"];
        skopeo::copy(&options, &served, &format!("dir:{}", copy.display()))
            .unwrap_or_else(|error| panic!("{error:#}"));
        let published = skopeo::manifest(&[], &self.url(image)).unwrap();
        let copied = fs::read_to_string(copy.join("manifest.json")).unwrap();
        assert_eq!(copied, published, "{image}");
        // skopeo has checked those it has copied; these are those it should have.
        let manifest: Value = serde_json::from_str(&published).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(manifest.get("config")) {
            let digest = blob["digest"].as_str().unwrap();
            let hex = digest.strip_prefix("sha256:").unwrap();
            let bytes = fs::read(copy.join(hex)).unwrap_or_else(|_| panic!("no {digest}"));
            assert_eq!(Algorithm::Sha256.digest(&bytes).to_string(), digest);
        }
    }
}

#[test]
fn zstd_and_zstd_chunked_layers_arrive_as_they_were_made() {
    let source = Source::start();
    let upload = Upload::to(&source.registry, "app");
    let mut text = String::new();
    for number in 0..60_000 {
        writeln!(text, "{number}").unwrap();
    }
    small_image(&upload, "plain", text.as_bytes());
    for (tag, format) in [("zstd", "zstd"), ("chunked", "zstd:chunked")] {
        // By way of a layout: within one repository the layer would not be compressed anew.
        let layout = format!("oci:{}:{tag}", source.path(tag).display());
        let compress = ["--dest-compress", "--dest-compress-format", format];
        skopeo::copy(&compress, &source.url("app:plain"), &layout).unwrap();
        let target = source.url(&format!("app:{tag}"));
        skopeo::copy(&["--preserve-digests"], &layout, &target).unwrap();
    }
    let front_end = source.publish("app");
    let podman = Podman::new(&source.path("podman")).unwrap();
    for tag in ["plain", "zstd", "chunked"] {
        source.arrives(&front_end, &format!("app:{tag}"));
        podman
            .pull(&front_end.reference(&format!("app:{tag}")))
            .unwrap();
    }
    // The clients that fetch parts of a layer find the table of its parts by these.
    let answer = front_end.get("/v2/app/manifests/chunked", &[]).json();
    let layer = &answer["layers"][0];
    assert_eq!(layer["mediaType"], format!("{TAR}+zstd"));
    let position = "io.containers.zstd-chunked.manifest-position";
    let position = layer["annotations"][position].as_str().unwrap();
    // And fetch that first: OFFSET:LENGTH:LENGTH-UNCOMPRESSED:TYPE.
    let mut numbers = position.split(':').map(|it| it.parse::<u64>().unwrap());
    let (offset, length) = (numbers.next().unwrap(), numbers.next().unwrap());
    let range = format!("bytes={offset}-{}", offset + length - 1);
    let path = format!("/v2/app/blobs/{}", layer["digest"].as_str().unwrap());
    let part = front_end.get(&path, &[("range", &range)]);
    assert_eq!(part.status, 206);
    let checksum = "io.containers.zstd-chunked.manifest-checksum";
    assert_eq!(
        Algorithm::Sha256.digest(&part.body).to_string(),
        layer["annotations"][checksum].as_str().unwrap()
    );
}

/// How many package layers a bootable image has: rpm-ostree makes 64 with the commit's and an empty one.
const PACKAGES: usize = 63;

/// Uploads what `rpm-ostree compose image` would: a layer with the commit, one for each group of
/// packages, and empty ones kept for packages to come, all of them parts of one ostree repository.
fn bootable_image(upload: &Upload, directory: &Path) {
    fs::create_dir(directory).unwrap();
    let commit = Algorithm::Sha256.digest(b"commit").hex().to_string();
    let object = |number: usize, kind: &str| {
        let hex = Algorithm::Sha256.digest(format!("{kind} {number}").as_bytes());
        let hex = hex.hex().to_string();
        format!(
            "sysroot/ostree/repo/objects/{}/{}.{kind}",
            &hex[..2],
            &hex[2..]
        )
    };
    let mut layers = vec![(
        layer(&[
            (
                "sysroot/ostree/repo/config",
                b"[core]\nrepo_version=1\nmode=bare-split-xattrs\n",
            ),
            (
                &format!(
                    "sysroot/ostree/repo/objects/{}/{}.commit",
                    &commit[..2],
                    &commit[2..]
                ),
                b"commit",
            ),
            (&object(0, "dirtree"), b"tree"),
            (&object(0, "dirmeta"), b"meta"),
        ]),
        format!("ostree export of commit {commit}"),
        json!({}),
    )];
    for number in 0..PACKAGES {
        let content = format!("content of package {number}\n").repeat(200);
        let name = format!("package{number}-1.{number}-1.fc42.x86_64");
        layers.push((
            layer(&[
                (&object(number, "file"), content.as_bytes()),
                (&object(number, "file-xattrs"), b"x"),
                (&format!("usr/share/package{number}"), content.as_bytes()),
            ]),
            name.clone(),
            json!({"ostree.components": name}),
        ));
    }
    // The same layer more than once, as it is in images in the field.
    for _ in 0..2 {
        let empty = (
            layer(&[]),
            "Reserved for new packages".to_owned(),
            json!({}),
        );
        layers.push(empty);
    }
    let mut diff_ids = Vec::new();
    let mut compress = process::program("gzip").unwrap();
    compress.args(["--no-name", "--keep", "--"]);
    for (number, (bytes, ..)) in layers.iter().enumerate() {
        let path = directory.join(number.to_string());
        fs::write(&path, bytes).unwrap();
        compress.arg(path);
        diff_ids.push(Algorithm::Sha256.digest(bytes));
    }
    run(&mut compress).unwrap();
    let descriptors = layers
        .iter()
        .enumerate()
        .map(|(number, (.., annotations))| {
            let bytes = fs::read(directory.join(format!("{number}.gz"))).unwrap();
            let mut descriptor = upload.blob(GZIP, bytes);
            descriptor["annotations"] = annotations.clone();
            descriptor
        });
    let descriptors: Vec<Value> = descriptors.collect();
    let mut config = config(&diff_ids);
    config["config"] = json!({
        "Cmd": ["/sbin/init"],
        "Labels": {
            "containers.bootc": "1",
            "ostree.bootable": "true",
            "ostree.commit": commit,
            "ostree.final-diffid": diff_ids.last().unwrap().to_string(),
            "ostree.linux": "6.14.0-63.fc42.x86_64",
            "rpmostree.inputhash": "0".repeat(64),
        },
    });
    config["history"] = layers
        .iter()
        .map(|(_, packages, _)| json!({"created": "2025-04-09T11:06:36Z", "created_by": packages}))
        .collect();
    let config = upload.blob(CONFIG, config.to_string());
    let mut manifest = image(&config, &descriptors);
    manifest["annotations"] = json!({"containers.bootc": "1", "ostree.commit": commit});
    upload.tag("42", &manifest);
}

#[test]
fn bootable_images_of_many_layers_arrive_whole_in_both_families_of_types() {
    let source = Source::start();
    bootable_image(
        &Upload::to(&source.registry, "fedora/bootc"),
        &source.path("layers"),
    );
    skopeo::copy(
        &["--format=v2s2"],
        &source.url("fedora/bootc:42"),
        &source.url("fedora/bootc:42-docker"),
    )
    .unwrap();
    let front_end = source.publish("fedora/bootc");
    let podman = Podman::new(&source.path("podman")).unwrap();
    for image in ["fedora/bootc:42", "fedora/bootc:42-docker"] {
        source.arrives(&front_end, image);
        let reference = front_end.reference(image);
        podman.pull(&reference).unwrap();
        let inspected = skopeo::inspect(&[], &format!("docker://{reference}")).unwrap();
        assert_eq!(
            inspected["Layers"].as_array().map(Vec::len),
            Some(PACKAGES + 3)
        );
        for label in ["containers.bootc", "ostree.bootable", "ostree.final-diffid"] {
            assert!(inspected["Labels"][label].is_string(), "{inspected}");
        }
        let digests = podman.repo_digests(&reference).unwrap();
        let published = inspected["Digest"].as_str().unwrap().to_owned();
        assert!(digests.contains(&published), "{digests:?} {published}");
    }
}

#[test]
fn a_cosign_signature_comes_along_although_only_the_image_was_asked_for() {
    let source = Source::start();
    let upload = Upload::to(&source.registry, "app");
    let signed = small_image(&upload, "1.0", b"signed");
    small_image(&upload, "2.0", b"another");
    let digest = signed["digest"].as_str().unwrap();
    // As `cosign sign` writes it.
    let payload = json!({"critical": {
        "identity": {"docker-reference": "registry.example.org/app"},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }, "optional": null});
    let payload = payload.to_string();
    let simple_signing = "application/vnd.dev.cosign.simplesigning.v1+json";
    let mut content = upload.blob(simple_signing, payload.as_str());
    content["annotations"] = json!({"dev.cosignproject.cosign/signature": "MEUCIQ=="});
    let config = config(&[Algorithm::Sha256.digest(payload.as_bytes())]);
    let config = upload.blob(CONFIG, config.to_string());
    let tag = format!("{}.sig", digest.replace(':', "-"));
    upload.tag(&tag, &image(&config, &[content]));

    let front_end = source.publish("app:1.0");
    source.arrives(&front_end, "app:1.0");
    source.arrives(&front_end, &format!("app:{tag}"));
    let repository = format!("docker://{}", front_end.reference("app"));
    let mut tags = skopeo::list_tags(&[], &repository).unwrap();
    tags.sort();
    assert_eq!(tags, ["1.0".to_owned(), tag]);
}

#[test]
fn an_artifact_with_a_subject_is_listed_among_its_referrers() {
    let source = Source::start();
    let upload = Upload::to(&source.registry, "app");
    let subject = small_image(&upload, "1.0", b"described");
    let digest = subject["digest"].as_str().unwrap();
    let empty = upload.blob(EMPTY, "{}");
    let sbom = upload.blob("application/spdx+json", r#"{"spdxVersion":"SPDX-2.3"}"#);
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/spdx+json",
        "config": empty,
        "layers": [sbom],
        "subject": subject,
        "annotations": {"org.opencontainers.image.created": "2025-04-09T11:06:36Z"},
    });
    let mut listed = upload.manifest(&artifact);
    listed["artifactType"] = artifact["artifactType"].clone();
    listed["annotations"] = artifact["annotations"].clone();
    // This registry does not know the referrers API, so clients keep the list under a tag.
    let fallback = digest.replace(':', "-");
    upload.tag(&fallback, &index(std::slice::from_ref(&listed)));

    let front_end = source.publish("app:1.0");
    let referrers = front_end.get(&format!("/v2/app/referrers/{digest}"), &[]);
    assert_eq!(referrers.status, 200);
    assert_eq!(referrers.json()["manifests"], json!([listed]));
    let path = format!("/v2/app/referrers/{digest}?artifactType=application/x.other");
    let others = front_end.get(&path, &[]);
    assert_eq!(others.json()["manifests"], json!([]));
    assert_eq!(others.field("oci-filters-applied"), "artifactType");
    let artifact = format!("app@{}", listed["digest"].as_str().unwrap());
    source.arrives(&front_end, &artifact);
}

#[test]
fn an_index_within_an_index_is_pulled_by_containerd() {
    let source = Source::start();
    let upload = Upload::to(&source.registry, "app");
    let mut children = Vec::new();
    for (architecture, content) in [("amd64", b"x86"), ("arm64", b"arm")] {
        let bytes = layer(&[("content", content)]);
        let mut config = config(&[Algorithm::Sha256.digest(&bytes)]);
        config["architecture"] = architecture.into();
        let config = upload.blob(CONFIG, config.to_string());
        let mut child = upload.manifest(&image(&config, &[upload.blob(TAR, bytes)]));
        child["platform"] = json!({"os": "linux", "architecture": architecture});
        children.push(child);
    }
    let inner = upload.manifest(&index(&children));
    let outer = upload.tag("nested", &index(std::slice::from_ref(&inner)));

    let front_end = source.publish("app");
    let digest = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_owned();
    for (reference, expected) in [("nested".to_owned(), &outer), (digest(&inner), &inner)] {
        let answer = front_end.get(&format!("/v2/app/manifests/{reference}"), &[]);
        assert_eq!(answer.field("docker-content-digest"), digest(expected));
        assert_eq!(
            Algorithm::Sha256.digest(&answer.body).to_string(),
            digest(expected)
        );
    }
    let containerd = Containerd::start(&source.path("containerd")).unwrap();
    let reference = front_end.reference("app:nested");
    containerd.pull(&reference).unwrap();
    assert_eq!(
        containerd.repo_digests(&reference).unwrap(),
        [digest(&outer)]
    );
    source.arrives(&front_end, &format!("app@{}", digest(&inner)));
}

/// By aria2, which checks it against the metalink: no engine of Debian 12 takes such a layer, since
/// their stores know sha-256 only.
#[test]
fn a_layer_under_a_sha512_digest_keeps_that_name() {
    let source = Source::start();
    let upload = Upload::to(&source.registry, "app");
    let bytes = layer(&[("content", b"of another digest")]);
    let config = config(&[Algorithm::Sha256.digest(&bytes)]);
    let config = upload.blob(CONFIG, config.to_string());
    let long: Digest = Algorithm::Sha512.digest(&bytes);
    let content = upload.blob_under(Algorithm::Sha512, TAR, bytes.as_slice());
    assert_eq!(content, descriptor(TAR, long, bytes.len()));
    upload.tag("sha512", &image(&config, &[content]));

    let front_end = source.publish("app");
    let published = skopeo::manifest(&[], &source.url("app:sha512")).unwrap();
    let served = front_end.get("/v2/app/manifests/sha512", &[]);
    assert_eq!(served.text(), published);
    let url = front_end.url(&format!("/v2/app/blobs/{long}"));
    let said = aria2::download(&["--follow-metalink=mem"], &url, &source.path("loaded")).unwrap();
    let name = long.to_string().replace(':', "-");
    let loaded = fs::read(source.path("loaded").join(name));
    assert_eq!(loaded.unwrap_or_else(|_| panic!("{}", said.stdout)), bytes);
    assert!(
        said.stdout.contains("Verification finished successfully"),
        "{}",
        said.stdout
    );
}
