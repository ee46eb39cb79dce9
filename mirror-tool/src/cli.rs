//! The command line.

mod connection;
mod export;
mod report;
mod site_config;
mod sync;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use oci_mirror::age::Age;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{self, Exit, told};
use crate::export::Report;
use crate::say::say;
use crate::{list, manual, prune, serve, verify};
use connection::Connection;
use export::Export;
use site_config::SiteConfig;
use sync::Sync;

/// Make, check and list trees of container images for a mirror network.
#[derive(Debug, Parser)]
#[command(name = "mirror-tool", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on standard error; twice for each request.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy images from registries and image layouts into a tree.
    Export(Box<Export>),
    /// Hash everything again and check that every tag is complete.
    Verify(Box<Verify>),
    /// Remove what no tag needs any more.
    Prune(Prune),
    /// List repositories, tags and sizes.
    List(List),
    /// Hand the tree out as a static mirror would, for trying things out.
    Serve(Serve),
    /// Follow another tree: what a mirror does every few minutes.
    Sync(Box<Sync>),
    /// Tell the front end what this mirror holds.
    Report(report::Report),
    /// Write ready configuration for a mirror to standard output.
    SiteConfig(Box<SiteConfig>),
    /// Write what a shell needs to complete this command line to standard output.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the manual: the page of the program to standard output, or all pages into a directory.
    Man {
        /// Directory for a page of the program and one of each subcommand; made if it is not there.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Verify {
    /// Directory of the tree.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// Fetch again what is damaged or missing; may be repeated, and is tried in this order.
    #[arg(
        long = "repair",
        value_name = "SOURCE",
        help = "Fetch again what is damaged or missing, from docker://HOST[:PORT][/NAME], oci:DIR, or \
                the URL of a mirror; may be repeated"
    )]
    repair: Vec<verify::RepairSource>,
    #[command(flatten)]
    connection: Connection,
    /// Write one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Prune {
    /// Directory of the tree.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// For how long something must have been unneeded: 7d, 36h, 90m, 0.
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    grace: Age,
    /// Say what would be removed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct List {
    /// Directory of the tree.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// Write one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Serve {
    /// Directory of the tree.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// ADDR:PORT or unix:PATH.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: oci_mirror::http::server::ListenAddress,
}

impl Cli {
    /// Starts logging to standard error. `RUST_LOG` wins over `-v`.
    pub fn start_telemetry(&self) {
        let level = match self.verbose {
            0 => "warn",
            1 => "info",
            _ => "debug",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        let colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        tracing_subscriber::fmt()
            .with_ansi(!colourless && io::stderr().is_terminal())
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_target(false)
            // It would say so where it has just failed to write, and panic.
            .log_internal_errors(false)
            .init();
    }
}

/// Runs the command until it is done or the process is told to stop.
pub async fn run(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Export(arguments) => {
            let json = arguments.json;
            let (report, exit) = match export(*arguments).await {
                Ok(report) => {
                    let exit = report.exit();
                    (report, exit)
                }
                Err(error) if json => {
                    say(format_args!("error: {error:#}"));
                    (Report::untried(&error), exit::of(&error))
                }
                Err(error) => return Err(error),
            };
            let printed = if json { print_json(&report) } else { Ok(()) };
            told(printed, exit)
        }
        Command::Verify(arguments) => {
            let report = verify(&arguments).await?;
            let printed = if arguments.json {
                print_json(&report)
            } else {
                print(&report)
            };
            say(report.summary);
            told(printed, report.exit())
        }
        Command::Prune(arguments) => {
            warn_if_it_follows(&arguments.tree);
            let options = prune::Options {
                tree: arguments.tree,
                grace: arguments.grace.into(),
                dry_run: arguments.dry_run,
                now: None,
            };
            let report = tokio::task::spawn_blocking(move || prune::run(&options)).await??;
            report.removed.iter().for_each(say);
            report.damaged.iter().for_each(say);
            say(&report);
            let printed = if arguments.json {
                print_json(&report)
            } else {
                Ok(())
            };
            told(printed, report.exit())
        }
        Command::List(arguments) => {
            let listing = list::run(&arguments.tree)?;
            let printed = if arguments.json {
                print_json(&listing)
            } else {
                print(&listing)
            };
            told(printed, Exit::Fine)
        }
        Command::Serve(arguments) => {
            let shutdown = CancellationToken::new();
            let mirror = serve::bind(&arguments.tree, &arguments.listen).await?;
            for address in mirror.local_addresses() {
                let tree = arguments.tree.display();
                say(format_args!("serving {tree} on http://{address}/"));
            }
            until_stopped(shutdown.clone(), mirror.run(shutdown)).await;
            Ok(Exit::Fine)
        }
        Command::Sync(arguments) => follow(*arguments).await,
        Command::Report(arguments) => report(&arguments).await,
        Command::SiteConfig(arguments) => {
            let text = crate::site_config::run(&arguments.options()?)?;
            told(print(&text), Exit::Fine)
        }
        Command::Completions { shell } => {
            let script = manual::completions(Cli::command(), shell);
            told(print(&script), Exit::Fine)
        }
        Command::Man { dir: Some(dir) } => {
            manual::write_pages(Cli::command(), &dir)?;
            Ok(Exit::Fine)
        }
        Command::Man { dir: None } => {
            let main = manual::pages(Cli::command()).swap_remove(0);
            told(print(&main.roff), Exit::Fine)
        }
    }
}

