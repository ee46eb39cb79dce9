//! What each client asks of a registry, asked of the front end: an image and an index, by tag and by
//! digest, the tags of a repository, and what is attached to an image.
//!
//! Every pull is checked twice: the bytes are those that were published, and some came from a mirror.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use oci_mirror::digest::Digest;
use serde_json::Value;
use support::peer::containerd::Containerd;
use support::peer::docker_registry::DockerRegistry;
use support::peer::dockerd::Dockerd;
use support::peer::podman::Podman;
use support::peer::{crane, oras, regctl, skopeo};
use support::samples;
use tempfile::TempDir;

use crate::network::{Network, export, wait};

const SBOM: &str = "application/vnd.example.sbom";
const SIGNATURE: &str = "application/vnd.example.signature";

/// What is pulled: two indexes, one of each family, and a manifest.
const PULLED: [&str; 3] = ["debian:12", "debian:docker-list", "app:1.0"];

/// A tree whose index and single image have something attached.
fn tree() -> &'static Path {
    static TREE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, tree) = TREE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        samples::fill(&registry).unwrap();
        let file = directory.path().join("note");
        std::fs::write(&file, "what is in it\n").unwrap();
        // The registry has no referrers API, so these are listed under a tag, and found there.
        for image in ["debian:12", "app:1.0"] {
            for artifact_type in [SBOM, SIGNATURE] {
                oras::attach(artifact_type, &registry.reference(image), &file).unwrap();
            }
        }
        let tree = directory.path().join("tree");
        let sources =
            ["debian", "app"].map(|name| format!("docker://{}", registry.reference(name)));
        export(&tree, &sources);
        (directory, tree)
    });
    tree
}

/// The digest a tag stands for, as the tree has it.
fn published(image: &str) -> String {
    let (name, tag) = image.split_once(':').unwrap();
    let index = std::fs::read(tree().join("repos").join(name).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag)
        .unwrap_or_else(|| panic!("{image} is not in the tree"));
    entry["digest"].as_str().unwrap().to_owned()
}

/// The tags of the sample repository that people gave; those that list referrers are left out.
fn given(tags: Vec<String>) -> Vec<String> {
    let mut tags: Vec<String> = tags
        .into_iter()
        .filter(|tag| !tag.starts_with("sha256-"))
        .collect();
    tags.sort();
    tags
}

const TAGS: [&str; 4] = ["12", "docker", "docker-list", "zstd"];

/// Lets a client pull everything by tag and by digest, and sees to it that mirrors took part.
fn pulls(network: &Network, images: &[&str], client: impl Fn(&str, &str)) {
    for image in images {
        let digest = published(image);
        let name = image.split_once(':').unwrap().0;
        for reference in [(*image).to_owned(), format!("{name}@{digest}")] {
            let before = network.blobs_from_mirrors();
            client(&network.front_end.reference(&reference), &digest);
            // A server writes its log after it has sent the answer.
            wait(|| network.blobs_from_mirrors() > before);
        }
    }
}

/// Lets a client copy everything into layouts, and checks every byte there.
fn copies(network: &Network, images: &[&str], copy: impl Fn(&str, &Path)) {
    pulls(network, images, |reference, digest| {
        let layout = tempfile::tempdir().unwrap();
        copy(reference, layout.path());
        let mut seen = BTreeSet::new();
        check(layout.path(), digest, &mut seen);
        assert!(seen.len() > 2, "{reference}: only {seen:?}");
    });
}

/// Checks a blob of a layout against its digest, and whatever it refers to.
fn check(layout: &Path, digest: &str, seen: &mut BTreeSet<String>) {
    if !seen.insert(digest.to_owned()) {
        return;
    }
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let expected: Digest = digest.parse().unwrap();
    assert_eq!(expected.algorithm().digest(&bytes), expected);
    let Ok(document) = serde_json::from_slice::<Value>(&bytes) else {
        return;
    };
    let lists = [&document["manifests"], &document["layers"]];
    let children = lists.into_iter().filter_map(Value::as_array).flatten();
    for child in children.chain(document.get("config").filter(|it| it.is_object())) {
        if let Some(child) = child["digest"].as_str() {
            check(layout, child, seen);
        }
    }
}

