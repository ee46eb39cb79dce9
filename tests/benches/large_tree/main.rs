//! What a front end pays for a tree of a million blobs: time to load, time to reload, memory.
//!
//!     cargo bench --bench large_tree
//!
//! `REPOSITORIES` and `TAGS` set the size (2,000 and 50 give a million blobs), `HOSTS` the number of
//! mirrors, `TREE` a directory in which the tree is kept from one run to the next. With `-- --test`
//! everything is done once, small.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

mod mirrors;
mod process;
mod synthetic;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oci_mirror::digest::Digest;
use oci_mirror::tree::{Catalog, Tree};
use registry_proxy::config::Config;
use registry_proxy::snapshot::{Snapshot, Watcher};
use synthetic::{Maker, Shape};

fn main() -> anyhow::Result<()> {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let setting = |name, full, small| -> u32 {
        let given = std::env::var(name).ok();
        let given = given.and_then(|text| text.parse().ok());
        given.unwrap_or(if is_test { small } else { full })
    };
    let shape = Shape {
        repositories: u64::from(setting("REPOSITORIES", 2000, 20)),
        tags: u64::from(setting("TAGS", 50, 5)),
    };
    let hosts = setting("HOSTS", 300, 30);
    let temporary = tempfile::tempdir()?;
    let root = match std::env::var_os("TREE") {
        Some(path) => path.into(),
        None => temporary.path().join("tree"),
    };
    let (mut maker, making) = process::measure(|| Maker::make(&root, shape))?;
    making.tell("make the tree");
    println!("{} blobs", maker.blobs());
    // What was written a moment ago may still change unseen, so it would be looked at again.
    std::thread::sleep(Duration::from_secs(3));

    let tree = Tree::open(&root)?;
    let (first, loading) = process::measure(|| Catalog::load(&tree, None))?;
    loading.tell("load");
    let (same, reloading) = process::measure(|| Catalog::load(&tree, Some(&first)))?;
    reloading.tell("reload, nothing changed");
    let drop_it = || {
        drop(same);
        anyhow::Ok(())
    };
    let ((), dropping) = process::measure(drop_it)?;
    dropping.tell("drop a catalog");
    let mut catalog = first;
    for turn in 0..3 {
        maker.move_tag(turn % shape.repositories, 2 + turn)?;
        let (next, reloading) = process::measure(|| Catalog::load(&tree, Some(&catalog)))?;
        reloading.tell("reload, one tag moved");
        catalog = next;
    }
    lookups(&catalog)?;

    let path = temporary.path().join("mirrors.db");
    let (database, filling) = process::measure(|| mirrors::fill(&path, hosts, &catalog))?;
    filling.tell("enter the mirrors");
    let (hosts, reading) = process::measure(|| database.hosts())?;
    reading.tell("read the mirrors");
    let before = process::resident()?;
    let (presence, building) = process::measure(|| database.presence(&catalog, &hosts))?;
    building.tell("read the presence");
    let more = process::resident()?.saturating_sub(before) >> 20;
    println!("{} sets of hosts, {more} MB more", presence.classes());
    drop((presence, database, hosts));
    take_up(&root, &path)
}

/// What a running front end pays for the crawl of one mirror.
fn take_up(tree: &Path, database: &Path) -> anyhow::Result<()> {
    let config = Config {
        tree: tree.to_owned(),
        database: database.to_owned(),
        ..Config::default()
    };
    let snapshot = Arc::default();
    let mut watcher = Watcher::open(&config, Arc::clone(&snapshot))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut look = || {
        process::measure(|| {
            runtime.block_on(watcher.once());
            anyhow::Ok(())
        })
    };
    look()?.1.tell("the first snapshot");
    let presence = || {
        let snapshot: Option<Arc<Snapshot>> = snapshot.load_full();
        snapshot.map(|snapshot| Arc::clone(&snapshot.presence))
    };
    // The first change finds what was written without a number, and reads it once more.
    for what in ["numbered by a crawl of all", "one mirror lost a blob"] {
        let before = presence();
        match what {
            "one mirror lost a blob" => mirrors::lose(database, 1)?,
            _ => mirrors::number(database)?,
        }
        loop {
            let ((), looking) = look()?;
            let is_new = match (&before, &presence()) {
                (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
                _ => false,
            };
            if is_new {
                looking.tell(&format!("take up: {what}"));
                break;
            }
            // A change is taken up when a few times as long has passed as the last one took.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

/// Looks up digests in an order that is none.
fn lookups(catalog: &Catalog) -> anyhow::Result<()> {
    let mut digests: Vec<(Digest, usize)> = Vec::new();
    for (number, (_, repository)) in catalog.repositories().enumerate() {
        let members = repository.members();
        digests.extend(members.map(|id| (catalog.blob(id).digest, number)));
    }
    // By their own bytes, which are as good as random.
    digests.sort_unstable_by_key(|(digest, _)| *digest);
    let repositories: Vec<_> = catalog.repositories().map(|(_, it)| it).collect();
    let (found, looking) = process::measure(|| {
        anyhow::Ok(
            digests
                .iter()
                .filter(|(digest, number)| catalog.member(repositories[*number], digest).is_some())
                .count(),
        )
    })?;
    anyhow::ensure!(found == digests.len(), "a member was not found");
    looking.tell_each("look up a member", found);
    Ok(())
}
