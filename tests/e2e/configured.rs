//! The front end where clients are told to look before, or instead of, another registry.
//!
//! What is pulled is named by the other registry, which keeps count of what it is asked; before the
//! front end stands an nginx, which keeps count too and gives it a public name and TLS.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::peer::authority::Authority;
use support::peer::containerd::Containerd;
use support::peer::docker_registry::DockerRegistry;
use support::peer::dockerd::Dockerd;
use support::peer::podman::Podman;
use support::peer::web_server::WebServer;
use support::peer::{crane, free_address, nginx};
use support::process::{program, run};
use support::samples;
use tempfile::TempDir;

use crate::http;
use crate::network::{Network, export, wait};

/// A registry, its mirror network, and an nginx before the front end of that.
struct Scene {
    upstream: DockerRegistry,
    network: Network,
    before: WebServer,
    directory: TempDir,
}

impl Scene {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let upstream = DockerRegistry::start(&directory.path().join("upstream")).unwrap();
        samples::fill(&upstream).unwrap();
        let tree = directory.path().join("tree");
        export(&tree, &[format!("docker://{}", upstream.reference("app"))]);
        let network = Network::of(&tree);
        let before = proxy(&network, "", &directory.path().join("before"));
        Self {
            upstream,
            network,
            before,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the other registry and the front end are asked while something is done, less the question
    /// whether they are registries; and how many blobs mirrors send.
    fn watch(&self, act: impl FnOnce()) -> Asked {
        let before = self.counted();
        act();
        let after = self.counted();
        let since = |lines: &[String], seen: usize| {
            let new = lines[seen..].iter();
            // What is no request is a client that tries whether TLS is spoken.
            let asked = new.filter(|line| line.contains(" /v2/") && !line.contains(" /v2/ "));
            asked.cloned().collect::<Vec<String>>()
        };
        Asked {
            upstream: since(&after.0, before.0.len()),
            front_end: since(&after.1, before.1.len()),
            from_mirrors: after.2 - before.2,
        }
    }

    /// The requests of the other registry and of the front end, and how many blobs mirrors have sent: when
    /// no more are added, since a server writes its log after it has sent the answer.
    fn counted(&self) -> (Vec<String>, Vec<String>, usize) {
        let count = || {
            let lists = [self.upstream.requests(), self.before.requests()];
            let [upstream, front_end] = lists.map(Result::unwrap);
            (upstream, front_end, self.network.blobs_from_mirrors())
        };
        let mut last = count();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = count();
            if now == last {
                return now;
            }
            last = now;
        }
    }

    fn manifest(&self) -> String {
        crane::digest(&self.upstream.reference("app:1.0")).unwrap()
    }
}

struct Asked {
    upstream: Vec<String>,
    front_end: Vec<String>,
    from_mirrors: usize,
}

impl Asked {
    #[track_caller]
    fn only_the_front_end(&self) {
        assert_eq!(self.upstream, [""; 0]);
        assert!(!self.front_end.is_empty());
        assert!(self.from_mirrors > 0, "{:?}", self.front_end);
    }

    #[track_caller]
    fn only_the_upstream(&self) {
        assert_eq!(self.front_end, [""; 0]);
        assert!(!self.upstream.is_empty());
    }
}

/// nginx before a front end; `settings` may give it TLS.
fn proxy(network: &Network, settings: &str, state: &Path) -> WebServer {
    let (address, front_end) = (free_address().unwrap(), &network.front_end.address);
    let tls = if settings.is_empty() { "" } else { "ssl" };
    let site = format!(
        "server {{
            listen {address} {tls};
            {settings}
            location / {{
                proxy_pass http://{front_end};
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_set_header X-Forwarded-Proto $scheme;
                proxy_set_header X-Forwarded-Host $http_host;
            }}
        }}"
    );
    nginx::start_site(&site, address, state).unwrap()
}

