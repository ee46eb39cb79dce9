//! Each peer does its real work once, so that a failure elsewhere is not the harness's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use support::peer::apache;
use support::peer::authority::Authority;
use support::peer::containerd::Containerd;
use support::peer::docker_registry::{Credentials, DockerRegistry};
use support::peer::dockerd::Dockerd;
use support::peer::nginx;
use support::peer::podman::Podman;
use support::peer::rsyncd::{self, RsyncDaemon};
use support::peer::tinyproxy::ForwardProxy;
use support::peer::{aria2, free_address, skopeo};
use support::process::Failure;
use support::samples;
use tempfile::TempDir;

#[test]
fn docker_registry_keeps_every_byte() -> Result<()> {
    let (registry, _directory) = filled_registry()?;
    let images = samples::images()?;
    for (image, manifest) in [
        ("debian:docker", images.docker.join("manifest.json")),
        (
            "debian:docker-list",
            images.docker_list.join("manifest.json"),
        ),
        (
            "debian:12",
            blob(&images.debian, &digest_of("12", &images.debian)?),
        ),
        (
            "debian:zstd",
            blob(&images.debian, &digest_of("zstd", &images.debian)?),
        ),
        (
            "app:1.0",
            blob(&images.app, &digest_of("1.0", &images.app)?),
        ),
    ] {
        let served = skopeo::manifest(&[], &docker(&registry, image))?;
        assert_eq!(served, fs::read_to_string(manifest)?, "{image}");
    }
    let last = registry
        .requests()?
        .pop()
        .context("no request was logged")?;
    assert!(last.contains("/v2/app/manifests/1.0"), "{last}");
    Ok(())
}

#[test]
fn private_docker_registry_wants_a_password() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let credentials = Credentials {
        user: "mirror".into(),
        password: "secret".into(),
    };
    let registry = DockerRegistry::start_private(credentials.clone(), directory.path())?;
    samples::fill(&registry)?;

    let refused = skopeo::list_tags(&[], &docker(&registry, "app")).unwrap_err();
    let stderr = &refused
        .downcast_ref::<Failure>()
        .context("not a failure of skopeo")?
        .stderr;
    assert!(stderr.contains("authentication required"), "{stderr}");

    let option = format!("--creds={}", credentials.to_option());
    assert_eq!(
        skopeo::list_tags(&[&option], &docker(&registry, "app"))?,
        ["1.0"]
    );

    let directory = tempfile::tempdir()?;
    let podman = Podman::new(directory.path())?;
    let host = registry.address().to_string();
    podman.login(&host, &credentials.user, &credentials.password)?;
    podman.pull(&registry.reference("debian:docker"))?;
    Ok(())
}

#[test]
fn docker_registry_restarts_in_place() -> Result<()> {
    let (mut registry, directory) = filled_registry()?;
    registry.stop();
    let registry = DockerRegistry::start_at(registry.address(), directory.path())?;
    let mut tags = skopeo::list_tags(&[], &docker(&registry, "debian"))?;
    tags.sort();
    assert_eq!(tags, ["12", "docker", "docker-list", "zstd"]);
    Ok(())
}

#[test]
fn docker_pulls_and_runs() -> Result<()> {
    let (registry, _registry_directory) = filled_registry()?;
    let directory = tempfile::tempdir()?;
    let engine = Dockerd::start(directory.path())?;
    let app = registry.reference("app:1.0");
    engine.pull(&app)?;
    assert!(engine.run(&app, &[])?.starts_with("12."));
    assert_eq!(engine.run(&app, &["app"])?.lines().count(), 3);
    assert_eq!(
        engine.repo_digests(&app)?,
        [digest_of("1.0", &samples::images()?.app)?]
    );

    engine.pull(&registry.reference("debian:docker-list"))?;
    engine.remove(&app)?;
    let error = engine.pull(&registry.reference("app:none")).unwrap_err();
    assert!(
        format!("{error:#}").contains("manifest unknown"),
        "{error:#}"
    );

    drop(engine);
    directory.close().context("docker left something behind")
}

