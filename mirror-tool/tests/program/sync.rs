//! Following a tree: what is made of it here, what it costs, and what is left alone.

mod disk;
mod gone;
pub(crate) mod master;
mod touched;
mod whom;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use mirror_tool::exit::Exit;
use mirror_tool::report::{To, Token};
use mirror_tool::sync::report::Outcome;
use mirror_tool::sync::{self, Filter, Options, Report};
use mirror_tool::{prune, verify};
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::{Catalog, Tree, TreeWriter};

use crate::bench::{MIB, noise, snapshot};
use crate::disk::SmallDisk;
use master::{FrontEnd, Master, Relay, Served, blob, link};

fn digest(content: &[u8]) -> Digest {
    Algorithm::Sha256.digest(content)
}

/// Runs what must succeed.
#[track_caller]
fn assert_outcome(report: &Report, outcome: Outcome) {
    assert_eq!(report.outcome, outcome, "{report:#?}");
}

/// Nothing is wrong with a mirror; a server can read it.
#[track_caller]
fn assert_sound(tree: &Path) {
    let report = verify::run(tree).unwrap();
    assert_eq!(report.damage, [], "{report}");
    assert!(!report.summary.interrupted);
    Catalog::load(&Tree::open(tree).unwrap(), None).unwrap();
}

/// Every file that mirrors are told of, with its content.
fn content(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = snapshot(root).into_iter().map(|(path, (.., content))| {
        let path = path.strip_prefix(root).unwrap().to_owned();
        (path, content)
    });
    all.filter(|(path, _)| !path.starts_with(".~tmp~"))
        .collect()
}