/// `registries.conf` with the front end as a mirror of the other registry.
fn registries(scene: &Scene, pull_from_mirror: &str) -> String {
    let (upstream, mirror) = (scene.upstream.address(), scene.before.address());
    format!(
        "[[registry]]\nlocation = \"{upstream}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n\
         pull-from-mirror = \"{pull_from_mirror}\"\n"
    )
}

#[test]
fn podman_asks_a_mirror_for_what_it_is_configured_for() {
    let scene = Scene::start();
    let podman = Podman::new(&scene.path("podman")).unwrap();
    let tagged = scene.upstream.reference("app:1.0");
    let by_digest = scene
        .upstream
        .reference(&format!("app@{}", scene.manifest()));
    let pull = |reference: &str| {
        scene.watch(|| {
            podman.pull(reference).unwrap();
            podman.remove(reference).unwrap();
        })
    };
    podman
        .configure_registries(&registries(&scene, "digest-only"))
        .unwrap();
    pull(&tagged).only_the_upstream();
    pull(&by_digest).only_the_front_end();
    podman
        .configure_registries(&registries(&scene, "all"))
        .unwrap();
    pull(&tagged).only_the_front_end();
    pull(&by_digest).only_the_front_end();
}

#[test]
fn podman_goes_to_the_registry_for_what_the_mirror_has_not() {
    let scene = Scene::start();
    let podman = Podman::new(&scene.path("podman")).unwrap();
    podman
        .configure_registries(&registries(&scene, "all"))
        .unwrap();
    let asked = scene.watch(|| {
        podman.pull(&scene.upstream.reference("debian:12")).unwrap();
    });
    assert!(
        asked.front_end[0].contains(" 404 "),
        "{:?}",
        asked.front_end
    );
    assert!(asked.upstream.iter().any(|line| line.contains("/blobs/")));
}

#[test]
fn skopeo_asks_a_mirror_for_what_it_is_configured_for() {
    let scene = Scene::start();
    let config = scene.path("registries.conf");
    let copy = |reference: &str, pull_from_mirror: &str| {
        std::fs::write(&config, registries(&scene, pull_from_mirror)).unwrap();
        let target = tempfile::tempdir().unwrap();
        let mut skopeo = program("skopeo").unwrap();
        skopeo.arg("--registries-conf").arg(&config);
        skopeo.args(["copy", &format!("docker://{reference}")]);
        skopeo.arg(format!("oci:{}:pulled", target.path().display()));
        scene.watch(|| drop(run(&mut skopeo).unwrap()))
    };
    let tagged = scene.upstream.reference("app:1.0");
    let by_digest = scene
        .upstream
        .reference(&format!("app@{}", scene.manifest()));
    copy(&tagged, "digest-only").only_the_upstream();
    copy(&by_digest, "digest-only").only_the_front_end();
    copy(&tagged, "all").only_the_front_end();
}

#[test]
fn containerd_asks_a_host_for_what_it_is_capable_of() {
    let scene = Scene::start();
    let containerd = Containerd::start(&scene.path("containerd")).unwrap();
    let hosts = scene.path("hosts");
    let upstream = scene.upstream.address();
    let directory = hosts.join(upstream.to_string());
    std::fs::create_dir_all(&directory).unwrap();
    let options = ["--hosts-dir", hosts.to_str().unwrap()];
    let tagged = scene.upstream.reference("app:1.0");
    let pull = |capabilities: &str| {
        let mirror = scene.before.url();
        let text = format!(
            "server = \"http://{upstream}\"\n[host.\"{mirror}\"]\ncapabilities = [{capabilities}]\n"
        );
        std::fs::write(directory.join("hosts.toml"), text).unwrap();
        scene.watch(|| {
            containerd.pull_with(&options, &tagged).unwrap();
            containerd.remove(&tagged).unwrap();
        })
    };

    let asked = pull("\"pull\", \"resolve\"");
    asked.only_the_front_end();
    // Which registry it stands in for is said with every request, and makes no difference.
    let named = format!("?ns={}", upstream.to_string().replace(':', "%3A"));
    for line in &asked.front_end {
        assert!(line.contains(&named), "{line}");
    }

    let asked = pull("\"pull\"");
    let [resolved] = asked.upstream.as_slice() else {
        panic!("{:?}", asked.upstream);
    };
    assert!(
        resolved.contains("\"HEAD /v2/app/manifests/1.0"),
        "{resolved}"
    );
    assert!(asked.from_mirrors > 0, "{:?}", asked.front_end);
}

