//! Pulls straight from one mirror, by plain web servers with no front end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::Value;
use support::peer::containerd::Containerd;
use support::peer::docker_registry::DockerRegistry;
use support::peer::dockerd::Dockerd;
use support::peer::podman::Podman;
use support::peer::web_server::WebServer;
use support::peer::{rsyncd, skopeo};
use support::process::run;
use tempfile::TempDir;

use crate::http;
use crate::network::{IMAGES, export, fails, program, tree};
use crate::site_config::{Server, site_config};
use crate::upload::{INDEX, MANIFEST, Upload, index, small_image};

const RUN: [&str; 2] = ["cat", "/etc/debian_version"];

/// A mirror that answers pulls by itself.
struct Mirror {
    directory: TempDir,
    server: WebServer,
}

impl Mirror {
    /// A copy of a tree.
    #[track_caller]
    fn of(tree: &Path, kind: Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("containers");
        rsyncd::sync(tree, &copy, &[]).unwrap();
        Self::at(directory, kind)
    }

    /// What is in a directory already.
    #[track_caller]
    fn at(directory: TempDir, kind: Server) -> Self {
        let printed = site_config(
            kind.name(),
            &directory.path().join("containers"),
            &["--static-v2"],
        );
        let server = kind.start(&printed, &directory.path().join("state"));
        Self { directory, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn reference(&self, image: &str) -> String {
        format!("{}/{image}", self.server.address())
    }

    #[track_caller]
    fn get(&self, path: &str) -> http::Answer {
        http::get(
            &format!("{}/v2/{path}", self.server.url()),
            &[("accept-encoding", "gzip")],
        )
    }

    /// The type and the bytes of a manifest; that both `HEAD` and `GET` tell the type.
    #[track_caller]
    fn manifest(&self, name: &str, reference: &str) -> (String, Vec<u8>) {
        let path = format!("{name}/manifests/{reference}");
        let answer = self.get(&path);
        assert_eq!(answer.status.as_u16(), 200, "{path}");
        assert_eq!(answer.field("content-encoding"), "", "{path}");
        // Two manifests may be of one second and one length: a cache must not take one for the other.
        for field in ["etag", "last-modified"] {
            assert_eq!(answer.field(field), "", "{path}");
        }
        let since = [("if-modified-since", "Fri, 01 Jan 2038 00:00:00 GMT")];
        let again = http::get(&format!("{}/v2/{path}", self.server.url()), &since);
        assert_eq!(again.status.as_u16(), 200, "{path}");
        let head = http::send(
            Method::HEAD,
            &format!("{}/v2/{path}", self.server.url()),
            &[],
        );
        assert_eq!(
            head.field("content-type"),
            answer.field("content-type"),
            "{path}"
        );
        assert_eq!(head.field("content-length"), answer.body.len().to_string());
        (answer.field("content-type").to_owned(), answer.body)
    }
}

/// The descriptors in the index of a repository.
fn entries(tree: &Path, name: &str) -> Vec<Value> {
    let index = fs::read(tree.join("repos").join(name).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

#[track_caller]
fn answers_as_a_registry_does(kind: Server) {
    let mirror = Mirror::of(tree(), kind);
    let ping = mirror.get("");
    assert_eq!((ping.status.as_u16(), ping.text().as_str()), (200, "{}"));
    assert_eq!(
        ping.field("docker-distribution-api-version"),
        "registry/2.0"
    );
    for name in ["debian", "app"] {
        let mut tags = BTreeSet::new();
        for entry in entries(tree(), name) {
            let digest = entry["digest"].as_str().unwrap();
            let media_type = entry["mediaType"].as_str().unwrap().to_owned();
            let by_digest = mirror.manifest(name, digest);
            assert_eq!(by_digest.0, media_type, "{name}@{digest}");
            if let Some(tag) = entry["annotations"]["org.opencontainers.image.ref.name"].as_str() {
                assert_eq!(mirror.manifest(name, tag), by_digest, "{name}:{tag}");
                tags.insert(tag.to_owned());
            }
            let document: Value = serde_json::from_slice(&by_digest.1).unwrap();
            for child in document["manifests"].as_array().into_iter().flatten() {
                let (media_type, _) = mirror.manifest(name, child["digest"].as_str().unwrap());
                assert_eq!(media_type, child["mediaType"].as_str().unwrap());
            }
            for layer in document["layers"].as_array().into_iter().flatten() {
                let answer = mirror.get(&format!(
                    "{name}/blobs/{}",
                    layer["digest"].as_str().unwrap()
                ));
                assert_eq!(answer.body.len() as u64, layer["size"].as_u64().unwrap());
                assert_eq!(answer.field("content-type"), "application/octet-stream");
                assert_eq!(answer.field("content-encoding"), "");
            }
        }
        let list = mirror.get(&format!("{name}/tags/list"));
        assert_eq!(list.field("content-type"), "application/json");
        assert_eq!(list.json(), serde_json::json!({"name": name, "tags": tags}));
    }

    // What one repository has is not to be had from another.
    let own = |name: &str| -> BTreeSet<String> {
        let links = fs::read_dir(tree().join(format!("repos/{name}/blobs/sha256"))).unwrap();
        links
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let other = own("debian")
        .difference(&own("app"))
        .next()
        .unwrap()
        .clone();
    let digest = format!("sha256:{other}");
    for (path, status) in [
        (format!("debian/blobs/{digest}"), 200),
        (format!("app/blobs/{digest}"), 404),
        (format!("app/manifests/{digest}"), 404),
        (format!("app/blobs/sha256:{}", "0".repeat(64)), 404),
        ("app/manifests/absent".to_owned(), 404),
        ("absent/manifests/1.0".to_owned(), 404),
        ("absent/tags/list".to_owned(), 404),
        ("app/manifests/1.0.oim".to_owned(), 404),
        ("app/_manifests/1.0.oim".to_owned(), 404),
        ("app/manifests/..%2f_tags".to_owned(), 404),
        ("app/manifests/%2e%2e/_tags".to_owned(), 404),
    ] {
        assert_eq!(mirror.get(&path).status.as_u16(), status, "{path}");
    }
    let mut tags =
        skopeo::list_tags(&[], &format!("docker://{}", mirror.reference("debian"))).unwrap();
    tags.sort();
    assert_eq!(tags, ["12", "docker", "docker-list", "zstd"]);
}

#[test]
fn nginx_answers_as_a_registry_does() {
    answers_as_a_registry_does(Server::Nginx);
}

#[test]
fn apache_answers_as_a_registry_does() {
    answers_as_a_registry_does(Server::Apache);
}

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

/// Tags that a web server would take for names of files.
const ODD_TAGS: [&str; 6] = [
    "v1.gz",
    "1.0.html",
    "3.json",
    "latest.php",
    "_x.de.tgz",
    "a.oii",
];

/// A registry with two repositories, and what was exported of it.
struct Source {
    directory: TempDir,
    registry: DockerRegistry,
}

impl Source {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        let source = Self {
            directory,
            registry,
        };
        for tag in ODD_TAGS {
            small_image(&source.upload("team/app"), tag, tag.as_bytes());
        }
        small_image(&source.upload("team"), "1", b"one");
        source.export(&["team/app", "team"]);
        source
    }

    fn upload(&self, name: &str) -> Upload {
        Upload::to(&self.registry, name)
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("containers")
    }

    #[track_caller]
    fn export(&self, names: &[&str]) {
        let mut sources = vec!["--prune".to_owned()];
        sources.extend(
            names
                .iter()
                .map(|name| format!("docker://{}", self.registry.reference(name))),
        );
        export(&self.tree(), &sources);
    }
}

/// Makes the files of a tree anew; what is said of it.
#[track_caller]
fn remade(tree: &Path) -> String {
    let mut command = program("mirror-tool");
    command.args([
        "site-config",
        "nginx",
        "--host",
        "h",
        "--static-v2",
        "--tree",
    ]);
    run(command.arg(tree))
        .unwrap_or_else(|error| panic!("{error:#}"))
        .stderr
}

#[track_caller]
fn follows_the_tree(kind: Server) {
    let source = Source::new();
    let mirror = Mirror::of(&source.tree(), kind);
    let copy = mirror.path("containers");
    for tag in ODD_TAGS {
        assert_eq!(mirror.manifest("team/app", tag).0, MANIFEST, "{tag}");
    }
    assert!(remade(&copy).contains("of 0 repositories"));

    // A tag moves, from an image to an index; another goes; a repository comes.
    let app = source.upload("team/app");
    let image = small_image(&app, "new", b"new");
    app.tag("v1.gz", &index(std::slice::from_ref(&image)));
    let gone = mirror.manifest("team/app", "3.json").1;
    let gone = oci_mirror::digest::Algorithm::Sha256
        .digest(&gone)
        .to_string();
    app.delete(&gone);
    small_image(&source.upload("team/app/more"), "1", b"more");
    source.export(&["team/app", "team", "team/app/more"]);
    rsyncd::sync(source.tree(), &copy, &[]).unwrap();
    assert!(remade(&copy).contains("of 2 repositories"));
    assert_eq!(mirror.manifest("team/app", "v1.gz").0, INDEX);
    assert_eq!(mirror.manifest("team/app", "new").0, MANIFEST);
    for reference in ["3.json", &gone] {
        let answer = mirror.get(&format!("team/app/manifests/{reference}"));
        assert_eq!(answer.status.as_u16(), 404, "{reference}");
    }
    assert_eq!(mirror.manifest("team/app/more", "1").0, MANIFEST);
    let tags = mirror.get("team/app/tags/list").json()["tags"].clone();
    assert_eq!(
        tags,
        serde_json::json!([
            "1.0.html",
            "_x.de.tgz",
            "a.oii",
            "latest.php",
            "new",
            "v1.gz"
        ])
    );
    assert!(remade(&copy).contains("of 0 repositories"));

    // Half an image is not offered; when it is whole, it is.
    let layer = {
        let document: Value = serde_json::from_slice(&mirror.manifest("team", "1").1).unwrap();
        document["layers"][0]["digest"]
            .as_str()
            .unwrap()
            .replace("sha256:", "")
    };
    let path = copy.join(format!("blobs/sha256/{}/{layer}", &layer[..2]));
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(mirror.path("containers.v2/team/_made")).unwrap();
    assert!(remade(&copy).contains("1 manifests are not whole"));
    assert_eq!(mirror.get("team/manifests/1").status.as_u16(), 404);
    fs::write(&path, bytes).unwrap();
    assert!(remade(&copy).contains("of 1 repositories"));
    assert_eq!(mirror.manifest("team", "1").0, MANIFEST);

    // A repository goes, one within it stays.
    fs::remove_dir_all(copy.join("repos/team/app")).unwrap();
    rsyncd::sync(
        source.tree().join("repos/team/app/more"),
        copy.join("repos/team/app/more"),
        &["--mkpath"],
    )
    .unwrap();
    remade(&copy);
    assert_eq!(mirror.get("team/app/tags/list").status.as_u16(), 404);
    assert_eq!(mirror.manifest("team/app/more", "1").0, MANIFEST);

    // The two may be moved together.
    fs::create_dir(mirror.path("moved")).unwrap();
    for name in ["containers", "containers.v2"] {
        fs::rename(mirror.path(name), mirror.path("moved").join(name)).unwrap();
    }
    let link = mirror.path("moved/containers.v2/team/_manifests/1.oim");
    assert!(fs::metadata(link).is_ok());
}

#[test]
fn files_for_nginx_follow_the_tree() {
    follows_the_tree(Server::Nginx);
}

#[test]
fn files_for_apache_follow_the_tree() {
    follows_the_tree(Server::Apache);
}

#[test]
fn a_sync_keeps_them_up_to_date() {
    let source = Source::new();
    let directory = tempfile::tempdir().unwrap();
    let follow = |directory: &Path| {
        let mut command = program("mirror-tool");
        command.args([
            "sync",
            "--static-v2",
            "--from",
            &format!("file://{}", source.tree().display()),
        ]);
        command.arg("--tree").arg(directory.join("containers"));
        run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
    };
    follow(directory.path());
    let mirror = Mirror::at(directory, Server::Nginx);
    let before = mirror.manifest("team/app", "v1.gz");
    let moved = small_image(&source.upload("team/app"), "v1.gz", b"moved");
    source.export(&["team/app", "team"]);
    follow(mirror.directory.path());
    let after = mirror.manifest("team/app", "v1.gz");
    assert_ne!(after, before);
    // Who asked for the tag before it moved gets what it stood for: that goes only when its grace is over.
    let digest = |bytes: &[u8]| {
        oci_mirror::digest::Algorithm::Sha256
            .digest(bytes)
            .to_string()
    };
    assert_eq!(digest(&after.1), moved["digest"].as_str().unwrap());
    let blob = mirror.get(&format!("team/app/blobs/{}", digest(&before.1)));
    assert_eq!(blob.body, before.1);
}

#[test]
fn they_must_be_beside_the_tree() {
    let source = Source::new();
    for directory in [
        source.tree(),
        source.tree().join("v2"),
        source.directory.path().to_owned(),
    ] {
        let mut command = program("mirror-tool");
        command.args(["site-config", "nginx", "--host", "h", "--tree"]);
        command
            .arg(source.tree())
            .arg("--static-v2")
            .arg(&directory);
        let (code, failure) = fails(&mut command);
        assert!(code == 1 && failure.stderr.contains("beside"), "{failure}");
    }
}
