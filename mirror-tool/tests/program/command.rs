//! The program as it is run: how it ends, what it says and to whom, and what it serves.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mirror_tool::export::Report;
use mirror_tool::serve;
use oci_mirror::digest::Algorithm;
use oci_mirror::tree::{TreePath, TreeWriter};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, MIB, noise};
use crate::export::failure;
use crate::fake_registry::{Auth, Fault};

/// The real program, against the fake registry.
fn program(bench: &Bench, tree: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
    command
        .args([
            "export",
            "--plain-http",
            "--retries",
            "1",
            "--json",
            "--tree",
        ])
        .arg(tree)
        .args(arguments)
        .env("HOME", bench.dir.path())
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("DOCKER_CONFIG")
        .env_remove("REGISTRY_AUTH_FILE")
        .stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_ends_with_the_status_that_sums_it_up() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let good = format!("docker://{}/a:1", bench.registry.address);
    let bad = format!("{}/a:2", bench.registry.address);
    for (arguments, status) in [
        (&[good.as_str()][..], 0),
        (&[&bad], 1),
        (&[&good, &bad], 4),
        (&["not a source"], 2),
        (&[&good, "--authfile", "/no/such/file"], 1),
    ] {
        let tree = bench.tree();
        let mut command = program(&bench, &tree, arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {output:?}"
        );
        if [0, 4].contains(&status) {
            let report: Report = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report.images.len(), arguments.len());
        }
    }
    let blob = TreePath::Blob(Algorithm::Sha256.digest(b"layer"));
    let path = blob.under(&bench.tree());
    fs::write(&path, b"LAYER").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mirror-tool"))
        .args(["verify", "--tree"])
        .arg(bench.tree())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.starts_with(&format!("{blob}: its content is ")),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_helper_is_asked_for_the_login() {
    let bench = Bench::new().await;
    bench
        .registry
        .set_auth(Auth::Bearer(Some(("me", "secret"))));
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let host = bench.registry.address;
    let helper = bench.dir.path().join("docker-credential-fake");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {host} ] || exit 1\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"secret\"}}'\n"
    );
    fs::write(&helper, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&helper, executable).unwrap();
    fs::create_dir(bench.dir.path().join(".docker")).unwrap();
    let config = format!(r#"{{"credHelpers":{{"{host}":"fake"}}}}"#);
    fs::write(bench.dir.path().join(".docker/config.json"), config).unwrap();
    let path = format!(
        "{}:{}",
        bench.dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = program(&bench, &bench.tree(), &[&format!("{host}/a")]);
    command.env("PATH", path);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_error() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    bench.sound(&bench.export(&["/a"]).await);
    let mut child = Command::new(env!("CARGO_BIN_EXE_mirror-tool"))
        .args(["list", "--json", "--tree"])
        .arg(bench.tree())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_stops_cleanly() {
    let bench = Bench::new().await;
    let stalled = noise(15, 3 * MIB);
    bench.registry.image("a", Some("1"), &[&stalled]);
    let digest = Algorithm::Sha256.digest(&stalled);
    bench
        .registry
        .fail(&format!("/v2/a/blobs/{digest}"), Fault::Stall);
    let source = format!("{}/a", bench.registry.address);
    let child = program(&bench, &bench.tree(), &[&source])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(Duration::from_secs(10), output).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(failure(&report).contains("stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_tree_can_be_read_like_any_mirror() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    bench.sound(&bench.export(&["/a"]).await);
    let mirror = serve::bind(&bench.tree(), &"127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = mirror.local_addresses()[0];
    let shutdown = CancellationToken::new();
    let path = TreePath::Blob(Algorithm::Sha256.digest(b"layer"));
    let stop = shutdown.clone();
    let client = async move {
        let output = tokio::process::Command::new("curl")
            .args(["-sS", "-r", "1-3", &format!("http://{address}/{path}")])
            .output()
            .await
            .unwrap();
        stop.cancel();
        output
    };
    let ((), output) = tokio::join!(mirror.run(shutdown), client);
    assert_eq!(output.stdout, b"aye", "{output:?}");
}

/// How a program ends whose standard output, or else standard error, nobody reads.
async fn unread(mut command: Command, out: bool) -> Option<i32> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if out {
        drop(child.stdout.take());
    } else {
        drop(child.stderr.take());
    }
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    output.await.unwrap().status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_hides_neither_failure_nor_damage() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let good = format!("{}/a:1", bench.registry.address);
    let bad = format!("{}/a:2", bench.registry.address);
    let export = |source: &str| program(&bench, &bench.tree(), &[source]);
    let verify = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
        command.args(["verify", "--tree"]).arg(bench.tree());
        command
    };
    // Progress that nobody reads must not end the run in its middle.
    assert_eq!(unread(export(&good), false).await, Some(0));
    assert!(TreePath::State.under(&bench.tree()).exists());
    assert_eq!(unread(export(&good), true).await, Some(0));
    assert_eq!(unread(export(&bad), true).await, Some(1));
    assert_eq!(unread(export(&bad), false).await, Some(1));
    assert_eq!(unread(verify(), true).await, Some(0));
    let blob = TreePath::Blob(Algorithm::Sha256.digest(b"layer"));
    fs::write(blob.under(&bench.tree()), b"LAYER").unwrap();
    assert_eq!(unread(verify(), true).await, Some(3));
    assert_eq!(unread(verify(), false).await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_start_is_an_object_too() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    let source = format!("{}/a:1", bench.registry.address);
    let lock = TreeWriter::open(&bench.tree()).unwrap();
    for (arguments, reason) in [
        (&[source.as_str()][..], "locked"),
        (&[&source, "--authfile", "/no/such/file"], "/no/such/file"),
        (&[&source, "--tls-ca", "/no/such/file"], "/no/such/file"),
    ] {
        let mut command = program(&bench, &bench.tree(), arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report.images, []);
        assert!(report.error.unwrap().contains(reason), "{reason}");
    }
    drop(lock);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_tags_are_warned_of_once_and_without_colour() {
    let bench = Bench::new().await;
    bench.registry.image("a", Some("1"), &[b"layer"]);
    for number in 0..50 {
        let name = format!("-{number}");
        bench.registry.image("a", Some(&name), &[b"layer"]);
    }
    let source = format!("{}/a", bench.registry.address);
    let mut command = program(&bench, &bench.tree(), &[&source]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    let examples = warnings[0].matches("`-").count();
    assert!(warnings[0].contains("50") && examples == 3, "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}
