//! What a crawl of many mirrors takes, and what the next one takes an hour later.
//!
//!     cargo bench --bench crawl
//!
//! Another process serves `BLOBS` small blobs on `HOSTS` ports (10,000 and 300); this one crawls them all, and
//! then again with the clock an hour later, without bounds on how fast a mirror is asked. With `-- --test`
//! everything is done once, small. What is claimed is checked: the second crawl takes at most a twentieth of
//! the requests and of the time of the first, and neither more than 200 MB.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

#[path = "../large_tree/process.rs"]
#[expect(dead_code, reason = "another bench uses the rest of it")]
mod process;
mod server;
mod tree;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use oci_mirror::tree::{Catalog, Tree};
use registry_proxy::crawler::guard::Policy;
use registry_proxy::crawler::once::crawl_at;
use registry_proxy::crawler::{Depth, Options, Report};
use registry_proxy::db::Database;
use registry_proxy::network::NewHost;

/// What one crawl may need at most, in bytes.
const MEMORY: u64 = 200 << 20;

/// With fewer blobs than this a mirror's samples are more than one in a hundred.
const FEW: usize = 2000;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, root, hosts] = &arguments[..]
        && command == server::COMMAND
    {
        return server::serve(Path::new(root), hosts.parse()?);
    }
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let setting = |name, full, small| -> usize {
        let given = std::env::var(name).ok();
        let given = given.and_then(|text| text.parse().ok());
        given.unwrap_or(if is_test { small } else { full })
    };
    let (hosts, blobs) = (setting("HOSTS", 300, 4), setting("BLOBS", 10_000, 1000));
    let temporary = tempfile::tempdir()?;
    let root = temporary.path().join("tree");
    tree::make(&root, blobs)?;
    let server = server::Server::start(&root, hosts)?;
    let tree = Tree::open(&root)?;
    let catalog = Arc::new(Catalog::load(&tree, None)?);
    println!("{hosts} mirrors, {} blobs", catalog.blobs().in_use());
    let path = temporary.path().join("mirrors.db");
    let mut database = Database::open(&path)?;
    for (number, port) in server.ports.iter().enumerate() {
        let url = format!("http://127.0.0.1:{port}").parse()?;
        database.add_host(&NewHost::new(format!("m{number}").parse()?, vec![url]))?;
    }
    drop(database);

    let runtime = tokio::runtime::Runtime::new()?;
    let options = Options {
        policy: Policy::Any,
        depth: Depth::Incremental,
        rate: None,
        bytes_per_second: None,
        ..Options::default()
    };
    let crawl = |what: &str, now: Timestamp| -> anyhow::Result<Crawled> {
        let began = Instant::now();
        let crawling = || {
            let catalog = Arc::clone(&catalog);
            runtime.block_on(crawl_at(now, &path, &tree, catalog, &[], &options))
        };
        let (report, measured) = process::measure(crawling)?;
        let crawled = Crawled::of(&report, began.elapsed())?;
        measured.tell(what);
        crawled.tell(hosts);
        Ok(crawled)
    };
    let now = Timestamp::now() - SignedDuration::from_hours(3);
    let first = crawl("the first crawl", now)?;
    let second = crawl(
        "the next, an hour later",
        now + SignedDuration::from_hours(1),
    )?;
    if blobs < FEW {
        println!(
            "(20 blobs of a mirror are read again, however few it has: here that is most of the next)"
        );
    }
    println!(
        "the next takes {:.2} % of the requests, {:.2} % of the bytes, {:.2} % of the time",
        percent(second.requests, first.requests),
        percent(second.bytes, first.bytes),
        100.0 * second.took.as_secs_f64() / first.took.as_secs_f64(),
    );
    let all = (hosts * catalog.blobs().in_use()) as u64;
    for crawled in [&first, &second] {
        anyhow::ensure!(crawled.verified == all, "not all is verified");
    }
    if !is_test {
        anyhow::ensure!(second.requests * 20 <= first.requests, "too many requests");
        anyhow::ensure!(second.took * 20 <= first.took, "too much time");
        anyhow::ensure!(first.peak.max(second.peak) < MEMORY, "too much memory");
    }
    Ok(())
}

/// What a crawl of all mirrors took.
#[derive(Debug)]
struct Crawled {
    verified: u64,
    requests: u64,
    bytes: u64,
    took: Duration,
    peak: u64,
}

impl Crawled {
    fn of(report: &Report, took: Duration) -> anyhow::Result<Self> {
        let failed = report.hosts.iter().find(|host| host.failure.is_some());
        anyhow::ensure!(failed.is_none(), "{failed:?}");
        let status = std::fs::read_to_string("/proc/self/status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.split_whitespace().next());
        let peak: u64 = peak.context("malformed status")?.parse()?;
        Ok(Self {
            verified: report.hosts.iter().map(|host| host.verified).sum(),
            requests: report.hosts.iter().map(|host| host.requests).sum(),
            bytes: report.hosts.iter().map(|host| host.bytes).sum(),
            took,
            peak: peak << 10,
        })
    }

    fn tell(&self, hosts: usize) {
        let each = |count: u64| count / hosts.max(1) as u64;
        println!(
            "  of each mirror {} requests and {} kB",
            each(self.requests),
            each(self.bytes) / 1000
        );
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "of a percentage nobody counts the digits"
)]
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}
