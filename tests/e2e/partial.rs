//! Trees that carry a part of what was published: one platform of two.

use support::peer::docker_registry::DockerRegistry;
use support::peer::podman::Podman;
use support::peer::skopeo;
use support::process::run;
use support::samples;

use crate::network::{FrontEnd, Tools, program, verify};

#[test]
fn a_platform_left_out_is_answered_clearly_and_the_other_is_pulled_and_runs() {
    let directory = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
    let images = samples::images().unwrap();
    let layout = format!("oci:{}:12", images.debian.display());
    let source = format!("docker://{}", registry.reference("debian:12"));
    skopeo::copy(&["--all", "--preserve-digests"], &layout, &source).unwrap();
    let tree = directory.path().join("tree");
    let mut export = program("mirror-tool");
    export
        .args(["export", "--plain-http", "--platform", "linux/amd64"])
        .arg("--tree")
        .arg(&tree);
    let said = run(export.arg(&source)).unwrap().stderr;
    assert!(said.contains("left out"), "{said}");
    run(&mut verify(&tree)).unwrap();

    let front_end = FrontEnd::start(Tools::new(&tree, directory.path()));
    let index = front_end.get("/v2/debian/manifests/12", &[]);
    assert_eq!(index.text(), skopeo::manifest(&[], &source).unwrap());
    let index = index.json();
    for child in index["manifests"].as_array().unwrap() {
        let digest = child["digest"].as_str().unwrap();
        let answer = front_end.get(&format!("/v2/debian/manifests/{digest}"), &[]);
        if child["platform"]["architecture"] == "amd64" {
            assert_eq!(answer.status, 200);
            continue;
        }
        assert_eq!(answer.status, 404);
        let error = &answer.json()["errors"][0];
        assert_eq!(error["code"], "MANIFEST_UNKNOWN");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("left out") && message.contains(digest),
            "{message}"
        );
    }
    let podman = Podman::new(&directory.path().join("podman")).unwrap();
    let reference = front_end.reference("debian:12");
    podman.pull(&reference).unwrap();
    let version = podman.run(&reference, &["cat", "/etc/debian_version"]);
    assert!(version.unwrap().starts_with("12"));
}
