//! The command line: arguments, and how flags, environment and file become one configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use oci_mirror::error_chain::chain;
use oci_mirror::http::server::ListenAddress;
use oci_mirror::http::server::activation::Inherited;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::check::{self, Finding};
use crate::config::Config;
use crate::log::Log;
use crate::reload::{self, Marks, Moment, Reloader};
use crate::server::FrontEnd;
use crate::systemd::{Event, Notifier};
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
    /// A file of lines `CIDR ASN`; may be given several times
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "REGISTRY_PROXY_ASN_PREFIXES",
        value_delimiter = ','
    )]
    pub asn_prefixes: Vec<PathBuf>,
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
    Mirror(mirror::Arguments),
    /// Enter, show and change sites: organisations with one or several mirrors
    Site(mirror::site::Arguments),
    /// Enter, show and change accounts: who looks after which sites
    Account(mirror::account::Arguments),
    /// Take over mirrors, sites and accounts from a TOML file, all of it or nothing
    Import(mirror::import::Arguments),
    /// Write mirrors, sites and accounts as a TOML file
    Export(mirror::import::Export),
    /// Check what the mirrors hold
    Crawl(crawler::Arguments),
}

impl Settings {
    /// The configuration these settings amount to.
    pub fn resolve(&self) -> anyhow::Result<Config> {
        Ok(self.over(match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        }))
    }

    /// A configuration with these settings in place of what it says.
    fn over(&self, mut config: Config) -> Config {
        if let Some(tree) = &self.tree {
            config.tree.clone_from(tree);
        }
        if let Some(database) = &self.database {
            config.database.clone_from(database);
        }
        if !self.geoip.is_empty() {
            config.geoip.clone_from(&self.geoip);
        }
        if !self.asn_prefixes.is_empty() {
            config.asn_prefixes.clone_from(&self.asn_prefixes);
        }
        config.crawler.allow_private_addresses |= self.allow_private_addresses;
        config
    }
}

/// Runs the command; `sockets` are those passed to us to serve on.
pub async fn run(arguments: Arguments, log: Log, sockets: Inherited) -> anyhow::Result<ExitCode> {
    let Arguments { settings, command } = arguments;
    // It says all that is wrong with the file; the others stop at the first.
    if matches!(command, Command::CheckConfig) {
        return check_config(&settings);
    }
    let config = settings.resolve()?;
    log.apply(&config.log);
    match command {
        Command::Serve { listen } => {
            let path = settings.config.clone();
            let source: reload::Source = Box::new(move || {
                let mut config = settings.resolve()?;
                if !listen.is_empty() {
                    config.listen.clone_from(&listen);
                }
                Ok(config)
            });
            // All of a server is in it.
            Box::pin(serve(source()?, path, source, log, sockets)).await
        }
        Command::CheckConfig => check_config(&settings),
        Command::Mirror(arguments) => mirror::run(arguments, &config).await,
        Command::Site(arguments) => {
            answer(&config, |path| mirror::site::run(arguments, path)).await
        }
        Command::Account(arguments) => {
            answer(&config, |path| mirror::account::run(arguments, path)).await
        }
        Command::Import(arguments) => {
            answer(&config, move |path| mirror::import::run(&arguments, path)).await
        }
        Command::Export(arguments) => {
            answer(&config, move |path| {
                mirror::import::export(&arguments, path)
            })
            .await
        }
        Command::Crawl(arguments) => crawler::run(arguments, &config).await,
    }
}

/// Does something with the database of mirrors, and prints the answer.
async fn answer(
    config: &Config,
    work: impl FnOnce(&Path) -> anyhow::Result<String> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let path = config.database.clone();
    let text = tokio::task::spawn_blocking(move || work(&path)).await??;
    mirror::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn check_config(settings: &Settings) -> anyhow::Result<ExitCode> {
    let path = settings.config.as_ref();
    let path = path.context("check-config needs --config FILE")?;
    let findings = match Config::read_checked(path) {
        Ok(config) => check::check(&settings.over(config)),
        Err(errors) => {
            let wrong = |error| Finding::Wrong(chain(error));
            errors.iter().map(|error| wrong(error)).collect()
        }
    };
    for finding in &findings {
        eprintln!("{finding}");
    }
    let is_wrong = |finding: &Finding| matches!(finding, Finding::Wrong(_));
    if findings.iter().any(is_wrong) {
        return Ok(ExitCode::FAILURE);
    }
    mirror::print(&format!("{} is right\n", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    config: Config,
    path: Option<PathBuf>,
    source: reload::Source,
    log: Log,
    sockets: Inherited,
) -> anyhow::Result<ExitCode> {
    raise_file_limit();
    let notifier = Notifier::from_environment();
    // From before the reading: what changes meanwhile is a change still.
    let marks = Marks::of(path.as_ref(), &config);
    let front_end = FrontEnd::with_sockets(&config, sockets).await?;
    let mut status = "listening".to_owned();
    for address in front_end.local_addresses() {
        // To stderr, for scripts that asked for port 0.
        eprintln!("registry-proxy listens on {address}");
        status = format!("{status} on {address}");
    }
    let shutdown = CancellationToken::new();
    let (ask, asked) = watch::channel(());
    let reloader = Reloader::new(path, source, config, front_end.live(), Arc::new(log), marks);
    let around = |moment| match moment {
        Moment::Before => notifier.tell(Event::Reloading),
        Moment::After => notifier.tell(Event::Ready(&status)),
    };
    let stop = shutdown.clone();
    // Watched for before it is said that all is ready: a signal may come at once.
    let signals = Signals::watch()?;
    notifier.tell(Event::Ready(&status));
    let serving = async {
        let serving = front_end.run(shutdown.clone());
        let reloading = reloader.run(asked, shutdown.clone(), around);
        tokio::join!(serving, reloading);
    };
    tokio::select! {
        () = serving => {}
        // Never comes back by itself.
        () = notifier.keep_alive() => {}
        // Comes back only at the second signal, which does not wait for anybody.
        () = signals.obey(&ask, &stop, &notifier) => return Ok(ExitCode::FAILURE),
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

/// What an operator, or a service manager, says by signals.
struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> anyhow::Result<Self> {
        let watch = |kind, name| signal(kind).with_context(|| format!("cannot watch for {name}"));
        Ok(Self {
            reload: watch(SignalKind::hangup(), "SIGHUP")?,
            terminate: watch(SignalKind::terminate(), "SIGTERM")?,
            interrupt: watch(SignalKind::interrupt(), "SIGINT")?,
        })
    }

    /// Comes back at the second signal to stop.
    async fn obey(
        mut self,
        ask: &watch::Sender<()>,
        stop: &CancellationToken,
        notifier: &Notifier,
    ) {
        loop {
            tokio::select! {
                _ = self.reload.recv() => {
                    ask.send_replace(());
                    continue;
                }
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                return;
            }
            info!("stopping: requests in flight may finish");
            notifier.tell(Event::Stopping);
            stop.cancel();
        }
    }
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
