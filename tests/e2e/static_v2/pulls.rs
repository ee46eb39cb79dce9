//! The real clients.

use super::*;

#[track_caller]
fn docker_pulls(kind: Server) {
    let mirror = Mirror::of(tree(), kind);
    let docker = Dockerd::start(&mirror.path("docker")).unwrap();
    // The docker of Debian 12 cannot unpack zstd.
    for image in IMAGES.into_iter().filter(|image| !image.contains("zstd")) {
        docker.pull(&mirror.reference(image)).unwrap();
    }
    let version = docker.run(&mirror.reference("app:1.0"), &RUN).unwrap();
    assert!(version.starts_with("12"), "{version}");
}

#[track_caller]
fn podman_pulls(kind: Server) {
    let mirror = Mirror::of(tree(), kind);
    let podman = Podman::new(&mirror.path("podman")).unwrap();
    for image in IMAGES {
        podman.pull(&mirror.reference(image)).unwrap();
    }
    let version = podman.run(&mirror.reference("debian:zstd"), &RUN).unwrap();
    assert!(version.starts_with("12"), "{version}");
}

#[track_caller]
fn containerd_pulls(kind: Server) {
    let mirror = Mirror::of(tree(), kind);
    let containerd = Containerd::start(&mirror.path("containerd")).unwrap();
    for image in IMAGES {
        containerd.pull(&mirror.reference(image)).unwrap();
    }
    let version = containerd.run(&mirror.reference("app:1.0"), &RUN).unwrap();
    assert!(version.starts_with("12"), "{version}");
}

#[test]
fn docker_pulls_from_nginx() {
    docker_pulls(Server::Nginx);
}

#[test]
fn docker_pulls_from_apache() {
    docker_pulls(Server::Apache);
}

#[test]
fn podman_pulls_from_nginx() {
    podman_pulls(Server::Nginx);
}

#[test]
fn podman_pulls_from_apache() {
    podman_pulls(Server::Apache);
}

#[test]
fn containerd_pulls_from_nginx() {
    containerd_pulls(Server::Nginx);
}

#[test]
fn containerd_pulls_from_apache() {
    containerd_pulls(Server::Apache);
}
