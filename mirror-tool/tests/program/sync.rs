//! Following a tree: what is made of it here, what it costs, and what is left alone.

pub(crate) mod master;

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
async fn gone_waits_for_the_grace() {
    let master = Master::new();
    let tags = ["1", "2", "3"];
    for tag in tags {
        master.publish(&[("a", tag, &[tag.as_bytes()]), ("b", tag, &[b"b"])]);
    }
    let options = || master.options("m", &[&master.url()]);
    let now = Timestamp::now();
    let at = |hours: i64| Options {
        now: Some(now + hours.hours()),
        ..options()
    };
    assert_outcome(&run(at(0)).await, Outcome::Followed);
    master.remove("a", |tag| tag == "1");
    let mirror = master.mirror("m");
    let report = run(at(1)).await;
    assert_outcome(&report, Outcome::Followed);
    assert!(report.kept > 0 && report.removed == 0, "{report:?}");
    assert!(blob(&mirror, digest(b"1")).exists());
    assert_sound(&mirror);
    // Another 23 hours.
    assert_outcome(&run(at(24)).await, Outcome::Unchanged);
    assert!(link(&mirror, "a", digest(b"1")).exists());
    let list = fs::read(mirror.join("state.json")).unwrap();
    let report = run(at(25)).await;
    assert_outcome(&report, Outcome::Unchanged);
    assert_eq!((report.removed, report.kept), (6, 0));
    assert!(!blob(&mirror, digest(b"1")).exists());
    assert_eq!(fs::read(mirror.join("state.json")).unwrap(), list);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_in_its_grace_is_not_fetched_again() {
    let master = Master::new();
    let large = noise(1, 100_000);
    master.publish(&[("a", "1", &[&large]), ("a", "2", &[b"2"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.remove("a", |tag| tag == "1");
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.publish(&[("a", "1", &[&large])]);
    let report = master.sync().await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(report.kept, 0);
    assert!(report.bytes < 10_000, "{report:?}");
    assert_sound(&master.mirror("m"));
    // Also not if all of it is looked at.
    let options = Options {
        check: true,
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options).await;
    assert_eq!((report.files, report.removed), (0, 0), "{report:?}");
    assert_eq!(content(&master.mirror("m")), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_gone_goes_with_all_its_files() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b/c", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.remove("b/c", |_| true);
    let mirror = master.mirror("m");
    let options = Options {
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(report.kept, 0);
    assert!(!mirror.join("repos/b").exists());
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_run_deletes_nothing() {
    let master = Master::new();
    for tag in ["1", "2"] {
        master.publish(&[("a", tag, &[tag.as_bytes()])]);
    }
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.remove("a", |tag| tag == "1");
    master.publish(&[("a", "3", &[b"three"])]);
    fs::write(blob(&master.tree(), digest(b"three")), b"eerht").unwrap();
    let mirror = master.mirror("m");
    let before = content(&mirror);
    let options = || Options {
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options()).await;
    assert_outcome(&report, Outcome::Refused);
    assert_eq!(report.exit(), Exit::Damage);
    assert_eq!(content(&mirror), before);
    assert_sound(&mirror);
    fs::write(blob(&master.tree(), digest(b"three")), b"three").unwrap();
    assert_outcome(&run(options()).await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
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
async fn next_upstream_when_down() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let nobody = "http://127.0.0.1:1/tree";
    let report = run(master.options("m", &[nobody, &master.url()])).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(report.from, Some(master.url()));
    assert_eq!(report.notes.len(), 1, "{report:?}");
    assert_sound(&master.mirror("m"));
    let report = run(master.options("m", &[nobody])).await;
    assert_outcome(&report, Outcome::Failed);
    assert!(report.error.unwrap().contains("127.0.0.1:1"));
    // One that lies is no better than one that is down.
    let liar = Master::new();
    liar.publish(&[("a", "1", &[b"lie"])]);
    liar.publish(&[("a", "2", &[b"2"])]);
    fs::write(blob(&liar.tree(), digest(b"lie")), b"eil").unwrap();
    let report = run(master.options("n", &[&liar.url(), &master.url()])).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(content(&master.mirror("n")), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn never_back_to_an_older_serial() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let older = master.options("older", &[&master.url()]);
    assert_outcome(&run(older).await, Outcome::Followed);
    master.publish(&[("a", "2", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let older = format!("file://{}", master.mirror("older").display());
    let before = snapshot(&master.mirror("m"));
    let report = run(master.options("m", &[&older])).await;
    assert_outcome(&report, Outcome::Failed);
    assert!(report.error.unwrap().contains("is behind"));
    // No matter if another one is not.
    let report = run(master.options("m", &[&older, &master.url()])).await;
    assert_outcome(&report, Outcome::Unchanged);
    assert_eq!(snapshot(&master.mirror("m")), before);
    let options = Options {
        accept_older: true,
        ..master.options("m", &[&older])
    };
    assert_outcome(&run(options).await, Outcome::Followed);
    let state = Tree::open(&master.mirror("m")).unwrap().state().unwrap();
    assert_eq!(state.serial, 1);
    assert_sound(&master.mirror("m"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_part_of_the_same_is_not_followed() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    let part = Options {
        filter: Filter {
            only: vec!["a".parse().unwrap()],
            except: Vec::new(),
        },
        ..master.options("part", &[&master.url()])
    };
    assert_outcome(&run(part).await, Outcome::Followed);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let part = format!("file://{}", master.mirror("part").display());
    let before = content(&master.mirror("m"));
    // While the one that was followed is down.
    let url = master.url();
    let both = || master.options("m", &[&url, &part]);
    let aside = master.mirror("aside");
    fs::rename(master.tree(), &aside).unwrap();
    for (check, outcome) in [(false, Outcome::Unchanged), (true, Outcome::Failed)] {
        let report = run(Options { check, ..both() }).await;
        assert_outcome(&report, outcome);
        assert_eq!(content(&master.mirror("m")), before);
    }
    fs::rename(&aside, master.tree()).unwrap();
    // One that stood in for it does not keep it out.
    let mut stood_in = master.options("n", &[&part]);
    assert_outcome(&run(stood_in.clone()).await, Outcome::Followed);
    stood_in.from = both().from;
    assert_outcome(&run(stood_in).await, Outcome::Followed);
    assert_eq!(content(&master.mirror("n")), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_matches_nothing_has_to_be_meant() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let before = content(&master.mirror("m"));
    let options = |accept_shrink| Options {
        filter: Filter {
            only: vec!["nobody*".parse().unwrap()],
            except: Vec::new(),
        },
        accept_shrink,
        ..master.options("m", &[&master.url()])
    };
    assert_outcome(&run(options(false)).await, Outcome::Refused);
    assert_eq!(content(&master.mirror("m")), before);
    assert_outcome(&run(options(true)).await, Outcome::Followed);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tree_is_not_taken_over_unasked() {
    let (master, other) = (Master::new(), Master::new());
    master.publish(&[("a", "1", &[b"a"])]);
    other.publish(&[("b", "1", &[b"b"]), ("c", "1", &[b"c"])]);
    let incoming = other.tree().join("upload/incoming");
    fs::create_dir_all(&incoming).unwrap();
    let before = content(&other.tree());
    let options = |accept_shrink| Options {
        tree: other.tree(),
        accept_shrink,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options(false)).await;
    assert_outcome(&report, Outcome::Refused);
    let error = report.error.unwrap();
    assert!(error.contains("holds another tree"), "{error}");
    assert_eq!(content(&other.tree()), before);
    assert_outcome(&run(options(true)).await, Outcome::Followed);
    // What is no directory of a tree is left alone.
    assert!(incoming.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_wrong_when_a_tree_was_taken_over_is_never_trusted() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    let mirror = master.mirror("m");
    for (path, content) in content(&master.tree()) {
        let path = mirror.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for path in [
        blob(&mirror, digest(b"b")),
        link(&mirror, "b", digest(b"b")),
    ] {
        fs::write(path, b"x").unwrap();
    }
    // It is gone over there, and comes back in its grace.
    master.remove("b", |_| true);
    let options = Options {
        accept_shrink: true,
        ..master.options("m", &[&master.url()])
    };
    assert_outcome(&run(options).await, Outcome::Followed);
    assert_sound(&mirror);
    master.publish(&[("b", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_here_is_not_called_a_lie_and_is_mended() {
    let master = Master::new();
    let manifests = master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let mirror = master.mirror("m");
    let manifest = blob(&mirror, manifests[0]);
    let length = fs::metadata(&manifest).unwrap().len();
    fs::write(&manifest, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
    master.publish(&[("a", "2", &[b"c"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    // A manifest that is lost.
    fs::remove_file(&manifest).unwrap();
    master.publish(&[("a", "3", &[b"d"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_here_is_undone() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let mirror = master.mirror("m");
    let check = || Options {
        check: true,
        ..master.options("m", &[&master.url()])
    };
    fs::remove_file(blob(&mirror, digest(b"a"))).unwrap();
    fs::remove_file(link(&mirror, "b", digest(b"b"))).unwrap();
    fs::write(mirror.join("repos/b/index.json"), b"{}").unwrap();
    fs::write(mirror.join("repos/a/oci-layout"), b"").unwrap();
    let report = run(check()).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let a = digest(b"a");
    assert_eq!(inode(blob(&mirror, a)), inode(link(&mirror, "a", a)));

    // What changes the state is seen without being asked to look.
    let writer = TreeWriter::open(&mirror).unwrap();
    writer.retain(&"b".parse().unwrap(), |_| false).unwrap();
    writer.finish(Timestamp::now()).unwrap();
    drop(writer);
    let options = prune::Options {
        tree: mirror.clone(),
        grace: Duration::ZERO,
        dry_run: false,
        now: None,
    };
    prune::run(&options).unwrap();
    assert!(!mirror.join("repos/b").exists());
    assert_outcome(&master.sync().await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_what_is_right_changes_nothing() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let mirror = master.mirror("m");
    let files = || -> BTreeMap<_, _> {
        let all = snapshot(&mirror).into_iter();
        let is_of_tree = |path: &PathBuf| !path.starts_with(mirror.join(".~tmp~"));
        all.filter(|(path, _)| is_of_tree(path)).collect()
    };
    let before = files();
    let check = Options {
        check: true,
        ..master.options("m", &[&master.url()])
    };
    assert_outcome(&run(check).await, Outcome::Unchanged);
    assert_eq!(files(), before);
    // As a run leaves it that was killed after its state.
    let mark = mirror.join(".~tmp~/dirty");
    fs::write(&mark, "").unwrap();
    assert_outcome(&master.sync().await, Outcome::Unchanged);
    assert!(!mark.exists());
    assert_eq!(files(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_others_made_is_read_once() {
    let master = Master::new();
    let large = noise(1, 2 * MIB);
    master.publish(&[("a", "1", &[b"a", &large]), ("b", "1", &[b"b"])]);
    // As rsync without -H would have made it, with some bytes gone bad.
    let mirror = master.mirror("m");
    for (path, content) in content(&master.tree()) {
        let path = mirror.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(blob(&mirror, digest(b"a")), b"x").unwrap();
    fs::write(link(&mirror, "b", digest(b"b")), b"y").unwrap();
    let report = master.sync().await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!((report.files, report.bytes), (1, 1));
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let large = digest(&large);
    assert_eq!(
        inode(blob(&mirror, large)),
        inode(link(&mirror, "a", large))
    );
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
async fn what_is_not_done_beside_is_said_and_done_next_time() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("a", "2", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.remove("a", |tag| tag == "1");
    let blocked = master.mirror("blocked");
    fs::write(&blocked, "").unwrap();
    let options = |directory: PathBuf| Options {
        static_v2: Some(directory),
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    for _ in 0..2 {
        let report = run(options(blocked.join("v2"))).await;
        assert_outcome(&report, Outcome::Partial);
        assert_eq!((report.exit(), report.removed), (Exit::Partial, 0));
        assert!(blob(&master.mirror("m"), digest(b"a")).exists());
    }
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
async fn what_nobody_lists_is_cleared_away() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    // As a run leaves it that was cut off on its way to another state, and one whose record is lost.
    let mirror = master.mirror("m");
    fs::create_dir_all(mirror.join("repos/x/y/blobs/sha256")).unwrap();
    fs::create_dir_all(mirror.join("pieces/sha256/00")).unwrap();
    let litter = digest(b"litter");
    fs::create_dir_all(blob(&mirror, litter).parent().unwrap()).unwrap();
    fs::write(blob(&mirror, litter), b"litter").unwrap();
    fs::write(mirror.join(".~tmp~/sync/gone"), "gone 1\n5 blo").unwrap();
    fs::write(mirror.join(".~tmp~/dirty"), "").unwrap();
    let report = master.sync().await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!((report.files, report.kept), (0, 1));
    assert_sound(&mirror);
    let options = Options {
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options).await;
    assert_outcome(&report, Outcome::Unchanged);
    assert_eq!(report.removed, 1);
    let paths = |root: &Path| {
        let output = std::process::Command::new("find")
            .args([".", "-path", "./.~tmp~", "-prune", "-o", "-print"])
            .current_dir(root)
            .output()
            .unwrap();
        let mut lines: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(paths(&mirror), paths(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_a_mirror_is_told_that_it_does_not_last() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    for (tree, is_told) in [(master.mirror("m"), true), (master.tree(), false)] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_mirror-tool"))
            .args(["prune", "--dry-run", "--tree"])
            .arg(tree)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let warning = format!("this tree follows {}", master.url());
        assert_eq!(said.contains(&warning), is_told, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_changes_nothing_and_what_had_its_grace_makes_room() {
    let master = Master::new();
    let small = Master::new();
    let disk = SmallDisk::mount(small.dir.path().to_owned(), "12m");
    for tag in ["1", "2"] {
        let large = noise(u64::from(tag.as_bytes()[0]), 5 * MIB);
        master.publish(&[("a", tag, &[&large])]);
    }
    let options = |hours: i64| Options {
        now: Some(Timestamp::now() + hours.hours()),
        ..small.options("m", &[&master.url()])
    };
    assert_outcome(&run(options(0)).await, Outcome::Followed);
    let mirror = small.mirror("m");
    master.remove("a", |tag| tag == "1");
    assert_outcome(&run(options(1)).await, Outcome::Followed);
    master.publish(&[("a", "3", &[&noise(3, 5 * MIB)])]);
    let before = content(&mirror);
    let report = run(options(2)).await;
    assert_outcome(&report, Outcome::Failed);
    assert_eq!(content(&mirror), before);
    let report = run(options(26)).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    drop(disk);
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
