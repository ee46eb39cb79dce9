//! What a request costs the front end, beside the cheapest servers there are for the same bytes.
//!
//!     cargo bench -p registry_proxy --bench front_end
//!
//! Every server is a process of its own, so that its CPU time can be read from `/proc`; this process sends
//! the requests. A tree of a million blobs, 300 mirrors in 68 countries and clients all over the address
//! space are made up; the tree is written once, under `target`. `RUNS` (3) is how often everything
//! is measured, of which the best counts; `REQUESTS` (200000) is how many requests make one measurement.
//! A goal missed is shown, and is no failure: machines differ.

mod load;
mod network;
mod peer;
mod requests;
mod table;
mod tree;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;

use load::Measured;
use peer::Peer;
use requests::Pool;
use table::{Row, Table};
use tree::Shape;

/// A million blobs, 300 mirrors.
const LARGE: Shape = Shape {
    repositories: 100,
    manifests: 100_000,
    mirrors: 300,
};

/// A thousand blobs, ten mirrors.
const SMALL: Shape = Shape {
    repositories: 10,
    manifests: 100,
    mirrors: 10,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("serve") => peer::serve(&arguments[1..]),
        Some("--test") => compare(SMALL, 2_000, 1),
        _ => number("REQUESTS", 200_000)
            .and_then(|requests| compare(LARGE, requests, number("RUNS", 3)?)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

/// Measures every pair of front end and peer, and shows how they compare.
fn compare(shape: Shape, requests: usize, runs: usize) -> anyhow::Result<()> {
    let (large, small) = (shape.tree()?, SMALL.tree()?);
    eprintln!("choosing clients and blobs");
    let redirects = Pool::redirects(&shape, "302")?;
    let metalinks = Pool::metalinks(&shape)?;
    let manifests = Pool::manifests(&shape)?;
    let first = Pool::first(&shape, requests + requests / 10)?;
    let few = Pool::redirects(&SMALL, "302")?;
    let file = Pool::same("/2k", "200")?;
    let files = Pool::manifest_files(&shape)?;
    let base = Pool::same("/v2/", "200")?;
    eprintln!("starting servers");
    let front = Peer::start(&["front-end", &large.display().to_string()])?;
    let remembering = Peer::start(&["front-end-with-memory", &large.display().to_string()])?;
    let little = Peer::start(&["front-end", &small.display().to_string()])?;
    let fixed = Peer::start(&["fixed-redirect"])?;
    let body = Peer::start(&["fixed-body"])?;
    let nginx = Peer::nginx(&large)?;
    let timed = Peer::start(&["timed-redirect"])?;
    let full = Peer::start(&["full-redirect"])?;
    let per_core = Peer::start(&["redirect-per-core"])?;

    let cells: [(&Peer, &Pool, usize); 17] = [
        (&front, &redirects, 64),
        (&fixed, &redirects, 64),
        (&front, &metalinks, 64),
        (&body, &metalinks, 64),
        (&front, &manifests, 64),
        (&nginx, &file, 64),
        (&little, &few, 64),
        (&front, &redirects, 512),
        (&fixed, &redirects, 512),
        (&timed, &redirects, 64),
        (&per_core, &redirects, 64),
        (&per_core, &redirects, 512),
        (&front, &base, 64),
        (&full, &redirects, 64),
        (&remembering, &first, 64),
        (&front, &first, 64),
        (&nginx, &files, 64),
    ];
    let mut best: [Option<Measured>; 17] = [None; 17];
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        for (slot, (peer, pool, connections)) in best.iter_mut().zip(cells) {
            let found = load::measure(peer, pool, connections, requests)?;
            *slot = Some(slot.map_or(found, |known| known.best(found)));
        }
    }
    let best: Vec<Measured> = best.into_iter().flatten().collect();
    let best: [Measured; 17] = best
        .try_into()
        .map_err(|_| anyhow::anyhow!("RUNS=0 measures nothing"))?;
    let mut out = std::io::stdout();
    write!(out, "{}", report(&best))?;
    let resident = front.resident()? >> 20;
    writeln!(out, "\nMemory of the front end: {resident} MB")?;
    Ok(())
}

/// What was measured, in the order of the cells.
#[rustfmt::skip]
fn report(best: &[Measured; 17]) -> Table {
    let [
        redirect, fixed, metalink, body, manifest, nginx, few, crowd, fixed_crowd, timed, split, split_crowd, base, full,
        remembering, forgetful, files,
    ] = *best;
    let (minimal, one) = ("hyper, one 302", "hyper, one runtime");
    Table(vec![
        Row::cpu("302 to a mirror", redirect, minimal, fixed, Some(1.25)),
        Row::cpu("metalink 4 of 4 KB", metalink, "hyper, one body of 3 KB", body, Some(1.5)),
        Row::cpu("manifest", manifest, "nginx, a file of 2 KB", nginx, Some(1.0)),
        Row::cpu("manifest", manifest, "nginx, the same as files", files, None),
        Row::cpu("302, 1M blobs x 300 mirrors", redirect, "302, 1k x 10", few, Some(1.3)),
        Row::p99("302, 64 connections", redirect, minimal, fixed, Some(2.0)),
        Row::p99("302, 512 connections", crowd, minimal, fixed_crowd, Some(2.0)),
        Row::cpu("302 to a mirror", redirect, "hyper, one 302 of 15 fields", full, None),
        Row::cpu("302, requests remembered", remembering, "302, nothing remembered", forgetful, Some(1.03)),
        Row::cpu("`GET /v2/`, two bytes", base, minimal, fixed, None),
        Row::cpu("hyper, a timer for each head", timed, minimal, fixed, None),
        Row::cpu("hyper, a runtime per core", split, one, fixed, None),
        Row::p99("the same, 64 connections", split, one, fixed, None),
        Row::p99("the same, 512 connections", split_crowd, one, fixed_crowd, None),
    ])
}