async fn export(arguments: Export) -> anyhow::Result<Report> {
    let shutdown = CancellationToken::new();
    let options = arguments.options(shutdown.clone())?;
    warn_if_it_follows(&options.tree);
    until_stopped(shutdown, crate::export::run(options)).await
}

/// Follows another tree.
async fn follow(arguments: Sync) -> anyhow::Result<Exit> {
    let json = arguments.json;
    let shutdown = CancellationToken::new();
    let options = arguments.options(shutdown.clone())?;
    let work = Box::pin(crate::sync::run(options));
    let report = until_stopped(shutdown, work).await?;
    say(&report);
    let printed = if json { print_json(&report) } else { Ok(()) };
    told(printed, report.exit())
}

/// Checks in with a front end.
async fn report(arguments: &report::Report) -> anyhow::Result<Exit> {
    let to = arguments.to()?;
    let answer = crate::report::check_in(&arguments.tree, &to, arguments.verify).await?;
    say(&answer);
    let printed = if arguments.json {
        print_json(&answer)
    } else {
        Ok(())
    };
    told(printed, answer.exit())
}

/// Checks a tree, and repairs it if there is where from.
async fn verify(arguments: &Verify) -> anyhow::Result<verify::Report> {
    let root = arguments.tree.clone();
    if arguments.repair.is_empty() {
        return tokio::task::spawn_blocking(move || verify::run(&root)).await?;
    }
    warn_if_it_follows(&root);
    let options = verify::RepairOptions {
        tree: root,
        sources: arguments.repair.clone(),
        connection: arguments.connection.options()?,
        credentials: arguments.connection.credentials()?,
        shutdown: CancellationToken::new(),
    };
    until_stopped(options.shutdown.clone(), verify::run_and_repair(options)).await
}

/// Says so if a tree that is about to be changed is made by `sync`.
fn warn_if_it_follows(tree: &Path) {
    if let Some(from) = crate::sync::memory::followed(tree) {
        say(format_args!(
            "warning: this tree follows {from}; the next sync undoes what is changed here"
        ));
    }
}

/// Runs `work`; the first signal to stop cancels `shutdown`, the second ends the process at once.
async fn until_stopped<T>(shutdown: CancellationToken, work: impl Future<Output = T>) -> T {
    let stop = async {
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            // Without handlers a signal simply ends the process.
            return std::future::pending().await;
        };
        let mut first = true;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !first {
                // The tree survives it; see `tree::writer`.
                std::process::exit(130);
            }
            say("stopping; once more to stop at once");
            shutdown.cancel();
            first = false;
        }
    };
    tokio::select! {
        result = work => result,
        () = stop => unreachable!("waits for signals for ever"),
    }
}

fn print(value: &impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{value}")?;
    out.flush()
}

fn print_json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_sources_and_patterns_are_usage_errors() {
        for arguments in [
            &["export", "--tree", "t"][..],
            &["export", "--tree", "t", "fedora"],
            &["export", "--tree", "t", "q.io/a", "--tags", "("],
            &["export", "--tree", "t", "q.io/a", "--platform", "linux"],
            &["export", "--tree", "t", "q.io/a", "--jobs", "0"],
            &["export", "q.io/a"],
            &["prune", "--tree", "t", "--grace", "7"],
            &["prune", "--tree", "t", "--grace", "-1d"],
            &["prune", "--tree", "t", "--grace", "99999999999999999999d"],
            &["verify", "--tree", "t", "--repair", "q.io/a:1"],
        ] {
            let result = Cli::try_parse_from([&["mirror-tool"], arguments].concat());
            assert_eq!(result.unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
