//! Real engines pull through the front end; the bytes come from mirrors and the images run.

use support::peer::containerd::Containerd;
use support::peer::dockerd::Dockerd;
use support::peer::podman::Podman;
use support::peer::skopeo;

use crate::network::{IMAGES, Network, tree};

const RUN: [&str; 2] = ["cat", "/etc/debian_version"];

/// The engines of Debian 12 that cannot unpack zstd layers skip that image.
fn images_without_zstd() -> impl Iterator<Item = &'static str> {
    IMAGES.into_iter().filter(|image| !image.contains("zstd"))
}

#[test]
fn docker_pulls_from_mirrors_and_runs() {
    let network = Network::start();
    let docker = Dockerd::start(&network.directory.path().join("docker")).unwrap();
    for image in images_without_zstd() {
        docker.pull(&network.front_end.reference(image)).unwrap();
    }
    assert!(
        network.blobs_from_mirrors() > 0,
        "every blob came from the front end"
    );
    let version = docker
        .run(&network.front_end.reference("app:1.0"), &RUN)
        .unwrap();
    assert!(version.starts_with("12"), "{version}");
}

#[test]
fn podman_pulls_from_mirrors_and_runs() {
    let network = Network::start();
    let podman = Podman::new(&network.directory.path().join("podman")).unwrap();
    for image in IMAGES {
        podman.pull(&network.front_end.reference(image)).unwrap();
    }
    assert!(
        network.blobs_from_mirrors() > 0,
        "every blob came from the front end"
    );
    let version = podman
        .run(&network.front_end.reference("debian:zstd"), &RUN)
        .unwrap();
    assert!(version.starts_with("12"), "{version}");
}

#[test]
fn containerd_pulls_from_mirrors_and_runs() {
    let network = Network::start();
    let containerd = Containerd::start(&network.directory.path().join("containerd")).unwrap();
    for image in IMAGES {
        containerd
            .pull(&network.front_end.reference(image))
            .unwrap();
    }
    assert!(
        network.blobs_from_mirrors() > 0,
        "every blob came from the front end"
    );
    let version = containerd
        .run(&network.front_end.reference("app:1.0"), &RUN)
        .unwrap();
    assert!(version.starts_with("12"), "{version}");
}

#[test]
fn skopeo_copies_all_platforms_with_unchanged_digests() {
    let network = Network::start();
    let source = format!("docker://{}", network.front_end.reference("debian:12"));
    let copy = network.directory.path().join("copy");
    skopeo::copy(
        &["--all", "--preserve-digests"],
        &source,
        &format!("oci:{}:12", copy.display()),
    )
    .unwrap();
    let published = skopeo::manifest(&[], &source).unwrap();
    let copied = skopeo::manifest(&[], &format!("oci:{}:12", copy.display())).unwrap();
    assert_eq!(published, copied);
    assert!(
        network.blobs_from_mirrors() > 0,
        "every blob came from the front end"
    );
    let mut tags = skopeo::list_tags(
        &[],
        &format!("docker://{}", network.front_end.reference("debian")),
    )
    .unwrap();
    tags.sort();
    assert_eq!(tags, ["12", "docker", "docker-list", "zstd"]);
}

#[test]
fn skopeo_reads_a_repository_straight_from_the_tree() {
    let directory = tempfile::tempdir().unwrap();
    for (image, tag) in [("debian", "12"), ("debian", "zstd"), ("app", "1.0")] {
        let source = format!("oci:{}:{tag}", tree().join("repos").join(image).display());
        let target = format!("oci:{}:{tag}", directory.path().join(image).display());
        skopeo::copy(&["--all"], &source, &target).unwrap();
        assert_eq!(
            skopeo::manifest(&[], &source).unwrap(),
            skopeo::manifest(&[], &target).unwrap()
        );
    }
}
