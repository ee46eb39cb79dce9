//! Changes of the configuration and of the files it names, taken up while requests are served.
//!
//! On `SIGHUP`, and when one of the files has changed, everything is read and checked first and put into
//! force afterwards, whole. What cannot be used leaves what there was as it is, and the log says why; it is
//! tried again when a file it names appears or changes. Some settings hold until the program is started
//! again; the log names them when they differ.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_mirror::http::server::tls;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::crawler;
use crate::file_mark::FileMark;
use crate::geo::{Geo, Sources};
use crate::log::Log;
use crate::server::Live;
use crate::snapshot::Settings;

/// How often the files are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Reads the configuration as it was read at the start: file, environment and flags.
pub type Source = Box<dyn Fn() -> anyhow::Result<Config> + Send + Sync>;

/// Takes up changes for a running front end.
pub struct Reloader {
    /// The configuration file, if there is one.
    path: Option<PathBuf>,
    source: Source,
    config: Config,
    /// A configuration that waits for the files it names: they could not be used when it was read.
    refused: Option<Config>,
    geo: Arc<Geo>,
    live: Live,
    log: Arc<Log>,
    /// The files as they were when they were last read.
    read: Marks,
    /// The files as they were at the last look.
    seen: Marks,
}

/// Why things are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it; everything is read.
    Asked,
    /// What has changed is read.
    Changed,
}

impl Reloader {
    /// Begins with the configuration that is in force; `marks` are of the files as they were before they
    /// were read for it.
    pub fn new(
        path: Option<PathBuf>,
        source: Source,
        config: Config,
        live: Live,
        log: Arc<Log>,
        marks: Marks,
    ) -> Self {
        Self {
            path,
            source,
            geo: live.geo(),
            config,
            refused: None,
            live,
            log,
            read: marks.clone(),
            seen: marks,
        }
    }

    /// Takes up changes until `shutdown`; `asked` changes when somebody asks for it. `around` is told
    /// before and after.
    pub async fn run(
        mut self,
        mut asked: watch::Receiver<()>,
        shutdown: CancellationToken,
        around: impl Fn(Moment),
    ) {
        loop {
            let cause = tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = asked.changed() => Cause::Asked,
                () = tokio::time::sleep(TICK) => Cause::Changed,
            };
            if cause == Cause::Asked || self.has_settled_change().await {
                around(Moment::Before);
                self.once(cause).await;
                around(Moment::After);
            }
        }
    }

    /// Whether a file has changed, and not only just now: a certificate and its key are two files.
    async fn has_settled_change(&mut self) -> bool {
        let Some(now) = self.look().await else {
            return false;
        };
        let is_settled = now == self.seen;
        self.seen = now;
        is_settled && self.seen != self.read
    }

    /// The files as they are now; `None` when the process ends.
    async fn look(&self) -> Option<Marks> {
        let (path, config) = (self.path.clone(), self.config.clone());
        let refused = self.refused.clone();
        let look = move || Marks {
            refused: refused.as_ref().map(Files::of),
            ..Marks::of(path.as_ref(), &config)
        };
        tokio::task::spawn_blocking(look).await.ok()
    }

    /// Reads what has changed, or everything, and puts into force what can be used.
    pub async fn once(&mut self, cause: Cause) {
        let Some(before) = self.look().await else {
            return;
        };
        let everything = cause == Cause::Asked;
        let (mut read, mut is_up_to_date) = (None, true);
        if everything || before.config != self.read.config || before.refused != self.read.refused {
            self.refused = None;
            match (self.source)() {
                Ok(config) => read = Some(config),
                Err(error) => {
                    error!("the configuration stays as it was: {error:#}");
                    is_up_to_date = false;
                }
            }
        }
        let wanted = match read.clone() {
            Some(config) => keep_what_needs_a_restart(&self.config, config),
            None => self.config.clone(),
        };
        // From before the reading: what has changed since is a change still.
        let files = Files::of(&wanted);
        let mut is_usable = true;
        let mut geo = Arc::clone(&self.geo);
        let has_other_geo = Sources::from(&wanted) != Sources::from(&self.config);
        if has_other_geo || everything || files.geo != self.read.files.geo {
            match open_geo(&wanted).await {
                Ok(opened) => geo = Arc::new(opened),
                Err(error) => {
                    error!("the geographic databases stay as they were: {error:#}");
                    is_up_to_date = false;
                    is_usable &= !has_other_geo;
                }
            }
        }
        let mut crawls = None;
        let has_other_crawls = wanted.crawler != self.config.crawler;
        if is_usable
            && (has_other_crawls || everything || files.authorities != self.read.files.authorities)
        {
            match crawls_of(&wanted).await {
                Ok(settings) => crawls = Some(settings),
                Err(error) => {
                    error!("crawls go on as they did: {error:#}");
                    is_up_to_date = false;
                    is_usable &= !has_other_crawls;
                }
            }
        }
        let has_other_tls = pair(&wanted) != pair(&self.config);
        if is_usable
            && (has_other_tls || everything || files.tls != self.read.files.tls)
            && let (Some(tls), Some(pair)) = (&self.live.tls, pair(&wanted))
        {
            match tls.reload(&pair) {
                Ok(()) => info!("loaded the certificate and its key"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    error!(error, "the certificate stays as it was");
                    is_up_to_date = false;
                    is_usable &= !has_other_tls;
                }
            }
        }
        if !is_usable {
            error!("the configuration stays as it was until the files it names can be used");
            // The files of the one in force were not looked into.
            self.read.config = before.config;
            self.read.refused = Some(files);
            self.refused = Some(wanted);
            return;
        }
        self.read = Marks {
            config: before.config,
            files,
            refused: before.refused.filter(|_| self.refused.is_some()),
        };
        if let Some(read) = read {
            say_what_needs_a_restart(&self.config, &read);
        }
        self.config = wanted;
        self.geo = geo;
        self.log.apply(&self.config.log);
        let settings = Settings::of(&self.config, Arc::clone(&self.geo));
        self.live.put(&self.config, settings, crawls).await;
        if is_up_to_date {
            info!("the configuration is up to date");
        }
    }
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// When somebody beside is told of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It begins.
    Before,
    /// It has ended, well or not.
    After,
}

