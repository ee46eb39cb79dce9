//! Exporting from a real registry, and what the tree is worth afterwards.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use support::peer::docker_registry::{Credentials, DockerRegistry};
use support::peer::rsyncd;
use support::process::run;
use support::samples;

use crate::network::{IMAGES, export, fails, program, tree, verify};

#[test]
fn the_exported_tree_verifies_until_one_byte_is_flipped() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("tree");
    rsyncd::sync(tree(), &copy, &[]).unwrap();
    run(&mut verify(&copy)).unwrap();

    let state = std::fs::read_to_string(copy.join("repos/app/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&state).unwrap();
    let digest = index["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .trim_start_matches("sha256:")
        .to_owned();
    let name = format!("blobs/sha256/{}/{digest}", &digest[..2]);
    let mut bytes = std::fs::read(copy.join(&name)).unwrap();
    bytes[3] ^= 1;
    std::fs::write(copy.join(&name), bytes).unwrap();
    let (code, failure) = fails(&mut verify(&copy));
    assert_eq!(code, 3, "{failure}");
    assert!(failure.stdout.contains(&name), "{failure}");
}

#[test]
fn a_second_export_fetches_nothing_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
    samples::fill(&registry).unwrap();
    let tree = directory.path().join("tree");
    let sources = ["debian", "app"].map(|name| format!("docker://{}", registry.reference(name)));
    export(&tree, &sources);
    let files = |directory: &Path| {
        let mut found = Vec::new();
        let mut pending = vec![directory.to_owned()];
        while let Some(path) = pending.pop() {
            let metadata = std::fs::metadata(&path).unwrap();
            if metadata.is_dir() && !path.ends_with(".~tmp~") {
                pending.extend(
                    std::fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            } else if !metadata.is_dir() {
                found.push((
                    path,
                    metadata.ino(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                    metadata.size(),
                ));
            }
        }
        found.sort();
        found
    };
    let (before, asked) = (files(&tree), registry.requests().unwrap().len());
    let report = export(&tree, &sources);
    let images = report["images"].as_array().unwrap();
    assert_eq!(images.len(), IMAGES.len());
    assert!(
        images.iter().all(|image| image["status"] == "unchanged"),
        "{report}"
    );
    assert_eq!(files(&tree), before);
    let requests = registry.requests().unwrap();
    let news: Vec<&str> = requests[asked..].iter().map(String::as_str).collect();
    let heads = news.iter().filter(|line| line.contains("HEAD")).count();
    assert_eq!(
        (
            heads,
            news.iter().filter(|line| line.contains("/blobs/")).count()
        ),
        (IMAGES.len(), 0),
        "{news:#?}"
    );
    assert!(news.len() <= IMAGES.len() + sources.len(), "{news:#?}");
}

#[test]
fn a_private_registry_needs_the_credentials_podman_has() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = Credentials {
        user: "release".to_owned(),
        password: "s3cret".to_owned(),
    };
    let registry =
        DockerRegistry::start_private(credentials, &directory.path().join("registry")).unwrap();
    samples::fill(&registry).unwrap();
    let source = format!("docker://{}", registry.reference("app:1.0"));
    let authfile = directory.path().join("auth.json");
    let mut command = program("mirror-tool");
    command
        .args(["export", "--plain-http", "--tree"])
        .arg(directory.path().join("tree"))
        .arg(&source);
    command
        .env("HOME", directory.path())
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("DOCKER_CONFIG");
    let (code, failure) = fails(&mut command);
    assert_eq!(code, 1, "{failure}");
    assert!(
        failure.stderr.contains("app") && failure.stderr.contains("401"),
        "{failure}"
    );
    assert!(!failure.stderr.contains("s3cret"));

    let auth = base64::engine::general_purpose::STANDARD.encode("release:s3cret");
    let auths = serde_json::json!({"auths": {registry.address().to_string(): {"auth": auth}}});
    std::fs::write(&authfile, auths.to_string()).unwrap();
    run(command.arg("--authfile").arg(&authfile)).unwrap();
    run(&mut verify(&directory.path().join("tree"))).unwrap();
}

#[test]
fn a_layout_made_by_skopeo_can_be_exported() {
    let directory = tempfile::tempdir().unwrap();
    let images = samples::images().unwrap();
    let tree = directory.path().join("tree");
    let report = export(&tree, &[format!("oci:{}", images.debian.display())]);
    assert_eq!(
        report["images"].as_array().map(Vec::len),
        Some(2),
        "{report}"
    );
    run(&mut verify(&tree)).unwrap();
    let listed = run(program("mirror-tool").args(["list", "--tree"]).arg(&tree))
        .unwrap()
        .stdout;
    assert!(
        listed.contains("debian") && listed.contains("12") && listed.contains("zstd"),
        "{listed}"
    );
}