#[test]
fn podman_pulls_and_runs() -> Result<()> {
    let (registry, _registry_directory) = filled_registry()?;
    let directory = tempfile::tempdir()?;
    let podman = Podman::new(directory.path())?;
    let app = registry.reference("app:1.0");
    podman.pull(&app)?;
    assert!(podman.run(&app, &[])?.starts_with("12."));
    assert_eq!(podman.run(&app, &["app"])?.lines().count(), 3);
    assert_eq!(
        podman.repo_digests(&app)?,
        [digest_of("1.0", &samples::images()?.app)?]
    );

    let zstd = registry.reference("debian:zstd");
    podman.pull(&zstd)?;
    assert_eq!(podman.run(&zstd, &["echo", "hello"])?, "hello\n");
    podman.remove(&app)?;

    drop(podman);
    directory.close().context("podman left something behind")
}

#[test]
fn podman_follows_its_registries_conf() -> Result<()> {
    let (registry, _registry_directory) = filled_registry()?;
    let directory = tempfile::tempdir()?;
    let podman = Podman::new(directory.path())?;
    podman.configure_registries(&format!(
        "[[registry]]\nprefix = \"example.test\"\nlocation = \"{}\"\ninsecure = true\n",
        registry.address()
    ))?;
    podman.pull("example.test/app:1.0")?;
    Ok(())
}

#[test]
fn containerd_pulls_and_runs() -> Result<()> {
    let (registry, _registry_directory) = filled_registry()?;
    let directory = tempfile::tempdir()?;
    let containerd = Containerd::start(directory.path())?;
    let app = registry.reference("app:1.0");
    containerd.pull(&app)?;
    assert!(containerd.run(&app, &[])?.starts_with("12."));
    assert_eq!(containerd.run(&app, &["app"])?.lines().count(), 3);
    assert_eq!(
        containerd.repo_digests(&app)?,
        [digest_of("1.0", &samples::images()?.app)?]
    );

    let zstd = registry.reference("debian:zstd");
    containerd.pull(&zstd)?;
    assert_eq!(containerd.run(&zstd, &["echo", "hello"])?, "hello\n");
    containerd.remove(&app)?;

    drop(containerd);
    directory
        .close()
        .context("containerd left something behind")
}

#[test]
fn skopeo_inspects_and_copies() -> Result<()> {
    let (registry, _registry_directory) = filled_registry()?;
    let app = docker(&registry, "app:1.0");
    let inspection = skopeo::inspect(&[], &app)?;
    assert_eq!(inspection["Architecture"], "amd64");
    assert_eq!(inspection["Layers"].as_array().map(Vec::len), Some(9));

    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("app");
    skopeo::copy(&[], &app, &format!("oci:{}:1.0", copy.display()))?;
    assert_eq!(
        digest_of("1.0", &copy)?,
        digest_of("1.0", &samples::images()?.app)?
    );
    Ok(())
}

#[test]
fn nginx_and_apache_serve_what_aria2_downloads() -> Result<()> {
    let tree = tree_with_large_file()?;
    let state = tempfile::tempdir()?;
    let nginx = nginx::start(tree.path(), &state.path().join("nginx"))?;
    let apache = apache::start(tree.path(), &state.path().join("apache"))?;
    for (server, url) in [("nginx", nginx.url()), ("apache", apache.url())] {
        let directory = state.path().join("from").join(server);
        aria2::download(&["--split=4"], &format!("{url}/blobs/large"), &directory)?;
        assert_eq!(fs::read(directory.join("large"))?, large_file(), "{server}");

        let missing = aria2::download(&[], &format!("{url}/blobs/none"), &directory).unwrap_err();
        let failure = missing
            .downcast_ref::<Failure>()
            .context("not a failure of aria2")?;
        assert_eq!(failure.status.code(), Some(3), "{server}");
    }
    for requests in [nginx.requests()?, apache.requests()?] {
        assert!(
            requests
                .iter()
                .any(|line| line.contains("GET /blobs/large")),
            "{requests:?}"
        );
        assert!(
            requests.iter().any(|line| line.contains("\" 404 ")),
            "{requests:?}"
        );
    }
    Ok(())
}

#[test]
fn nginx_serves_over_tls_through_tinyproxy() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let authority = Authority::new(&directory.path().join("authority"))?;
    let proxy = ForwardProxy::start(&directory.path().join("proxy"))?;
    let address = free_address()?;
    let settings = authority.nginx_settings();
    let site = format!("server {{ listen {address} ssl; {settings} return 200 hello; }}");
    let _nginx = nginx::start_site(&site, address, &directory.path().join("nginx"))?;
    let authority = format!("--ca-certificate={}", authority.certificate().display());
    let proxy_option = format!("--https-proxy={}", proxy.url());
    let (url, loaded) = (format!("https://{address}/file"), directory.path());
    let refused = aria2::download(&[&proxy_option], &url, loaded).unwrap_err();
    assert!(refused.downcast_ref::<Failure>().is_some(), "{refused:?}");
    aria2::download(&[&authority, &proxy_option], &url, loaded)?;
    assert_eq!(fs::read_to_string(loaded.join("file"))?, "hello");
    let requests = proxy.requests()?;
    assert_eq!(requests, vec![format!("CONNECT {address} HTTP/1.1"); 2]);
    Ok(())
}

