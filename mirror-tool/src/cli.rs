//! The command line.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use oci_mirror::platform::Platform;
use oci_mirror::reference::RepoName;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::retry::Retry;
use regex::Regex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, told};
use crate::export::progress::Progress;
use crate::export::report::Report;
use crate::export::source::Source;
use crate::say::say;
use crate::{export, list, prune, serve, verify};

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
}

#[derive(Debug, Args)]
struct Export {
    /// Directory of the tree; made if it is not there.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// Where images come from; without a tag, all tags of it.
    #[arg(
        value_name = "SOURCE",
        required = true,
        help = "[docker://]HOST[:PORT]/NAME[:TAG|@DIGEST] or oci:DIR[:REF]; without a tag, all tags"
    )]
    sources: Vec<Source>,
    /// Only tags that match, of sources that name none.
    #[arg(long, value_name = "REGEX")]
    tags: Option<Regex>,
    /// No tags that match.
    #[arg(long, value_name = "REGEX")]
    exclude_tags: Option<Regex>,
    /// Only images for this platform; may be repeated. An index is kept as published, what it lists
    /// for other platforms is left out.
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    platforms: Vec<Platform>,
    /// Name of the repository in the tree, instead of the source's own.
    #[arg(long, value_name = "NAME")]
    dest_name: Option<RepoName>,
    #[command(flatten)]
    connection: Connection,
    /// How many images to work on at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Say what would be exported, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write one JSON object to standard output at the end.
    #[arg(long)]
    json: bool,
}

/// How to talk to registries.
#[derive(Debug, Args)]
struct Connection {
    /// File of registry logins, instead of those of podman and docker.
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Use plain HTTP.
    #[arg(long)]
    plain_http: bool,
    /// Trust the certificate authorities in this PEM file too.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Accept any certificate.
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// How often to ask again when a registry fails.
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u8,
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
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    grace: Duration,
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
            // The token service's answers, which that crate shows at this level, are for nobody's eyes.
            _ => "debug,oci_client=info",
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
            let report = match export(*arguments).await {
                Err(error) if json => {
                    say(format_args!("error: {error:#}"));
                    Report::untried(&error)
                }
                report => report?,
            };
            let printed = if json { print_json(&report) } else { Ok(()) };
            told(printed, report.exit())
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
            let options = prune::Options {
                tree: arguments.tree,
                grace: arguments.grace,
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
    }
}

async fn export(arguments: Export) -> anyhow::Result<Report> {
    let shutdown = CancellationToken::new();
    let options = arguments.options(shutdown.clone())?;
    until_stopped(shutdown, export::run(options)).await
}

impl Export {
    fn options(self, shutdown: CancellationToken) -> anyhow::Result<export::Options> {
        Ok(export::Options {
            tree: self.tree,
            sources: self.sources,
            dest_name: self.dest_name,
            filter: export::Filter {
                tags: self.tags,
                exclude_tags: self.exclude_tags,
            },
            platforms: self.platforms,
            jobs: self.jobs.into(),
            dry_run: self.dry_run,
            connection: self.connection.options()?,
            credentials: self.connection.credentials()?,
            progress: Progress::for_stderr(),
            shutdown,
            now: None,
        })
    }
}

impl Connection {
    fn options(&self) -> anyhow::Result<client::Options> {
        let tls_ca = match &self.tls_ca {
            None => None,
            Some(path) => Some(
                std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?
                    .into(),
            ),
        };
        Ok(client::Options {
            plain_http: self.plain_http,
            tls_ca,
            insecure_skip_tls_verify: self.insecure_skip_tls_verify,
            retry: Retry {
                retries: self.retries.into(),
                ..Retry::default()
            },
            ..client::Options::default()
        })
    }

    fn credentials(&self) -> anyhow::Result<Credentials> {
        Ok(Credentials::load(self.authfile.as_deref())?)
    }
}

/// Checks a tree, and repairs it if there is where from.
async fn verify(arguments: &Verify) -> anyhow::Result<verify::Report> {
    let root = arguments.tree.clone();
    if arguments.repair.is_empty() {
        return tokio::task::spawn_blocking(move || verify::run(&root)).await?;
    }
    let options = verify::RepairOptions {
        tree: root,
        sources: arguments.repair.clone(),
        connection: arguments.connection.options()?,
        credentials: arguments.connection.credentials()?,
        shutdown: CancellationToken::new(),
    };
    until_stopped(options.shutdown.clone(), verify::run_and_repair(options)).await
}

/// A number and its unit: seconds, minutes, hours, days or weeks. Nothing needs no unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and s, m, h, d or w, such as 7d".to_owned();
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" if digits == "0" => 1,
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, seconds) in [
            ("7d", 604_800),
            ("36h", 129_600),
            ("90m", 5400),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
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
