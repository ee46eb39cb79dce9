//! Files over rsync, from a real daemon.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_mirror::process_group::is_alive;
use rustix::fs::FlockOperation;

use super::daemon::Daemon;
use super::*;
use crate::sync::master::Master;

impl Place {
    fn daemon(&self, settings: &str) -> Daemon {
        fs::create_dir_all(self.upstream()).unwrap();
        Daemon::start(&self.upstream(), &self.dir.path().join("rsyncd"), settings)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_brings_all() {
    let mut place = Place::new();
    let all = many();
    place.write_all(&all);
    let daemon = place.daemon("");
    let fetched = place.fetch(&daemon.url(), blobs(&all)).await.unwrap();
    all_there(&place, &all, &fetched);
    let bytes: usize = all.iter().map(Vec::len).sum();
    assert_eq!(
        (fetched.files, fetched.bytes),
        (all.len() as u64, bytes as u64)
    );
    assert!((bytes as u64..bytes as u64 + 20_000).contains(&fetched.received));
    let mut expected: Vec<_> = all.iter().map(|it| path_of(it)).collect();
    expected.sort();
    assert_eq!(daemon.sent(), expected);
    assert_eq!(daemon.runs(), 1);

    place.again();
    let fetched = place.fetch(&daemon.url(), blobs(&all)).await.unwrap();
    assert_eq!((fetched.files, daemon.runs()), (0, 1));
    all_there(&place, &all, &fetched);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_asked_for_twice_and_what_is_gone_is_told() {
    let place = Place::new();
    let (good, bad, long, gone) = (noise(1, 500), noise(2, 500), noise(3, 500), noise(4, 500));
    let (linked, device) = (noise(5, 500), noise(6, 500));
    place.write(&path_of(&good), &good);
    place.write(&path_of(&bad), &noise(20, 500));
    place.write(&path_of(&long), &noise(20, 499));
    place.write("repos/a/index.json", b"index of a later.");
    for blob in [&linked, &device] {
        fs::create_dir_all(place.upstream().join(path_of(blob)).parent().unwrap()).unwrap();
    }
    symlink("/etc/passwd", place.upstream().join(path_of(&linked))).unwrap();
    let fifo = place.upstream().join(path_of(&device));
    assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
    let index = summed("repos/a/index.json", b"index of the list");
    let daemon = place.daemon("");
    let all = [&good, &bad, &long, &gone, &linked, &device].map(|it| blob(it));
    let wanted = all.iter().cloned().chain([index.clone()]).collect();
    let fetched = place.fetch(&daemon.url(), wanted).await.unwrap();
    assert_eq!(fetched.files, 1);
    assert!(place.has(&good));
    let missing: std::collections::HashSet<_> = fetched.missing.into_iter().collect();
    assert_eq!(missing, all[3..].iter().map(|it| it.path.clone()).collect());
    let mut wrong: Vec<_> = fetched.wrong.into_iter().map(|(path, _)| path).collect();
    wrong.sort();
    let mut expected = vec![all[1].path.clone(), all[2].path.clone(), index.path];
    expected.sort();
    assert_eq!(wrong, expected);
    assert_eq!(daemon.runs(), 2);
    assert_eq!(daemon.sent().len(), 7);
    let left = [place.staging.path(&all[0].path)];
    assert_eq!(place.files(), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_made_of_an_old_one_or_of_nothing() {
    let place = Place::new();
    let list = noise(1, 150_000);
    place.write("fullfiletimelist-containers", &list);
    let basis = place.dir.path().join("basis");
    let mut old = list.clone();
    old[70_000] ^= 1;
    for settings in ["", "refuse options = compress"] {
        let daemon = place.daemon(settings);
        let upstream = open(&options(&daemon.url()));
        // Another of the same length in the same second, a short one, nonsense, none.
        for bytes in [Some(&old[..]), Some(b""), Some(&noise(2, 150_000)), None] {
            drop(fs::remove_file(&basis));
            if let Some(bytes) = bytes {
                fs::write(&basis, bytes).unwrap();
            }
            let found = upstream
                .list(&list_of(&list), Some(&basis), &place.staging)
                .await;
            assert_eq!(fs::read(found.unwrap()).unwrap(), list);
            if let Some(bytes) = bytes {
                assert_eq!(fs::read(&basis).unwrap(), bytes);
            }
        }
    }
    let daemon = place.daemon("");
    let upstream = open(&options(&daemon.url()));
    let lie = upstream
        .list(&list_of(b"x"), Some(&basis), &place.staging)
        .await
        .unwrap_err();
    assert!(lie.is_lie(), "{lie}");
    place.write("fullfiletimelist-long", &noise(1, 500_000));
    let module = |module: &str| ListRef {
        module: module.parse().unwrap(),
        ..list_of(b"x")
    };
    let long = upstream
        .list(&module("long"), None, &place.staging)
        .await
        .unwrap_err();
    assert!(long.is_lie(), "{long}");
    let gone = upstream
        .list(&module("gone"), None, &place.staging)
        .await
        .unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_read_anew_each_time() {
    let place = Place::new();
    let daemon = place.daemon("");
    let upstream = open(&options(&daemon.url()));
    let gone = upstream.state(&place.staging).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
    for state in ["1", "2"] {
        place.write("state.json", state.as_bytes());
        let found = upstream.state(&place.staging).await.unwrap();
        assert_eq!(found, state);
    }
    place.write("state.json", &noise(1, 70_000));
    let long = upstream.state(&place.staging).await.unwrap_err();
    assert!(long.is_lie(), "{long}");
    fs::remove_file(place.upstream().join("state.json")).unwrap();
    symlink("/etc/passwd", place.upstream().join("state.json")).unwrap();
    let gone = upstream.state(&place.staging).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_not_there_is_given_up() {
    let place = Place::new();
    let daemon = place.daemon("");
    let mut options = options(&daemon.url());
    options.retries = 1;
    let url = options.from[0].to_string();
    drop(daemon);
    let began = Instant::now();
    let error = open(&options).state(&place.staging).await.unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!error.is_lie());
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "it was asked once"
    );
    let error = place
        .fetch_by(&options, vec![blob(b"x")])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

/// What a killed run leaves: a process that has the file as its input, and its number in it.
#[tokio::test(flavor = "multi_thread")]
async fn an_rsync_left_behind_is_ended_first() {
    let place = Place::new();
    let daemon = place.daemon("");
    place.write("state.json", b"{}");
    let path = place.staging.directory().join("rsync.lock");
    let file = File::options()
        .create_new(true)
        .write(true)
        .open(&path)
        .unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    let mut left = Command::new("sleep")
        .arg("300")
        .stdin(Stdio::from(file))
        .process_group(0)
        .spawn()
        .unwrap();
    fs::write(&path, format!("{}\n", left.id())).unwrap();
    assert!(is_alive(left.id()));
    let state = open(&options(&daemon.url())).state(&place.staging).await;
    assert_eq!(&state.unwrap()[..], b"{}");
    assert!(!is_alive(left.id()));
    left.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_keeps_what_it_has_and_goes_on_later() {
    let place = Place::new();
    let all = [noise(1, 6 * MIB)];
    place.write_all(&all);
    let daemon = place.daemon("");
    let mut limited = options(&daemon.url());
    limited.bandwidth = Some(1 << 20);
    let stop = CancellationToken::new();
    let upstream = open(&limited);
    let progress = Progress::default();
    let fetch = upstream.fetch(blobs(&all), &place.staging, &progress, &stop);
    let end = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.cancel();
    };
    let (fetched, ()) = tokio::join!(fetch, end);
    assert!(matches!(fetched, Err(Error::Stopped)));
    let left = place.files();
    assert!(
        left.iter()
            .all(|path| path.parent().unwrap().ends_with(".~part~")),
        "{left:?}"
    );
    assert_eq!(left.len(), 1);
    let kept = fs::metadata(&left[0]).unwrap().len();
    let fetched = place.fetch(&daemon.url(), blobs(&all)).await.unwrap();
    all_there(&place, &all, &fetched);
    assert!(
        fetched.received < 6 * MIB as u64 - kept / 2,
        "{kept} {}",
        fetched.received
    );
}

#[test]
fn the_password_is_for_a_daemon_to_which_we_have_a_name() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let secrets = master.mirror("secrets");
    // Whom nobody names, rsync calls so.
    fs::write(&secrets, "me:secret\nnobody:secret\n").unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!(
        "auth users = me, nobody\nsecrets file = {}",
        secrets.display()
    );
    let daemon = Daemon::start(&master.tree(), &master.mirror("rsyncd"), &settings);
    for (user, password, code) in [
        ("", Some("secret"), 1),
        ("me@", None, 1),
        ("me@", Some("another"), 1),
        ("me@", Some("secret"), 0),
    ] {
        let url = daemon.url().replace("://", &format!("://{user}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
        command.args(["sync", "--retries", "0", "--from", &url, "--tree"]);
        command.arg(master.mirror("m")).env_remove("RSYNC_PASSWORD");
        command.envs(password.map(|password| ("RSYNC_PASSWORD", password)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{user:?}: {said}");
        assert_eq!(said.contains("auth failed"), code == 1, "{user:?}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

/// What the receiver of rsync does when a daemon sends a file once more: the line of it comes twice, and the file that
/// was read is replaced by another of the same length and time.
const TWICE: &str = r#"#!/bin/sh
PATH=/usr/local/bin:/usr/bin:/bin
case "$*" in *--files-from=*) ;; *) exec rsync "$@" ;; esac
rsync "$@" || exit
for place; do :; done
cd "$place" && file=$(find blobs -type f -size -2 | head -n 1) || exit
# As long as it takes to read the first.
sleep 0.5
tr '[:graph:]' x <"$file" >other && touch -r "$file" other && mv other "$file" && echo "9 9 $file"
"#;

#[test]
fn a_file_that_comes_twice_is_not_taken_for_the_first() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let daemon = Daemon::start(&master.tree(), &master.mirror("rsyncd"), "");
    let programs = master.mirror("bin");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("rsync"), TWICE).unwrap();
    fs::set_permissions(programs.join("rsync"), fs::Permissions::from_mode(0o755)).unwrap();
    let sync = |path: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
        command.args(["sync", "--retries", "0", "--from", &daemon.url(), "--tree"]);
        command.arg(master.mirror("m")).env("PATH", path);
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let path = std::env::var("PATH").unwrap();
    let (code, said) = sync(&format!("{}:{path}", programs.display()));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("is not what the file list says"), "{said}");
    assert!(!master.mirror("m").join("state.json").exists(), "{said}");
    let (code, said) = sync(&path);
    assert_eq!(code, Some(0), "{said}");
}
