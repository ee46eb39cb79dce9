//! Writes the tables of `conformance/README.md`, or says whether they are what they should be.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use conformance::sample::Sample;
use conformance::shim::{FrontEnd, Shim};
use conformance::{official, table};

/// Writes the tables of `conformance/README.md`.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program of the official suite; without it, its table is left as it is.
    #[arg(long, value_name = "PROGRAM")]
    suite: Option<PathBuf>,
    /// Change nothing; fail if something would have to be changed.
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).context("cannot read README.md")?;
    let mut fresh = table::put(&readme, "requirements", &table::requirements())?;
    if let Some(suite) = &arguments.suite {
        fresh = table::put(&fresh, "official", &run(suite).await?)?;
    }
    if fresh == readme {
        return Ok(());
    }
    if arguments.check {
        bail!("conformance/README.md is not what conformance/run writes");
    }
    std::fs::write(&path, fresh).context("cannot write README.md")
}

/// Runs the suite in both modes; its table.
async fn run(suite: &Path) -> Result<String> {
    let suite = suite
        .canonicalize()
        .with_context(|| format!("no {}", suite.display()))?;
    let program = std::env::current_exe()?;
    let programs = program.parent().context("this program lies nowhere")?;
    let directory = tempfile::tempdir()?;
    let place = |name: &str| -> Result<PathBuf> {
        let path = directory.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    };

    let tree = directory.path().join("tree");
    let sample = Sample::publish(&tree)?;
    let front_end = FrontEnd::start(programs, &tree, directory.path())?;
    let read_only = official::read_only(&suite, front_end.host(), &sample, &place("read-only")?)?;

    let shim = Shim::start(programs, &place("shim")?).await?;
    let (host, results) = (shim.address().to_string(), place("full")?);
    let full = tokio::task::spawn_blocking(move || official::full(&suite, &host, &results));
    let full = full.await??;
    let answered = shim.answered().await;
    table::official(&read_only, &full, answered)
}
