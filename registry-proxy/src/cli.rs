//! The command line: arguments, and how flags, environment and file become one configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use oci_mirror::http::server::ListenAddress;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::geo::Geo;
use crate::server::FrontEnd;
use crate::{crawler, mirror};

/// Answers the container registry API from a tree and sends clients to mirrors near them.
#[derive(Debug, Parser)]
#[command(name = "registry-proxy", version)]
pub struct Arguments {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

/// Settings every command shares; flags win over the environment, that over the file.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "REGISTRY_PROXY_CONFIG"
    )]
    pub config: Option<PathBuf>,
    /// The tree that `mirror-tool export` writes
    #[arg(long, value_name = "DIR", global = true, env = "REGISTRY_PROXY_TREE")]
    pub tree: Option<PathBuf>,
    /// The database of mirrors
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "REGISTRY_PROXY_DATABASE"
    )]
    pub database: Option<PathBuf>,
    /// A MaxMind or DB-IP database (.mmdb); may be given several times
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "REGISTRY_PROXY_GEOIP",
        value_delimiter = ','
    )]
    pub geoip: Vec<PathBuf>,
    /// Let mirrors be at loopback and private addresses: for tests and closed networks
    #[arg(
        long,
        global = true,
        env = "REGISTRY_PROXY_ALLOW_PRIVATE_ADDRESSES",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub allow_private_addresses: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry API until stopped
    Serve {
        /// Where to listen: ADDR:PORT, [ADDR]:PORT or `unix:/PATH`; may be given several times
        #[arg(
            long,
            value_name = "ADDR",
            env = "REGISTRY_PROXY_LISTEN",
            value_delimiter = ','
        )]
        listen: Vec<ListenAddress>,
    },
    /// Say whether a configuration file is right
    CheckConfig,
    /// Enter, show and change mirrors
    Mirror {
        #[command(subcommand)]
        command: mirror::Command,
    },
    /// Check what the mirrors hold
    Crawl(crawler::Arguments),
}

impl Settings {
    /// The configuration these settings amount to.
    pub fn resolve(&self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        if let Some(tree) = &self.tree {
            config.tree.clone_from(tree);
        }
        if let Some(database) = &self.database {
            config.database.clone_from(database);
        }
        if !self.geoip.is_empty() {
            config.geoip.clone_from(&self.geoip);
        }
        config.crawler.allow_private_addresses |= self.allow_private_addresses;
        Ok(config)
    }
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut config = arguments.settings.resolve()?;
    match arguments.command {
        Command::Serve { listen } => {
            if !listen.is_empty() {
                config.listen = listen;
            }
            serve(&config).await
        }
        Command::CheckConfig => {
            let path = arguments
                .settings
                .config
                .context("check-config needs --config FILE")?;
            Geo::open(&config.geoip)?;
            mirror::print(&format!("{} is right\n", path.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Mirror { command } => mirror::run(command, &config).await,
        Command::Crawl(arguments) => crawler::run(arguments, &config).await,
    }
}

async fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    raise_file_limit();
    if config.redirect.retry_window.is_some() {
        warn!("redirect.retry-window has no effect yet: retries are not told from first requests");
    }
    let front_end = FrontEnd::bind(config).await?;
    for address in &config.listen {
        info!(%address, "listening");
    }
    for address in front_end.local_addresses() {
        // To stderr, for scripts that asked for port 0.
        eprintln!("registry-proxy listens on {address}");
    }
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::select! {
        () = front_end.run(shutdown) => {}
        // Comes back only at the second signal, which does not wait for anybody.
        result = stop_on_signal(stop) => {
            result?;
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets the process open as many files as the administrator allows: each connection is one, and each
/// blob being sent another.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, current = limit.current, "cannot raise the limit of open files");
    }
}

async fn stop_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    // Nothing to reload on SIGHUP, since every change is taken up by itself; but it must not end us.
    let _ignored = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    for _ in 0..2 {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping: requests in flight may finish");
        shutdown.cancel();
    }
    Ok(())
}

/// Sends log lines to stderr; `RUST_LOG` chooses what is said.
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .init();
}

/// Says once what went wrong, and gives the exit status of failure.
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("registry-proxy: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(
            &path,
            "tree = \"/from-file\"\ndatabase = \"/db-from-file\"\n",
        )
        .unwrap();
        let settings = Settings {
            config: Some(path),
            tree: Some("/from-flag".into()),
            ..Settings::default()
        };
        let config = settings.resolve().unwrap();
        assert_eq!(
            (config.tree, config.database),
            ("/from-flag".into(), "/db-from-file".into())
        );
    }
}