async fn run(options: Options) -> Report {
    sync::run(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_the_same_to_the_byte() {
    let master = Master::new();
    let large = noise(1, MIB + 5000);
    master.publish(&[("a/b", "1", &[b"base", &large]), ("c", "x", &[b"base"])]);
    let served = Served::start(&master.tree()).await;
    let report = run(master.options("m", &[&served.url()])).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(report.serial, Some(1));
    let mirror = master.mirror("m");
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
    // Each blob once, no link, and neither pieces nor layouts.
    let mut log = served.take_log();
    log.sort();
    let count = log.len();
    log.dedup();
    assert_eq!(log.len(), count, "{log:#?}");
    let is_needless = |line: &&String| {
        let path = line.split(' ').nth(1).unwrap();
        path.starts_with("pieces/") || path.contains("/blobs/") || path.ends_with("oci-layout")
    };
    assert_eq!(log.iter().find(is_needless), None);
    for (path, mode) in [
        (blob(&mirror, digest(b"base")), 0o644),
        (mirror.join("repos/a"), 0o755),
    ] {
        let found = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_share_the_inode() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"base"]), ("c/d", "1", &[b"base"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let mirror = master.mirror("m");
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let base = digest(b"base");
    assert_eq!(inode(blob(&mirror, base)), inode(link(&mirror, "a", base)));
    assert_eq!(
        inode(blob(&mirror, base)),
        inode(link(&mirror, "c/d", base))
    );
    // A new repository links to what is there.
    master.publish(&[("e", "1", &[b"base"])]);
    let report = master.sync().await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(inode(blob(&mirror, base)), inode(link(&mirror, "e", base)));
    assert_eq!(report.links, 3);
    // Its manifest, its config, its index, and the sizes.
    assert_eq!(report.files, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_costs_one_request() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"base"])]);
    let served = Served::start(&master.tree()).await;
    let first = run(master.options("m", &[&served.url()])).await;
    assert_outcome(&first, Outcome::Followed);
    served.take_log();
    let relay = Relay::to(served.address).await;
    let url = format!("http://{}", relay.address);
    let mirror = master.mirror("m");
    // Nobody looks for it.
    let list = mirror.join("fullfiletimelist-containers");
    fs::rename(&list, master.mirror("aside")).unwrap();
    let files = snapshot(&mirror);
    let report = run(master.options("m", &[&url])).await;
    assert_outcome(&report, Outcome::Unchanged);
    assert_eq!(report.exit(), Exit::Fine);
    assert_eq!(report.serial, Some(1));
    assert_eq!(snapshot(&mirror), files);
    assert_eq!(served.take_log(), ["GET state.json -"]);
    tokio::time::timeout(Duration::from_secs(10), async {
        while relay.counted().0 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let (bytes, connections) = relay.counted();
    assert_eq!(connections, 1);
    assert!(bytes <= 4096, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_new_is_fetched() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"base"]), ("b", "1", &[b"other"])]);
    let served = Served::start(&master.tree()).await;
    assert_outcome(
        &run(master.options("m", &[&served.url()])).await,
        Outcome::Followed,
    );
    let before = snapshot(&master.mirror("m"));
    served.take_log();
    master.publish(&[("a", "2", &[b"base", b"new"])]);
    assert_outcome(
        &run(master.options("m", &[&served.url()])).await,
        Outcome::Followed,
    );
    let asked: Vec<String> = served.take_log();
    let blobs = asked.iter().filter(|line| line.contains("blobs/"));
    // The layer, the config and the manifest.
    assert_eq!(blobs.count(), 3, "{asked:#?}");
    let after = snapshot(&master.mirror("m"));
    let other = master.mirror("m").join("repos/b/index.json");
    assert_eq!(before[&other], after[&other]);
    assert_eq!(content(&master.mirror("m")), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_mirror_is_true_of_itself() {
    let master = Master::new();
    let large = noise(1, MIB + 1);
    master.publish(&[
        ("a/b", "1", &[b"base", &large]),
        ("a/c", "1", &[b"base", b"c"]),
        ("d", "1", &[b"base", b"d"]),
    ]);
    let only = |glob: &str| Filter {
        only: vec![glob.parse().unwrap()],
        except: vec!["a/c".parse().unwrap()],
    };
    let options = |glob: &str| Options {
        filter: only(glob),
        ..master.options("m", &[&master.url()])
    };
    assert_outcome(&run(options("a/*")).await, Outcome::Followed);
    let mirror = master.mirror("m");
    assert_sound(&mirror);
    assert!(!blob(&mirror, digest(b"d")).exists());
    let tree = Tree::open(&mirror).unwrap();
    let state = tree.state().unwrap();
    assert_eq!(
        (state.serial, state.totals.repositories, state.totals.tags),
        (1, 1, 1)
    );
    assert_eq!(run(options("a/*")).await.outcome, Outcome::Unchanged);

    // Another tier of it.
    let second = || master.options("second", &[&format!("file://{}", mirror.display())]);
    assert_outcome(&run(second()).await, Outcome::Followed);
    assert_eq!(content(&master.mirror("second")), content(&mirror));

    // Wider, of the same serial.
    assert_outcome(&run(options("**")).await, Outcome::Followed);
    assert!(blob(&mirror, digest(b"d")).exists());
    assert_sound(&mirror);
    assert_eq!(
        Tree::open(&mirror)
            .unwrap()
            .state()
            .unwrap()
            .totals
            .repositories,
        2
    );
    assert_outcome(&run(second()).await, Outcome::Followed);
    assert_eq!(content(&master.mirror("second")), content(&mirror));

    // Narrower: what is not carried any more has its grace.
    let report = run(options("d")).await;
    assert_outcome(&report, Outcome::Followed);
    assert!(report.kept > 0);
    assert!(mirror.join("repos/a/b/index.json").exists());
    assert_sound(&mirror);
    let options = Options {
        grace: Duration::ZERO,
        ..options("d")
    };
    assert_outcome(&run(options).await, Outcome::Unchanged);
    assert!(!mirror.join("repos/a").exists());
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_run_is_told_of_the_first() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let _first = TreeWriter::open(&master.mirror("m")).unwrap();
    let report = master.sync().await;
    assert_outcome(&report, Outcome::Failed);
    assert_eq!(report.exit(), Exit::Failed);
    let error = report.error.unwrap();
    assert!(error.contains("another writer is at work"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.publish(&[("a", "2", &[b"b"])]);
    let before = content(&master.mirror("m"));
    let options = Options {
        dry_run: true,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options).await;
    assert_outcome(&report, Outcome::DryRun);
    assert_eq!((report.files, report.links), (5, 3));
    assert_eq!(content(&master.mirror("m")), before);
    assert_outcome(&master.sync().await, Outcome::Followed);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_after_success_only() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let front_end = FrontEnd::start().await;
    let options = |from: &str| Options {
        report: Some(To {
            url: format!("http://{}", front_end.address).parse().unwrap(),
            token: Token::new("secret"),
            tls_ca: None,
        }),
        ..master.options("m", &[from])
    };
    assert_outcome(
        &run(options("http://127.0.0.1:1/tree")).await,
        Outcome::Failed,
    );
    assert_eq!(front_end.take_told(), [] as [String; 0]);
    for outcome in [Outcome::Followed, Outcome::Unchanged] {
        assert_outcome(&run(options(&master.url())).await, outcome);
        let told = front_end.take_told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("POST /api/v1/checkin {"), "{told:?}");
    }
    let dry = Options {
        dry_run: true,
        ..options(&master.url())
    };
    run(dry).await;
    assert_eq!(front_end.take_told(), [] as [String; 0]);
    // The tree is as it should be all the same.
    front_end.answer(401);
    let report = run(options(&master.url())).await;
    assert_outcome(&report, Outcome::Partial);
    assert_eq!(report.serial, Some(1));
    assert!(report.notes[0].starts_with("cannot report"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_ended_from_outside_changes_nothing() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let options = master.options("m", &[&master.url()]);
    options.shutdown.cancel();
    let report = run(options).await;
    assert_outcome(&report, Outcome::Failed);
    assert_eq!(content(&master.mirror("m")), BTreeMap::new());
}
