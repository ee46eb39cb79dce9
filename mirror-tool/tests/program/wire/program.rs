//! The real program: what it takes from its environment, and what it may cost.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::fake_registry::{Auth, FakeRegistry, Fault};
use crate::forward_proxy::ForwardProxy;

/// Runs the real program with this environment and nothing of ours; `memory` is in KiB.
async fn export(
    dir: &TempDir,
    memory: u64,
    environment: &[(&str, String)],
    arguments: &[&str],
) -> Output {
    let tree = dir.path().join("tree");
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {memory}; exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_mirror-tool"))
        .args(["export", "--retries", "0", "--jobs", "1", "--tree"])
        .arg(tree)
        .args(arguments)
        .env_clear()
        .env("HOME", dir.path())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

const AMPLE: u64 = 4 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_may_come_from_a_helper() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Identity("refresh-me"));
    fake.image("a", Some("1"), &[b"layer"]);
    let dir = tempfile::tempdir().unwrap();
    helper(
        dir.path(),
        r#"{"ServerURL":"x","Username":"<token>","Secret":"refresh-me"}"#,
    );
    let config = dir.path().join("auth.json");
    fs::write(&config, r#"{"credsStore":"fake"}"#).unwrap();
    let path = std::env::var("PATH").unwrap();
    let environment = [("PATH", format!("{}:{path}", dir.path().display()))];
    let source = format!("{}/a", fake.address);
    let authfile = config.to_str().unwrap();
    let arguments = ["--plain-http", "-vv", "--authfile", authfile, &source];
    let output = export(&dir, AMPLE, &environment, &arguments).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fake.token_requests()[0].method, "POST");
    // Even when everything is logged, no secret is.
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("logging in"), "{shown}");
    assert!(
        !shown.contains("refresh-me") && !shown.contains("token-"),
        "{shown}"
    );
}

fn helper(dir: &Path, answer: &str) {
    let program = dir.join("docker-credential-fake");
    fs::write(&program, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, executable).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_from_the_environment_is_used_and_left_out_as_told() {
    let fake = FakeRegistry::start().await;
    fake.set_auth(Auth::Bearer(None));
    fake.image("a", Some("1"), &[b"layer"]);
    let direct = format!("{}/a:1", fake.address);
    // No name server knows this one: only the proxy can reach it.
    let hidden = "registry.invalid:5000/a:1".to_owned();
    for (variable, authority, no_proxy, source, used) in [
        ("HTTP_PROXY", "http://", "", &hidden, true),
        ("http_proxy", "http://", "", &hidden, true),
        ("ALL_PROXY", "http://", "other.invalid", &hidden, true),
        ("HTTP_PROXY", "", "10.0.0.0/8", &hidden, true),
        ("HTTP_PROXY", "http://me:proxy-secret@", "", &hidden, true),
        // Nothing makes an exception of loopback but `NO_PROXY`.
        ("HTTP_PROXY", "http://", "", &direct, true),
        ("HTTP_PROXY", "http://", "127.0.0.0/8", &direct, false),
        (
            "HTTP_PROXY",
            "http://",
            "example.com, 127.0.0.1",
            &direct,
            false,
        ),
        ("HTTP_PROXY", "http://", "*", &direct, false),
        ("HTTPS_PROXY", "http://", "", &direct, false),
        (
            "HTTP_PROXY",
            "http://",
            ".invalid,registry.invalid",
            &direct,
            true,
        ),
    ] {
        let proxy = ForwardProxy::start(fake.address).await;
        let dir = tempfile::tempdir().unwrap();
        let environment = [
            (variable, format!("{authority}{}", proxy.address)),
            ("NO_PROXY", no_proxy.to_owned()),
        ];
        let arguments = ["--plain-http", "-vv", source];
        let output = export(&dir, AMPLE, &environment, &arguments).await;
        let case = format!("{variable}={authority} NO_PROXY={no_proxy} {source}: {output:?}");
        assert_eq!(output.status.code(), Some(0), "{case}");
        let heads = proxy.heads();
        assert_eq!(!heads.is_empty(), used, "{case}");
        let host = source.split('/').next().unwrap();
        // The token service is asked by way of the proxy as well; which connection it gets is open.
        let asked = heads
            .iter()
            .any(|head| head.starts_with(&format!("GET http://{host}/v2/")));
        assert_eq!(asked, used, "{heads:#?}");
        if authority.contains('@') {
            // me:proxy-secret
            let field = "proxy-authorization: basic bwu6chjvehktc2vjcmv0";
            assert!(heads[0].to_lowercase().contains(field), "{heads:#?}");
            assert!(!case.contains("bWU6cHJveHk"), "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_a_tunnel_of_the_proxy() {
    let fake = FakeRegistry::start().await;
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let proxy = ForwardProxy::start(fake.address).await;
        let dir = tempfile::tempdir().unwrap();
        let environment = [(variable, format!("http://{}", proxy.address))];
        let arguments = ["registry.invalid:5000/a:1"];
        let output = export(&dir, AMPLE, &environment, &arguments).await;
        // At the end of the tunnel nobody speaks TLS.
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let heads = proxy.heads();
        assert!(
            heads[0].starts_with("CONNECT registry.invalid:5000 HTTP/1.1\r\n"),
            "{heads:?}"
        );
        assert_eq!(fake.take_log(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_end_costs_little_memory() {
    let fake = FakeRegistry::start().await;
    fake.image("a", Some("1"), &[b"layer"]);
    fake.image("b", Some("1"), &[b"layer"]);
    fake.fail("/v2/a/tags/list", Fault::Endless);
    for fault in [Fault::Endless, Fault::HugeLength] {
        fake.fail("/v2/b/manifests/1", fault);
        for (source, told) in [("a", "16777216 bytes"), ("b:1", "4194304 bytes")] {
            let dir = tempfile::tempdir().unwrap();
            let source = format!("{}/{source}", fake.address);
            // Address space, most of it never touched: threads' stacks and the program itself.
            let output = export(&dir, 400 << 10, &[], &["--plain-http", &source]).await;
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let shown = String::from_utf8_lossy(&output.stderr);
            assert!(shown.contains(&format!("is longer than {told}")), "{shown}");
        }
    }
}
