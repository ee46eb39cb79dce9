//! SIGKILL at any moment: what can be seen of a tree is whole, and the next run finishes.
//!
//! One tree is exported to, pruned and exported to with `--prune`, over and over, while its source
//! changes; most of these runs are killed somewhere in the middle. `MIRROR_TOOL_KILLS` says how often,
//! for a longer look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mirror_tool::verify;
use oci_mirror::tree::{Catalog, Tree};

use crate::bench::{Bench, MIB, noise};

/// How often to kill.
fn kills() -> u32 {
    let wanted = std::env::var("MIRROR_TOOL_KILLS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(200)
}

const TAGS: u64 = 8;

/// The source, and what of it there is at the moment.
struct Source {
    bench: Bench,
    shared: Vec<u8>,
    seed: u64,
    tags: BTreeSet<String>,
}

impl Source {
    async fn new() -> Self {
        let mut source = Self {
            bench: Bench::new().await,
            shared: noise(1, MIB + 1000),
            seed: 1,
            tags: BTreeSet::new(),
        };
        for tag in 0..TAGS {
            source.push(tag);
        }
        source
    }

    fn push(&mut self, tag: u64) {
        self.seed += 1;
        let own = noise(self.seed, 20_000);
        let tag = tag.to_string();
        let registry = &self.bench.registry;
        let image = registry.image("a", Some(&tag), &[&self.shared, &own]);
        let signature = format!("{}.sig", image.to_string().replace(':', "-"));
        registry.image("a", Some(&signature), &[signature.as_bytes()]);
        self.tags.extend([tag, signature]);
    }

    /// Some tags move, one comes or goes.
    fn change(&mut self) {
        for number in 0..3 {
            self.push((self.seed + number * 3) % TAGS);
        }
        let come_and_gone = "often-gone".to_owned();
        if self.tags.remove(&come_and_gone) {
            self.bench.registry.untag("a", &come_and_gone);
        } else {
            let layers: [&[u8]; 1] = [&self.shared];
            let tag = Some(come_and_gone.as_str());
            self.bench.registry.image("a", tag, &layers);
            self.tags.insert(come_and_gone);
        }
    }

    fn command(&self, run: Run) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirror-tool"));
        let source = format!("{}/a", self.bench.registry.address);
        match run {
            Run::Export => command.args(["export", "--plain-http", "--jobs", "2", &source]),
            Run::ExportAndRemove => command.args([
                "export",
                "--plain-http",
                "--prune",
                "--accept-shrink",
                &source,
            ]),
            Run::Prune => command.args(["prune", "--grace", "0"]),
        };
        command
            .arg("--tree")
            .arg(self.bench.tree())
            .env("HOME", self.bench.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Whether there is a tree, and if so that nothing of it is wrong.
    fn is_sound(&self, context: &str) -> bool {
        let tree = self.bench.tree();
        if !tree.join("repos/a/index.json").exists() {
            return false;
        }
        let report = verify::run(&tree).unwrap();
        assert_eq!(report.damage, [], "{context}: {report}");
        if tree.join("state.json").exists() {
            let loaded = Catalog::load(&Tree::open(&tree).unwrap(), None);
            assert!(loaded.is_ok(), "{context}: {loaded:?}");
        }
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    Export,
    ExportAndRemove,
    Prune,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_a_tree_is_sound_and_the_next_run_finishes() {
    let mut source = Source::new().await;
    // How long a run takes that is not killed.
    let mut whole = finish(&source, "the beginning").await;
    let mut killed: BTreeMap<Run, u32> = BTreeMap::new();
    let mut interrupted = 0;
    let wanted = kills();
    for round in 0_u32.. {
        let total: u32 = killed.values().sum();
        if total >= wanted {
            break;
        }
        assert!(
            round < 20 * wanted,
            "only {total} of {round} runs were killed"
        );
        // Now and then from nothing, so that the beginning of a tree's life is hit too.
        if round % 40 == 0 && source.bench.tree().exists() {
            fs::remove_dir_all(source.bench.tree()).unwrap();
        }
        let run = [Run::Export, Run::Prune, Run::ExportAndRemove][round as usize % 3];
        if run != Run::Prune {
            source.change();
        }
        if run == Run::Prune && !source.bench.tree().join("state.json").exists() {
            continue;
        }
        let mut child = source.command(run).spawn().unwrap();
        tokio::time::sleep(whole[&run] * (round * 37 % 101) / 100).await;
        child.kill().unwrap();
        if child.wait().unwrap().code().is_none() {
            *killed.entry(run).or_default() += 1;
        }
        let context = format!("round {round}, {run:?}");
        if source.is_sound(&context) {
            let mark = source.bench.tree().join(".~tmp~/dirty");
            interrupted += u32::from(mark.exists());
        }
        if round % 25 == 24 {
            source.change();
            whole = finish(&source, &context).await;
        }
    }
    finish(&source, "the end").await;
    eprintln!("killed: {killed:?}; {interrupted} times the tree was left in the middle");
    assert!(
        killed.len() == 3 && interrupted > 0,
        "{killed:?}, {interrupted}"
    );
}

/// Lets runs end, looks for what killed ones may have left behind, and says how long each kind of run
/// takes.
async fn finish(source: &Source, context: &str) -> BTreeMap<Run, Duration> {
    let mut whole = BTreeMap::new();
    for run in [Run::ExportAndRemove, Run::Prune] {
        let mut command = source.command(run);
        let started = Instant::now();
        let status = tokio::task::spawn_blocking(move || command.status().unwrap());
        let status = status.await.unwrap();
        assert_eq!(status.code(), Some(0), "{context}: {run:?}");
        whole.insert(run, started.elapsed());
    }
    whole.insert(Run::Export, whole[&Run::ExportAndRemove]);
    assert!(source.is_sound(context));
    let report = verify::run(&source.bench.tree()).unwrap();
    assert_eq!(report.summary.unreferenced, 0, "{context}");
    let litter: Vec<_> = fs::read_dir(source.bench.tree().join(".~tmp~"))
        .unwrap()
        .collect();
    assert!(litter.is_empty(), "{context}: {litter:?}");
    let tree = Tree::open(&source.bench.tree()).unwrap();
    let index = tree.index(&"a".parse().unwrap()).unwrap();
    let tags: BTreeSet<String> = index.tags().map(|(tag, _)| tag.to_string()).collect();
    assert_eq!(tags, source.tags, "{context}");
    whole
}
