//! SIGKILL at any moment of following a tree: whoever reads the mirror meanwhile finds all that a tag needs,
//! the next run finishes, and nothing is brought twice.
//!
//! One mirror follows one tree over and over while that changes, in turn over HTTP and over rsync; most
//! of these runs are killed somewhere in the middle. `MIRROR_TOOL_KILLS` says how often, for a longer look.

mod adoption;
mod reader;
mod rsync;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mirror_tool::verify;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::{Catalog, Tree, TreePath};

use crate::bench::{MIB, noise};
use crate::sync::master::{Master, Served};
use reader::Readers;
use rsync::Rsyncd;

/// How often to kill.
fn kills() -> u32 {
    let wanted = std::env::var("MIRROR_TOOL_KILLS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// What a run finds to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// Everything: there is no mirror yet.
    First,
    /// New images, some with layers that are there.
    New,
    /// Tags point elsewhere.
    Moved,
    /// Tags and repositories are gone.
    Gone,
    /// Less is carried.
    Filter,
    /// What an earlier run left.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Http,
    Rsync,
}

/// The tree that is followed, and both ways to it.
struct Source {
    master: Master,
    served: Served,
    rsyncd: Rsyncd,
    shared: Vec<u8>,
    seed: u64,
}

impl Source {
    async fn new() -> Self {
        let master = Master::new();
        let mut source = Self {
            served: Served::start(&master.tree()).await,
            rsyncd: Rsyncd::start(&master.tree(), &master.mirror("rsyncd")).await,
            master,
            shared: noise(1, MIB + 1000),
            seed: 1,
        };
        source.publish(&["a", "b/c", "d"], 5);
        source
    }

    /// Publishes images under tags that are there or not.
    fn publish(&mut self, repositories: &[&str], tags: u64) {
        let layers: Vec<(String, String, Vec<u8>)> = repositories
            .iter()
            .flat_map(|repo| (0..tags).map(move |tag| (repo, tag)))
            .map(|(repo, tag)| {
                self.seed += 1;
                let length = 20_000 + 1000 * usize::try_from(tag).unwrap();
                (
                    (*repo).to_owned(),
                    tag.to_string(),
                    noise(self.seed, length),
                )
            })
            .collect();
        let layers: Vec<(&str, &str, [&[u8]; 2])> = layers
            .iter()
            .map(|(repo, tag, own)| (repo.as_str(), tag.as_str(), [&self.shared[..], &own[..]]))
            .collect();
        let images: Vec<(&str, &str, &[&[u8]])> = layers
            .iter()
            .map(|(repo, tag, layers)| (*repo, *tag, &layers[..]))
            .collect();
        self.master.publish(&images);
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::First | Change::Filter | Change::Rest => {}
            Change::New => self.publish(&["a", "e"], 8),
            Change::Moved => self.publish(&["a", "b/c"], 3),
            Change::Gone => {
                // Not twice the same, so that there is always something to take away.
                self.publish(&["f"], 1);
                self.master.remove("a", |tag| tag > "4");
                self.master.remove("e", |_| true);
            }
        }
    }

    fn mirror(&self) -> PathBuf {
        self.master.mirror("m")
    }

    fn command(&self, way: Way, change: Change) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
        let url = match way {
            Way::Http => self.served.url(),
            Way::Rsync => self.rsyncd.url(),
        };
        command
            .args(["sync", "--accept-shrink", "--grace", "0", "--from", &url])
            .arg("--tree")
            .arg(self.mirror());
        if change == Change::Filter {
            command.args(["--exclude", "b/**"]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// The blobs that nobody needs to ask for: whole and right, with a name in the mirror or without.
    fn held(&self) -> BTreeSet<String> {
        let mut held = BTreeSet::new();
        for root in [self.mirror(), self.mirror().join(".~tmp~/sync/files")] {
            let mut pending = vec![root.join("blobs")];
            while let Some(directory) = pending.pop() {
                for entry in fs::read_dir(directory).into_iter().flatten() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        pending.push(path);
                    } else if is_right(&path) {
                        let below = path.strip_prefix(&root).unwrap();
                        held.insert(below.to_str().unwrap().to_owned());
                    }
                }
            }
        }
        held
    }

    /// The blobs that were asked for since this was last called.
    fn asked(&mut self) -> Vec<String> {
        let over_http = self.served.take_log().into_iter().filter_map(|line| {
            let path = line.split(' ').nth(1).unwrap();
            path.starts_with("blobs/").then(|| path.to_owned())
        });
        over_http.chain(self.rsyncd.take_sent()).collect()
    }

    /// Lets runs end until one has nothing to do, and compares the mirror with what it follows.
    fn finish(&mut self, way: Way, context: &str) -> Duration {
        let started = Instant::now();
        let output = self.command(way, Change::Rest).output().unwrap();
        let took = started.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{context}: {said}");
        let mirror = self.mirror();
        assert_sound(&mirror, context);
        let differences = differences(&mirror, &self.master.tree());
        assert_eq!(differences, [] as [PathBuf; 0], "{context}");
        let names = |directory: &str| -> BTreeSet<String> {
            fs::read_dir(mirror.join(directory))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        assert_eq!(
            names(".~tmp~"),
            BTreeSet::from(["sync".to_owned()]),
            "{context}"
        );
        assert_eq!(names(".~tmp~/sync/files"), BTreeSet::new(), "{context}");
        took
    }
}

fn is_right(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let Ok(digest) = Digest::from_parts(Algorithm::Sha256, name) else {
        return false;
    };
    fs::read(path).is_ok_and(|content| Algorithm::Sha256.digest(&content) == digest)
}

#[track_caller]
fn assert_sound(tree: &Path, context: &str) {
    let report = verify::run(tree).unwrap();
    assert_eq!(report.damage, [], "{context}: {report}");
    Catalog::load(&Tree::open(tree).unwrap(), None).unwrap();
}

/// Files that one tree has and the other has not, or has otherwise.
fn differences(one: &Path, other: &Path) -> Vec<PathBuf> {
    let content = |root: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let files = crate::bench::snapshot(root).into_iter();
        let files = files
            .map(|(path, (.., content))| (path.strip_prefix(root).unwrap().to_owned(), content));
        files
            .filter(|(path, _)| !path.starts_with(".~tmp~"))
            .collect()
    };
    let (one, other) = (content(one), content(other));
    let paths: BTreeSet<&PathBuf> = one.keys().chain(other.keys()).collect();
    let differ = paths
        .into_iter()
        .filter(|path| one.get(*path) != other.get(*path));
    differ.cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_no_reader_misses_anything_and_the_next_run_finishes() {
    tokio::task::spawn_blocking({
        let source = Source::new().await;
        move || kill_often(source)
    })
    .await
    .unwrap();
}

fn kill_often(mut source: Source) {
    let readers = Readers::start(&source.mirror());
    let wanted = kills();
    // How long a run takes that is not killed, to begin with.
    let mut whole: BTreeMap<(Way, Change), Duration> = BTreeMap::new();
    let mut killed: BTreeMap<(Way, Change), u32> = BTreeMap::new();
    let (mut marked, mut staged, mut removed) = (0, 0, 0);
    let mut random = 1_u64;
    for round in 0_u32.. {
        let total: u32 = killed.values().sum();
        // Where in a run a kill falls depends on the machine: a few more, until each part of it had one.
        if total >= wanted && (wanted < 40 || marked > 0 && staged > 0) {
            break;
        }
        assert!(
            round < 20 * wanted,
            "only {total} of {round} runs were killed, {staged} while files were coming, {marked} while they were named"
        );
        let way = [Way::Http, Way::Rsync][round as usize / 6 % 2];
        let change = [
            Change::First,
            Change::Rest,
            Change::New,
            Change::Moved,
            Change::Gone,
            Change::Filter,
        ][round as usize % 6];
        let context = format!("round {round}, {change:?} over {way:?}");
        if change == Change::First {
            readers.pause(|| drop(fs::remove_dir_all(source.mirror())));
        }
        source.change(change);
        let held = source.held();
        source.asked();

        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let part = u32::try_from(random >> 40 & 0xff).unwrap();
        let limit = *whole
            .get(&(way, change))
            .unwrap_or(&Duration::from_millis(400));
        let started = Instant::now();
        let mut child = source.command(way, change).spawn().unwrap();
        let until = started + limit * part / 250;
        let ended = ended_before(until, &mut child);
        match ended {
            None => *killed.entry((way, change)).or_default() += 1,
            Some(status) => {
                assert_eq!(status.code(), Some(0), "{context}");
                whole.insert((way, change), started.elapsed());
            }
        }
        assert_eq!(readers.complaints(), [] as [String; 0], "{context}");
        let twice: Vec<String> = source
            .asked()
            .into_iter()
            .filter(|it| held.contains(it))
            .collect();
        assert_eq!(twice, [] as [String; 0], "{context}: brought twice");
        marked += u32::from(source.mirror().join(".~tmp~/dirty").exists());
        let staging = source.mirror().join(".~tmp~/sync/files/blobs");
        staged += u32::from(staging.exists());
        let state = fs::read(source.mirror().join("state.json"));
        let is_new = state
            .is_ok_and(|state| state == fs::read(source.master.tree().join("state.json")).unwrap());
        removed += u32::from(is_new && ended.is_none());
        if ended.is_some() || round % 7 == 6 {
            let took = source.finish(way, &context);
            whole.entry((way, Change::Rest)).or_insert(took);
        }
        if ended.is_none() {
            // Slower the next time, if it never comes to its end.
            let limit = whole.entry((way, change)).or_insert(limit);
            *limit = (*limit * 21 / 20).min(Duration::from_secs(10));
        }
    }
    source.finish(Way::Http, "the end");
    let looked = readers.stop();
    eprintln!(
        "killed: {killed:?}; {staged} times while files were coming, {marked} times while they were \
         named, {removed} times after the state; tags were looked at {looked} times"
    );
    if wanted >= 40 {
        assert!(staged > 0 && marked > 0 && looked > 0);
        assert!(
            killed.keys().any(|(way, _)| *way == Way::Rsync),
            "{killed:?}"
        );
    }
}

/// The path of a blob in its repository.
fn link(tree: &Path, repo: &oci_mirror::tree::RepoDir, digest: Digest) -> PathBuf {
    TreePath::Link(repo.clone(), digest).under(tree)
}

/// How a program ends by itself before a moment; at that moment it is killed.
fn ended_before(until: Instant, child: &mut Child) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= until {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