/// What tells one state of the files from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    config: Mark,
    /// Those that the configuration in force names.
    files: Files,
    /// Those that one names which could not be used.
    refused: Option<Files>,
}

/// Of the files a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    tls: Vec<Mark>,
    geo: Vec<Mark>,
    authorities: Vec<Mark>,
}

/// What is known of a file without reading it; `None` if it cannot be found.
type Mark = Option<FileMark>;

impl Marks {
    /// The files as they are now. Blocks.
    pub fn of(path: Option<&PathBuf>, config: &Config) -> Self {
        Self {
            config: path.and_then(|path| FileMark::of(path)),
            files: Files::of(config),
            refused: None,
        }
    }
}

impl Files {
    fn of(config: &Config) -> Self {
        let mark = |path: &PathBuf| FileMark::of(path);
        let pair = pair(config).map(|pair| [pair.certificate, pair.key]);
        Self {
            tls: pair.iter().flatten().map(mark).collect(),
            geo: config
                .geoip
                .iter()
                .chain(&config.asn_prefixes)
                .map(mark)
                .collect(),
            authorities: config.crawler.authorities.iter().map(mark).collect(),
        }
    }
}

fn pair(config: &Config) -> Option<tls::Files> {
    config.tls.as_ref().map(crate::config::Tls::files)
}

async fn open_geo(config: &Config) -> anyhow::Result<Geo> {
    let sources = Sources::from(config);
    Ok(tokio::task::spawn_blocking(move || Geo::open(&sources)).await??)
}

async fn crawls_of(config: &Config) -> anyhow::Result<crawler::Settings> {
    let config = config.clone();
    Ok(tokio::task::spawn_blocking(move || crawler::Settings::read(&config)).await??)
}

/// The settings that hold until the program is started again, by name.
fn fixed(config: &Config) -> [(&'static str, String); 7] {
    [
        ("listen", format!("{:?}", config.listeners())),
        ("socket-mode", config.socket_mode.to_string()),
        ("tree", config.tree.display().to_string()),
        ("database", config.database.display().to_string()),
        ("tls", config.tls.is_some().to_string()),
        ("notify", format!("{:?}", config.notify)),
        ("check-in", format!("{:?}", config.check_in)),
    ]
}

fn say_what_needs_a_restart(old: &Config, new: &Config) {
    for ((setting, old), (_, new)) in fixed(old).into_iter().zip(fixed(new)) {
        if old != new {
            warn!(
                setting,
                "`{setting}` has changed: it needs a restart and is ignored until then"
            );
        }
    }
}

/// The new configuration, with what holds until a restart taken from the old one.
fn keep_what_needs_a_restart(old: &Config, new: Config) -> Config {
    Config {
        tls: match (&old.tls, new.tls) {
            (Some(old), Some(new)) => Some(crate::config::Tls {
                listen: old.listen.clone(),
                ..new
            }),
            (old, _) => old.clone(),
        },
        listen: old.listen.clone(),
        socket_mode: old.socket_mode,
        tree: old.tree.clone(),
        database: old.database.clone(),
        notify: old.notify.clone(),
        check_in: old.check_in.clone(),
        ..new
    }
}
