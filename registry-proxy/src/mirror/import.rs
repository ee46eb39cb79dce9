//! `registry-proxy import` and `export`: the whole network as a file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::output::{self, shown};
use super::{Missing, open};
use crate::db::{Imported, Pruning, Tally, Trial};
use crate::network::Import;
use crate::network::import::MAX_LEN;

/// What to take over, and how.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A file that `export` wrote, or somebody else; `-` for standard input
    file: PathBuf,
    /// Forget what the file does not name
    #[arg(long)]
    prune: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// How to write the network down.
#[derive(Debug, Args)]
pub struct Export {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Takes over a network, all of it or nothing; what to answer.
pub fn run(arguments: &Arguments, path: &Path) -> Result<String> {
    let file = &arguments.file;
    let import: Import = read(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .parse()
        .with_context(|| format!("{} is no network, nothing is changed", file.display()))?;
    if arguments.prune && import.mirrors().is_empty() {
        // Most likely whatever should have written it has failed.
        bail!(
            "{} names no mirror: all there are would be forgotten",
            file.display()
        );
    }
    let (trial, missing) = if arguments.dry_run {
        (Trial::Undone, Missing::Wrong)
    } else {
        (Trial::Done, Missing::Made)
    };
    let pruning = if arguments.prune {
        Pruning::Prune
    } else {
        Pruning::Keep
    };
    let imported = open(path, missing)?.import(&import, pruning, trial, Timestamp::now())?;
    if arguments.json {
        let answer = json!({"dry-run": arguments.dry_run, "imported": imported});
        return Ok(output::json(&answer)?);
    }
    Ok(text(&imported, trial))
}

/// The network as a file.
pub fn export(arguments: &Export, path: &Path) -> Result<String> {
    let export = open(path, Missing::Wrong)?.export()?;
    if arguments.json {
        return Ok(output::json(&export)?);
    }
    Ok(format!("# Read by `registry-proxy import`.\n\n{export}"))
}

/// The text of the file; of one that is too large, enough to see that it is.
fn read(file: &Path) -> io::Result<String> {
    let most = MAX_LEN as u64 + 1;
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_string(&mut text)?;
    } else {
        File::open(file)?.take(most).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn text(imported: &Imported, trial: Trial) -> String {
    let mut text = String::new();
    for (what, tally) in [
        ("sites", &imported.sites),
        ("accounts", &imported.accounts),
        ("mirrors", &imported.mirrors),
    ] {
        describe(&mut text, what, tally);
    }
    if trial == Trial::Undone {
        text.push_str("nothing was changed: this was a trial\n");
    }
    text
}

fn describe(text: &mut String, what: &str, tally: &Tally) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{what}: {} added, {} changed, {} as they were, {} removed",
        tally.added.len(),
        tally.changed.len(),
        tally.unchanged,
        tally.removed.len()
    );
    for name in &tally.added {
        let _ = writeln!(text, "  added {name}");
    }
    for changed in &tally.changed {
        let _ = writeln!(
            text,
            "  changed {}: {}",
            changed.name,
            changed.fields.join(", ")
        );
    }
    for name in &tally.removed {
        let _ = writeln!(text, "  removed {}", shown(name));
    }
}
