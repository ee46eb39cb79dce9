//! `registry-proxy crawl`.

use std::fmt::Write as _;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use clap::Args;
use oci_mirror::size::ByteSize;
use oci_mirror::tree::{Catalog, Tree};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::once::{self, HostReport, Report};
use super::schedule::Schedule;
use super::visit::{Depth, Options};
use crate::config::Config;
use crate::mirror::print;
use crate::network::HostName;
use crate::snapshot::Watcher;

/// The arguments of `crawl`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Read every byte of every blob once, report, and end
    #[arg(long)]
    once: bool,
    /// With --once: look at and read only what would be if it were the mirrors' turn
    #[arg(long, requires = "once")]
    sample: bool,
    /// Report as JSON
    #[arg(long)]
    json: bool,
    /// Only these mirrors
    #[arg(value_name = "NAME")]
    names: Vec<HostName>,
}

/// Crawls, once or until stopped.
pub async fn run(arguments: Arguments, config: &Config) -> anyhow::Result<ExitCode> {
    if !config.database.exists() {
        anyhow::bail!(
            "there is no database {}: enter a mirror first",
            config.database.display()
        );
    }
    if !arguments.once {
        return keep_crawling(config).await;
    }
    let root = config.tree.clone();
    let load = move || {
        let tree = Tree::open(&root)?;
        Catalog::load(&tree, None).map(|catalog| (tree, catalog))
    };
    let (tree, catalog) = tokio::task::spawn_blocking(load)
        .await?
        .context("cannot crawl without a tree")?;
    let depth = if arguments.sample {
        Depth::Incremental
    } else {
        Depth::Full
    };
    let options = Options {
        depth,
        ..Options::from_config(config)
    };
    let catalog = Arc::new(catalog);
    let (database, names) = (&config.database, &arguments.names);
    let mut crawling = pin!(once::crawl(database, &tree, catalog, names, &options));
    let report = tokio::select! {
        report = &mut crawling => report?,
        told = told_to_stop() => {
            told?;
            options.stop.cancel();
            tokio::select! {
                report = crawling => report?,
                told = told_to_stop() => return told.map(|()| ExitCode::FAILURE),
            }
        }
    };
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&text(&report))?;
    }
    if options.stop.is_cancelled() {
        anyhow::bail!("stopped before all mirrors were crawled");
    }
    Ok(ExitCode::SUCCESS)
}

async fn keep_crawling(config: &Config) -> anyhow::Result<ExitCode> {
    let snapshot = Arc::new(ArcSwapOption::empty());
    let mut watcher = Watcher::open(config, Arc::clone(&snapshot))?;
    watcher.once().await;
    let shutdown = CancellationToken::new();
    let stopping = async {
        let told = told_to_stop().await;
        shutdown.cancel();
        told
    };
    // Notices of what was recorded are delivered before the end.
    let crawling = Schedule::new(config, snapshot).run(shutdown.clone());
    let ((), (), stopped) = tokio::join!(crawling, watcher.run(shutdown.clone()), stopping);
    stopped?;
    Ok(ExitCode::SUCCESS)
}

/// Comes back when an operator or a service manager says so.
async fn told_to_stop() -> anyhow::Result<()> {
    let watch = |kind| signal(kind).context("cannot watch for signals");
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// The report for people.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for host in &report.hosts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line(host));
        for evidence in &host.evidence {
            let _ = writeln!(
                text,
                "  {} at {}: {}",
                evidence.digest, evidence.url, evidence.found
            );
        }
    }
    if report.hosts.is_empty() {
        text.push_str("there are no mirrors to crawl\n");
    }
    text
}

fn line(host: &HostReport) -> String {
    if let Some(failure) = &host.failure {
        return format!("{:<24} failed: {failure}", host.name);
    }
    let mut line = format!("{:<24} {} verified", host.name, host.verified);
    for (count, word) in [
        (host.present, "not read yet"),
        (host.missing, "missing"),
        (host.damaged, "damaged"),
        (host.unknown, "unknown"),
    ] {
        if count > 0 {
            let _ = write!(line, ", {count} {word}");
        }
    }
    let seconds = host.duration_ms / 1000;
    let _ = write!(
        line,
        "; read {} in {} requests, {seconds}.{:01} s",
        ByteSize(host.bytes),
        host.requests,
        host.duration_ms % 1000 / 100
    );
    if host.sampled > 0 {
        let _ = write!(
            line,
            "; {} sampled, which shows 1 % damage with {:.1} % (the first day of such a mirror: {:.1} %)",
            host.sampled,
            host.odds * 100.0,
            host.expected * 100.0
        );
    }
    match host.behind {
        None | Some(0) => {}
        Some(1) => line.push_str("; one serial behind"),
        Some(serials) => {
            let _ = write!(line, "; {serials} serials behind");
        }
    }
    for probe in &host.failed_probes {
        let _ = write!(line, "; {} failed: {}", probe.name, probe.detail);
    }
    line
}