#[test]
fn docker_pulls_by_tag_and_digest() {
    let network = Network::of(tree());
    let docker = Dockerd::start(&network.directory.path().join("docker")).unwrap();
    pulls(&network, &PULLED, |reference, digest| {
        docker.pull(reference).unwrap();
        let known = docker.repo_digests(reference).unwrap();
        assert!(known.contains(&digest.to_owned()), "{reference}: {known:?}");
        docker.remove(reference).unwrap();
    });
}

#[test]
fn podman_pulls_by_tag_and_digest() {
    let network = Network::of(tree());
    let podman = Podman::new(&network.directory.path().join("podman")).unwrap();
    pulls(&network, &PULLED, |reference, digest| {
        podman.pull(reference).unwrap();
        let known = podman.repo_digests(reference).unwrap();
        assert!(known.contains(&digest.to_owned()), "{reference}: {known:?}");
        podman.remove(reference).unwrap();
    });
}

#[test]
fn containerd_pulls_by_tag_and_digest() {
    let network = Network::of(tree());
    let containerd = Containerd::start(&network.directory.path().join("containerd")).unwrap();
    pulls(&network, &PULLED, |reference, digest| {
        containerd.pull(reference).unwrap();
        assert_eq!(containerd.repo_digests(reference).unwrap(), [digest]);
        containerd.remove(reference).unwrap();
    });
}

#[test]
fn skopeo_copies_and_lists() {
    let network = Network::of(tree());
    // A layout cannot have what is of Docker's types: skopeo would convert it.
    copies(&network, &["debian:12", "app:1.0"], |reference, layout| {
        let target = format!("oci:{}:pulled", layout.display());
        let options = ["--all", "--preserve-digests"];
        skopeo::copy(&options, &format!("docker://{reference}"), &target).unwrap();
    });
    let repository = format!("docker://{}", network.front_end.reference("debian"));
    assert_eq!(given(skopeo::list_tags(&[], &repository).unwrap()), TAGS);
}

#[test]
fn crane_copies_and_lists() {
    let network = Network::of(tree());
    copies(&network, &PULLED, |reference, layout| {
        crane::pull(reference, layout).unwrap();
    });
    let repository = network.front_end.reference("debian");
    assert_eq!(given(crane::tags(&repository).unwrap()), TAGS);
    let digest = crane::digest(&network.front_end.reference("app:1.0")).unwrap();
    assert_eq!(digest, published("app:1.0"));
}

#[test]
fn oras_copies_lists_and_discovers() {
    let network = Network::of(tree());
    copies(&network, &PULLED, |reference, layout| {
        oras::pull(reference, layout).unwrap();
    });
    let repository = network.front_end.reference("debian");
    assert_eq!(given(oras::tags(&repository).unwrap()), TAGS);
    for (image, wanted, found) in DISCOVERIES {
        let reference = network.front_end.reference(image);
        assert_eq!(
            oras::discover(&reference, wanted).unwrap(),
            found,
            "{image} {wanted:?}"
        );
    }
}

#[test]
fn regctl_copies_lists_and_finds_artifacts() {
    let network = Network::of(tree());
    copies(&network, &PULLED, |reference, layout| {
        regctl::pull(reference, layout).unwrap();
    });
    let repository = network.front_end.reference("debian");
    assert_eq!(given(regctl::tags(&repository).unwrap()), TAGS);
    for (image, wanted, found) in DISCOVERIES {
        let reference = network.front_end.reference(image);
        assert_eq!(
            regctl::artifacts(&reference, wanted).unwrap(),
            found,
            "{image} {wanted:?}"
        );
    }
}

/// An image, which type of artifact is asked for, and which are found.
const DISCOVERIES: [(&str, Option<&str>, &[&str]); 5] = [
    ("app:1.0", None, &[SBOM, SIGNATURE]),
    ("debian:12", None, &[SBOM, SIGNATURE]),
    ("debian:12", Some(SIGNATURE), &[SIGNATURE]),
    ("debian:12", Some("application/vnd.example.other"), &[]),
    ("debian:docker", None, &[]),
];