#[test]
fn docker_takes_the_library_from_its_registry_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = DockerRegistry::start(&directory.path().join("upstream")).unwrap();
    samples::fill(&upstream).unwrap();
    let tree = directory.path().join("tree");
    let source = format!("docker://{}", upstream.reference("app"));
    let arguments = ["--dest-name".to_owned(), "library/app".to_owned(), source];
    export(&tree, &arguments);
    let network = Network::of(&tree);
    let before = proxy(&network, "", &directory.path().join("before"));
    let mirror = format!("--registry-mirror={}", before.url());
    let docker = Dockerd::start_with(&[&mirror], &directory.path().join("docker")).unwrap();
    docker.pull("app:1.0").unwrap();
    let requests = before.requests().unwrap();
    let resolved = |line: &String| line.contains("/v2/library/app/manifests/1.0 ");
    assert!(requests.iter().any(resolved), "{requests:?}");
    wait(|| network.blobs_from_mirrors() > 0);
}

#[test]
fn clients_verify_a_proxy_before_the_front_end() {
    let scene = Scene::start();
    let authority = Authority::new(&scene.path("authority")).unwrap();
    let proxy = proxy(
        &scene.network,
        &authority.nginx_settings(),
        &scene.path("tls"),
    );
    let image = format!("{}/app:1.0", proxy.address());
    let podman = Podman::new(&scene.path("podman")).unwrap();
    let trusted = scene.path("trusted");
    std::fs::create_dir(&trusted).unwrap();
    // Without the authority's certificate nothing is pulled, so that what follows shows something.
    assert!(podman.pull_verified(&trusted, &image).is_err());
    std::fs::copy(authority.certificate(), trusted.join("authority.crt")).unwrap();
    podman.pull_verified(&trusted, &image).unwrap();

    let crane = |trust: &dyn Fn(&mut Command)| {
        let layout = tempfile::tempdir().unwrap();
        let mut crane = crane::client().unwrap();
        trust(&mut crane);
        run(crane
            .args(["pull", "--format=oci", &image])
            .arg(layout.path()))
    };
    assert!(crane(&|_| ()).is_err());
    crane(&|crane| {
        crane.env("SSL_CERT_FILE", authority.certificate());
    })
    .unwrap();
    assert!(scene.network.blobs_from_mirrors() > 0);

    // Whatever names itself does so by the name and the scheme that the client knows.
    let url = |path: &str| format!("https://{}{path}", proxy.address());
    let ask = |path: &str| {
        let fields = [("host", "registry.example")];
        http::get_trusting(&authority.certificate(), &url(path), &fields)
    };
    let (layer, _) = scene.network.front_end.largest_layer("app", "1.0");
    let redirect = ask(&layer);
    let described = format!("<https://registry.example{layer}?metalink>; rel=describedby");
    assert_eq!(redirect.status, 302);
    let links = redirect.headers.get_all("link").iter();
    let mut links = links.map(|link| link.to_str().unwrap());
    assert!(
        links.any(|link| link.starts_with(&described)),
        "{:?}",
        redirect.headers
    );
    let metalink = ask(&format!("{layer}?metalink"));
    assert!(
        metalink
            .text()
            .contains(&format!(">https://registry.example{layer}")),
        "{}",
        metalink.text()
    );
    let tags = ask("/v2/app/tags/list?n=1");
    assert_eq!(tags.status, 200);
}
