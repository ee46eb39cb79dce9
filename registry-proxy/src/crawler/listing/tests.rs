//! Small programs in the place of rsync, and what becomes of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{TreePath, TreeWriter};
use tempfile::TempDir;

use super::*;
use oci_mirror::process_group::is_alive;

/// Long enough for a machine that is compiling; it only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A catalog of two blobs, and a place for programs.
struct Stage {
    directory: TempDir,
    catalog: Catalog,
    config: Digest,
    manifest: Digest,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&directory.path().join("tree")).unwrap();
        let config = Algorithm::Sha256.digest(b"{}");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
        );
        let manifest = Algorithm::Sha256.digest(text.as_bytes());
        writer.stage_bytes(config, b"{}").unwrap();
        writer.stage_bytes(manifest, text.as_bytes()).unwrap();
        let image = Image {
            repo: "a".parse().unwrap(),
            tag: "1".parse().ok(),
            root: Descriptor::new(MediaType::OCI_MANIFEST, manifest, text.len() as u64),
            reach: vec![config, manifest],
            tag_referrers: None,
        };
        writer.publish(&[image]).unwrap();
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        Self {
            catalog: Catalog::load(writer.tree(), None).unwrap(),
            directory,
            config,
            manifest,
        }
    }

    /// What a script tells in the place of rsync; in it, `$DIR` is a directory of its own.
    async fn told_within(&self, limit: Duration, script: &str) -> Result<Listing, Error> {
        let program = self.directory.path().join("rsync");
        let dir = self.directory.path().display();
        fs::write(&program, format!("#!/bin/sh\nDIR={dir}\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        loop {
            let url = "rsync://127.0.0.1:1/pub".parse().unwrap();
            let deadline = Instant::now() + limit;
            let listing = list(&program, &url, Policy::Any, &self.catalog, deadline);
            // Crawls are tasks of their own.
            let listing: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(listing);
            match listing.await {
                // Another test was forking while the script was being written.
                Err(Error::Start { source, .. })
                    if source.kind() == io::ErrorKind::ExecutableFileBusy => {}
                result => return result,
            }
        }
    }

    async fn told(&self, script: &str) -> Result<Listing, Error> {
        self.told_within(PATIENCE, script).await
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    /// Waits until the process whose id a script has written is gone.
    async fn gone(&self, name: &str) {
        let id = self.read(name).trim().parse().unwrap();
        for _ in 0..500 {
            if !is_alive(id) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("process {id} lives on");
    }

    fn number(&self, digest: Digest) -> u32 {
        self.catalog.id(&digest).unwrap().0
    }
}

/// A line of a script that lists a blob.
fn listed(digest: Digest, size: u64) -> String {
    let path = TreePath::Blob(digest).to_string();
    let name = path.strip_prefix("blobs/").unwrap();
    format!("echo '-rw-r--r--  {size:>12} 2026/11/21 16:27:23 {name}'")
}

#[tokio::test]
async fn blobs_of_the_right_length_are_told_from_others() {
    let stage = Stage::new();
    let absent = Algorithm::Sha256.digest(b"absent");
    let script = [
        "echo 'drwxr-xr-x           4096 2026/11/21 16:27:23 .'",
        &listed(stage.config, 2),
        &listed(stage.manifest, 1),
        &listed(absent, 6),
        "echo '-rw-r--r--  2 2026/11/21 16:27:23 ../../../etc/passwd'",
        "echo '-rw-r--r--  2 2026/11/21 16:27:23 .nfs000 of somebody else'",
        "echo 'lrwxrwxrwx  2 2026/11/21 16:27:23 latest'",
        "printf '\\377\\n\\n'",
    ]
    .join("\n");
    let listing = stage.told(&script).await.unwrap();
    let one = |digest| RoaringBitmap::from([stage.number(digest)]);
    assert_eq!(
        (listing.right, listing.other),
        (one(stage.config), one(stage.manifest))
    );
    // One that is listed twice is not right as long as one of the two is not.
    for sizes in [[2, 3], [3, 2]] {
        let script = sizes.map(|size| listed(stage.config, size)).join("\n");
        let listing = stage.told(&script).await.unwrap();
        assert_eq!(listing.other, one(stage.config));
        assert!(listing.right.is_empty());
    }
}

#[tokio::test]
async fn a_program_that_fails_tells_nothing_and_why() {
    let stage = Stage::new();
    let listed = listed(stage.config, 2);
    for code in [1, 5, 12, 23, 24, 30, 255] {
        let script = format!("{listed}\necho 'rsync: \"a\" \x1b[2J failed' >&2\nexit {code}");
        let error = stage.told(&script).await.unwrap_err().to_string();
        assert!(error.contains(&format!("exit status: {code}")), "{error}");
        assert!(
            error.contains("failed`") && !error.contains('\x1b'),
            "{error}"
        );
    }
    let script = format!("{listed}\nkill -TERM $$; sleep 300");
    let error = stage.told(&script).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
}

#[tokio::test]
async fn a_listing_that_is_cut_off_tells_nothing() {
    let stage = Stage::new();
    let script = format!("{}\nprintf -- '-rw-r--r--'", listed(stage.config, 2));
    let error = stage.told(&script).await.unwrap_err();
    assert!(
        matches!(error, Error::NotWhole(NotWhole::CutOff)),
        "{error}"
    );
}

#[tokio::test]
async fn directories_that_are_links_hide_what_is_behind_them() {
    let stage = Stage::new();
    let script = "echo 'lrwxrwxrwx  2 2026/11/21 16:27:23 sha256'";
    let error = stage.told(script).await.unwrap_err();
    assert!(matches!(error, Error::Linked), "{error}");
}

#[tokio::test]
async fn endless_lines_are_given_up() {
    let stage = Stage::new();
    let line = listed(stage.config, 2).replacen("echo", "exec yes --", 1);
    for line in [line.as_str(), "exec yes"] {
        let script = format!("echo $$ > $DIR/id\n{line}");
        let error = stage.told(&script).await.unwrap_err();
        assert!(matches!(error, Error::NotWhole(NotWhole::Lines)), "{error}");
        stage.gone("id").await;
    }
}

#[tokio::test]
async fn a_line_of_ten_gigabytes_is_given_up() {
    let stage = Stage::new();
    let script = "echo $$ > $DIR/id\nexec head -c 10737418240 /dev/zero";
    let error = stage.told(script).await.unwrap_err();
    assert!(matches!(error, Error::NotWhole(NotWhole::Line)), "{error}");
    stage.gone("id").await;
}

#[tokio::test]
async fn endless_complaints_are_given_up() {
    let stage = Stage::new();
    let script = "echo $$ > $DIR/id\nexec yes >&2";
    let error = stage.told(script).await.unwrap_err();
    assert!(matches!(error, Error::NotWhole(NotWhole::Bytes)), "{error}");
    stage.gone("id").await;
    // Some are no harm, and do not keep the program from going on.
    let script = format!("yes | head -c 1000000 >&2\n{}", listed(stage.config, 2));
    assert_eq!(stage.told(&script).await.unwrap().right.len(), 1);
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_its_children() {
    let stage = Stage::new();
    let listed = listed(stage.config, 2);
    let script = format!(
        "{listed}\ntrap '' TERM INT HUP\nsleep 300 & echo $! > $DIR/child; echo $$ > $DIR/id; wait"
    );
    let error = stage
        .told_within(Duration::from_secs(5), &script)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimeOver), "{error}");
    stage.gone("id").await;
    stage.gone("child").await;
}

#[tokio::test]
async fn a_child_that_holds_the_output_open_is_not_waited_for() {
    let stage = Stage::new();
    let listed = listed(stage.config, 2);
    let script = format!("{listed}\nsleep 300 & echo $! > $DIR/child; exit 0");
    let error = stage.told(&script).await.unwrap_err();
    assert!(matches!(error, Error::HeldOpen), "{error}");
    stage.gone("child").await;
    // One that holds nothing open goes too, but all has been said.
    let script = format!("{listed}\nsleep 300 > /dev/null 2>&1 & echo $! > $DIR/child; exit 0");
    assert_eq!(stage.told(&script).await.unwrap().right.len(), 1);
    stage.gone("child").await;
}

#[tokio::test]
async fn a_crawl_that_is_given_up_leaves_no_program_behind() {
    let stage = Stage::new();
    let script = "sleep 300 & echo $! > $DIR/child; echo $$ > $DIR/id; wait";
    let listing = stage.told(script);
    let begun = async {
        while !stage.directory.path().join("id").exists() || stage.read("id").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        result = listing => panic!("{result:?}"),
        () = begun => {}
    }
    stage.gone("id").await;
    stage.gone("child").await;
}

#[tokio::test]
async fn a_program_cannot_take_all_the_memory() {
    let stage = Stage::new();
    // The pause is for the bound to be set, which it is long before rsync has a connection.
    let script =
        "sleep 0.5\nx=$(head -c 1500000000 /dev/zero | tr '\\0' x)\necho lives > $DIR/lives";
    let error = stage.told(script).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert!(!stage.directory.path().join("lives").exists());
}

#[tokio::test]
async fn the_program_gets_words_and_an_environment_of_its_own() {
    let stage = Stage::new();
    let script = "printf '%s\\n' \"$@\" > $DIR/words\ntr '\\0' '\\n' < /proc/$$/environ > $DIR/environment\n\
         cut -d ' ' -f 5 < /proc/$$/stat > $DIR/group; echo $$ > $DIR/id; readlink /proc/$$/fd/0 > $DIR/input";
    stage.told(script).await.unwrap();
    let words = stage.read("words");
    assert_eq!(
        words.lines().collect::<Vec<_>>(),
        [
            "--recursive",
            "--list-only",
            "--no-motd",
            "--no-human-readable",
            "--timeout=60",
            "--contimeout=10",
            "--",
            "rsync://127.0.0.1:1/pub/blobs/"
        ]
    );
    let environment = stage.read("environment");
    let names = environment.lines().filter_map(|line| line.split_once('='));
    let mut names: Vec<&str> = names.map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LC_ALL", "PATH", "RSYNC_PASSWORD"]);
    assert!(environment.lines().any(|line| line == "RSYNC_PASSWORD="));
    assert_eq!(stage.read("group"), stage.read("id"));
    assert_eq!(stage.read("input"), "/dev/null\n");
}

#[tokio::test]
async fn nothing_is_run_for_an_address_of_the_inside_and_an_absent_program_is_an_error() {
    let stage = Stage::new();
    let absent = Path::new("/nonexistent/rsync");
    let deadline = Instant::now() + PATIENCE;
    let url = "rsync://localhost/pub".parse().unwrap();
    let inside = list(absent, &url, Policy::PublicOnly, &stage.catalog, deadline).await;
    assert!(matches!(inside, Err(Error::NotPublic { .. })), "{inside:?}");
    let error = list(absent, &url, Policy::Any, &stage.catalog, deadline)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot run /nonexistent/rsync");
}
