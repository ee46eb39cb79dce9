//! The ways to a source registry that is not simply there: TLS of one's own authority, and a proxy.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::peer::authority::Authority;
use support::peer::docker_registry::DockerRegistry;
use support::peer::tinyproxy::ForwardProxy;
use support::peer::web_server::WebServer;
use support::peer::{free_address, nginx};
use support::process::run;
use tempfile::TempDir;

use crate::network::{fails, program};
use crate::upload::{Upload, small_image};

/// A registry that can be reached as it is, and behind nginx over TLS.
struct Source {
    tls: WebServer,
    authority: Authority,
    registry: DockerRegistry,
    directory: TempDir,
}

impl Source {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        small_image(&Upload::to(&registry, "app"), "1.0", b"content");
        let authority = Authority::new(&directory.path().join("authority")).unwrap();
        let address = free_address().unwrap();
        let site = format!(
            "server {{
                listen {address} ssl;
                {}
                location / {{
                    proxy_pass {};
                    proxy_set_header Host $http_host;
                    proxy_set_header X-Forwarded-Proto https;
                }}
            }}",
            authority.nginx_settings(),
            registry.url(),
        );
        let tls = nginx::start_site(&site, address, &directory.path().join("nginx")).unwrap();
        Self {
            tls,
            authority,
            registry,
            directory,
        }
    }

    /// An export over TLS into a tree that is not there yet.
    fn export(&self, options: &[&str]) -> Command {
        self.export_from(&self.tls.address().to_string(), options)
    }

    fn export_from(&self, host: &str, options: &[&str]) -> Command {
        let tree = self.directory.path().join("tree");
        drop(std::fs::remove_dir_all(&tree));
        let mut command = program("mirror-tool");
        command.args(["export", "--tree"]).arg(&tree);
        command.args(options).arg(format!("docker://{host}/app"));
        command
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_at_once_and_said() {
    let source = Source::start();
    let another = Authority::new(&source.directory.path().join("another")).unwrap();
    let another = another.certificate();
    for options in [&[][..], &["--tls-ca", text(&another)]] {
        let began = Instant::now();
        let (code, failure) = fails(&mut source.export(options));
        assert_eq!(code, 1, "{failure}");
        let host = source.tls.address().to_string();
        assert!(
            failure.stderr.contains("--tls-ca") && failure.stderr.contains(&host),
            "{failure}"
        );
        // Asking again would not make it better.
        assert!(began.elapsed() < Duration::from_secs(5), "{failure}");
    }
}

#[test]
fn tls_ca_and_insecure_skip_tls_verify_each_open_the_way() {
    let source = Source::start();
    let authority = source.authority.certificate();
    for options in [
        &["--tls-ca", text(&authority)][..],
        &["--insecure-skip-tls-verify"],
    ] {
        run(&mut source.export(options)).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn a_file_of_authorities_that_is_none_is_named() {
    let source = Source::start();
    let key = source.directory.path().join("registry/config.json");
    for file in [key.as_path(), Path::new("/nowhere.pem")] {
        let (_, failure) = fails(&mut source.export(&["--tls-ca", text(file)]));
        assert!(failure.stderr.contains(text(file)), "{failure}");
    }
}

#[test]
fn the_wrong_protocol_is_said_both_ways() {
    let source = Source::start();
    let tls = source.tls.address().to_string();
    let (code, failure) = fails(&mut source.export(&["--plain-http"]));
    assert_eq!(code, 1, "{failure}");
    assert!(
        failure.stderr.contains(&tls) && failure.stderr.contains("400"),
        "{failure}"
    );
    let plain = source.registry.address().to_string();
    let (code, failure) = fails(&mut source.export_from(&plain, &["--retries", "0"]));
    assert_eq!(code, 1, "{failure}");
    assert!(failure.stderr.contains(&plain), "{failure}");
}

#[test]
fn the_proxy_of_the_environment_is_used_and_no_proxy_heeded() {
    let source = Source::start();
    let proxy = ForwardProxy::start(&source.directory.path().join("proxy")).unwrap();
    let authority = source.authority.certificate();
    let (tls, plain) = (source.tls.address(), source.registry.address());

    let mut over_tls = source.export(&["--tls-ca", text(&authority)]);
    run(over_tls.env("HTTPS_PROXY", proxy.url())).unwrap();
    let requests = proxy.requests().unwrap();
    let connect = format!("CONNECT {tls} ");
    assert!(!requests.is_empty(), "the proxy was not asked");
    assert!(
        requests.iter().all(|request| request.starts_with(&connect)),
        "{requests:#?}"
    );

    let mut over_http = source.export_from(&plain.to_string(), &["--plain-http"]);
    run(over_http.env("http_proxy", proxy.url())).unwrap();
    let before = requests.len();
    let requests = proxy.requests().unwrap();
    let manifest = format!("http://{plain}/v2/app/manifests/1.0 ");
    assert!(
        requests[before..].iter().any(|it| it.contains(&manifest)),
        "{requests:#?}"
    );

    let mut direct = source.export(&["--tls-ca", text(&authority)]);
    direct.env("HTTPS_PROXY", proxy.url());
    run(direct.env("NO_PROXY", "example.org,127.0.0.1")).unwrap();
    assert_eq!(proxy.requests().unwrap().len(), requests.len());

    let nobody = format!("http://{}", free_address().unwrap());
    let mut lost = source.export(&["--tls-ca", text(&authority), "--retries", "0"]);
    let (code, failure) = fails(lost.env("HTTPS_PROXY", &nobody));
    assert_eq!(code, 1, "{failure}");
    assert!(failure.stderr.contains("tunnel"), "{failure}");
}
