//! What it costs to follow a tree of 100,000 names, beside the real rsync.
//!
//!     cargo build --release --bins && cargo bench --bench sync
//!
//! 20,000 blobs of a few KiB, each with four links beside its own name. A tree is followed by `rsync -aH` and by
//! `mirror-tool sync`, over rsync and over HTTP, each a process of its own, from a daemon of rsync and from nginx
//! on loopback; bytes are counted by a relay in between. `GROUPS` sets the size of the tree (400 blobs each; 50),
//! `RUNS` how often each is measured (3; the best counts), `MIRROR_TOOL` the program (else that of the same build).
//! With `-- --test` everything is done once, small. It needs rsync and nginx. Nothing is removed before the end:
//! for a minute, ext4 looks for inodes that were not in use of late, and that would be most of what is measured.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

mod contender;
mod relay;
mod table;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use support::peer::nginx;
use support::peer::rsyncd::RsyncDaemon;
use support::process::{program, run};

use contender::{Cost, Way};
use relay::Relay;
use table::{Goal, Row, Table};

/// What is wanted when nothing is new.
const UNCHANGED: Goal = Goal::Within(Duration::from_millis(20), 4 << 10);

/// What is wanted when a hundred blobs are new.
const FEW: Goal = Goal::Within(Duration::from_millis(250), u64::MAX);

fn main() -> Result<()> {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let setting = |name: &str, full: usize| {
        let given = std::env::var(name).ok();
        let given = given.and_then(|text| text.parse().ok());
        given.unwrap_or(if is_test { 1 } else { full })
    };
    let (groups, runs) = (setting("GROUPS", 50), setting("RUNS", 3));
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path();
    let source = dir.join("source");
    let names = tree::make(&source, groups)?;
    println!("{names} names");

    let daemon = RsyncDaemon::start("tree", &source, &dir.join("rsyncd"))?;
    let web = nginx::start(&source, &dir.join("nginx"))?;
    let rsync = Relay::start(daemon.address())?;
    let http = Relay::start(web.address())?;
    let ways = [
        Way::Rsync(&rsync),
        Way::OurRsync(&rsync, mirror_tool()?),
        Way::OurHttp(&http, mirror_tool()?),
    ];

    // Whoever comes first would warm the caches for the others.
    run(program("cp")?.arg("-a").arg(&source).arg(dir.join("warm")))?;
    fs::remove_dir_all(dir.join("warm"))?;
    let mut table = Table::default();
    let mut first = Vec::new();
    let mut same = Vec::new();
    for way in &ways {
        let tree = dir.join(way.name());
        let mut run = 0;
        first.push(best(runs, || {
            if run > 0 {
                fs::rename(&tree, dir.join(format!("{} {run}", way.name())))?;
            }
            run += 1;
            fs::create_dir(&tree)?;
            way.follow(&tree)
        })?);
        same.push(best(runs, || way.follow(&tree))?);
    }
    let added = tree::add(&source, groups)?;
    let mut new = Vec::new();
    for way in &ways {
        let old = dir.join(way.name());
        new.push(best(runs, || {
            on_a_copy(&old, dir, |copy| way.follow(copy))
        })?);
    }
    let by_name = best(runs, || {
        on_a_copy(&dir.join(ways[0].name()), dir, |copy| {
            contender::by_name(&rsync, &added, &dir.join("names"), copy)
        })
    })?;
    for way in &ways[1..] {
        let copy = dir.join("checked");
        clone(&dir.join(way.name()), &copy)?;
        way.follow(&copy)?;
        is_same(&source, &copy)?;
        fs::rename(&copy, dir.join(format!("{} checked", way.name())))?;
    }

    for (number, way) in ways.iter().enumerate().skip(1) {
        let mut compare = |what, costs: &[Cost], goal| {
            let peer = ("rsync -aH", costs[0]);
            table.push(Row::new(what, way.name(), costs[number], peer, goal));
        };
        compare("first", &first, Goal::Peer);
        compare("nothing new", &same, UNCHANGED);
        compare("100 new blobs", &new, FEW);
    }
    let peer = ("rsync -aH --files-from", by_name);
    table.push(Row::new("100 new blobs", ways[1].name(), new[1], peer, FEW));
    println!("\n{table}");
    Ok(())
}

/// The program to be measured.
fn mirror_tool() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MIRROR_TOOL") {
        return Ok(path.into());
    }
    let bench = std::env::current_exe()?;
    let path = bench
        .ancestors()
        .nth(2)
        .context("no directory of programs")?;
    let path = path.join("mirror-tool");
    ensure!(path.is_file(), "{} is not built", path.display());
    Ok(path)
}

fn best(runs: usize, mut measure: impl FnMut() -> Result<Cost>) -> Result<Cost> {
    let mut best = measure()?;
    for _ in 1..runs {
        best = best.or_better(measure()?);
    }
    Ok(best)
}

fn on_a_copy(tree: &Path, dir: &Path, measure: impl FnOnce(&Path) -> Result<Cost>) -> Result<Cost> {
    let copy = tempfile::Builder::new().prefix("copy").tempdir_in(dir)?;
    let copy = copy.keep().join("tree");
    clone(tree, &copy)?;
    measure(&copy)
}

/// The same names of the same files: nobody writes into a file that has a name.
fn clone(tree: &Path, copy: &Path) -> Result<()> {
    run(program("cp")?.arg("-al").arg(tree).arg(copy))?;
    // But for what is our own.
    let sync = Path::new(".~tmp~/sync");
    if tree.join(sync).exists() {
        fs::remove_dir_all(copy.join(sync))?;
        run(program("cp")?
            .arg("-a")
            .arg(tree.join(sync))
            .arg(copy.join(sync)))?;
    }
    // What was written must not be waited for while the next is measured.
    run(&mut program("sync")?)?;
    Ok(())
}

/// A measurement of something that was not done is none.
fn is_same(source: &Path, copy: &Path) -> Result<()> {
    let compared = run(program("diff")?
        .args(["-rq", "--exclude=.~tmp~"])
        .arg(source)
        .arg(copy))?;
    ensure!(compared.stdout.is_empty(), "{}", compared.stdout);
    Ok(())
}