#[test]
fn nginx_and_apache_refuse_what_others_may_not_read() -> Result<()> {
    let tree = tree_with_large_file()?;
    let file = tree.path().join("blobs/large");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let state = tempfile::tempdir()?;
    let nginx = nginx::start(tree.path(), &state.path().join("nginx"))?;
    let apache = apache::start(tree.path(), &state.path().join("apache"))?;
    for url in [nginx.url(), apache.url()] {
        let url = format!("{url}/blobs/large");
        let error = aria2::download(&[], &url, &state.path().join("from")).unwrap_err();
        assert!(error.to_string().contains("status=403"), "{error}");
    }
    Ok(())
}

#[test]
fn aria2_follows_a_metalink_past_a_dead_mirror() -> Result<()> {
    let tree = tree_with_large_file()?;
    let state = tempfile::tempdir()?;
    let mut dead = apache::start(tree.path(), &state.path().join("apache"))?;
    dead.stop();
    let nginx = nginx::start_at(dead.address(), tree.path(), &state.path().join("nginx"))?;
    let alive = nginx.url();
    let metalink = state.path().join("large.meta4");
    let size = large_file().len();
    fs::write(
        &metalink,
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="renamed"><size>{size}</size>
<url priority="1">{alive}/none</url><url priority="2">{alive}/blobs/large</url></file></metalink>"#
        ),
    )?;
    aria2::download(&[], &metalink.display().to_string(), state.path())?;
    assert_eq!(fs::read(state.path().join("renamed"))?, large_file());
    Ok(())
}

#[test]
fn rsync_keeps_hardlinks_and_deletes() -> Result<()> {
    let tree = tree_with_large_file()?;
    let link = tree.path().join("link");
    fs::hard_link(tree.path().join("blobs/large"), &link)?;
    let state = tempfile::tempdir()?;
    let daemon = RsyncDaemon::start("containers", tree.path(), &state.path().join("rsyncd"))?;
    let copies = [state.path().join("local"), state.path().join("remote")];
    let sources = [tree.path().display().to_string(), daemon.url()];
    for (source, copy) in sources.iter().zip(&copies) {
        rsyncd::sync(source, copy, &[])?;
        let (blob, link) = (copy.join("blobs/large"), copy.join("link"));
        assert_eq!(fs::read(&blob)?, large_file());
        assert_eq!(fs::metadata(&blob)?.ino(), fs::metadata(&link)?.ino());
    }
    fs::remove_file(link)?;
    for (source, copy) in sources.iter().zip(&copies) {
        rsyncd::sync(source, copy, &[])?;
        assert!(!copy.join("link").exists());
    }
    assert!(daemon.log()?.contains("blobs/large"));
    Ok(())
}

fn filled_registry() -> Result<(DockerRegistry, TempDir)> {
    let directory = tempfile::tempdir()?;
    let registry = DockerRegistry::start(directory.path())?;
    samples::fill(&registry)?;
    Ok((registry, directory))
}

fn docker(registry: &DockerRegistry, image: &str) -> String {
    format!("docker://{}", registry.reference(image))
}

fn digest_of(tag: &str, layout: &Path) -> Result<String> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let descriptors = index["manifests"]
        .as_array()
        .context("no manifests in the index")?;
    descriptors
        .iter()
        .find(|it| it["annotations"]["org.opencontainers.image.ref.name"] == tag)
        .and_then(|it| it["digest"].as_str().map(str::to_owned))
        .with_context(|| format!("no tag {tag} in {}", layout.display()))
}

fn blob(layout: &Path, digest: &str) -> std::path::PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn tree_with_large_file() -> Result<TempDir> {
    let tree = tempfile::tempdir()?;
    fs::create_dir(tree.path().join("blobs"))?;
    fs::write(tree.path().join("blobs/large"), large_file())?;
    Ok(tree)
}

fn large_file() -> Vec<u8> {
    (0..3_000_000_u32)
        .map(|number| number.to_le_bytes()[usize::from(number % 2 == 0)])
        .collect()
}
