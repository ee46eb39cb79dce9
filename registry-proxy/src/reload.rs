//! Changes of the configuration and of the files it names, taken up while requests are served.
//!
//! On `SIGHUP`, and when one of the files has changed, everything is read and checked first and put into
//! force afterwards, whole. What cannot be used leaves what there was as it is, and the log says why.
//! Some settings hold until the program is started again; the log names them when they differ.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
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
    geo: Arc<Geo>,
    live: Live,
    log: Arc<Log>,
    /// The files as they were when they were last read.
    read: Marks,
    /// The files as they were at the last look.
    seen: Marks,
}

/// What is known of a file without reading it; `None` if it cannot be found.
type Mark = Option<FileMark>;

/// What tells one state of the files from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    config: Mark,
    tls: Vec<Mark>,
    geo: Vec<Mark>,
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
        let (path, config) = (self.path.clone(), self.config.clone());
        let look = move || Marks::of(path.as_ref(), &config);
        let Ok(now) = tokio::task::spawn_blocking(look).await else {
            return false;
        };
        let is_settled = now == self.seen;
        self.seen = now;
        is_settled && self.seen != self.read
    }

    /// Reads what has changed, or everything, and puts into force what can be used.
    pub async fn once(&mut self, cause: Cause) {
        let before = Marks::of(self.path.as_ref(), &self.config);
        let changed = |now: &dyn Fn(&Marks) -> bool| cause == Cause::Asked || now(&before);
        let mut wanted = self.config.clone();
        if changed(&|now| now.config != self.read.config) {
            match (self.source)() {
                Ok(config) => wanted = config,
                Err(error) => error!("the configuration stays as it was: {error:#}"),
            }
        }
        let mut is_usable = true;
        let mut geo = Arc::clone(&self.geo);
        let has_other_geo = Sources::from(&wanted) != Sources::from(&self.config);
        if has_other_geo || changed(&|now| now.geo != self.read.geo) {
            match open_geo(&wanted).await {
                Ok(opened) => geo = Arc::new(opened),
                Err(error) => {
                    error!("the geographic databases stay as they were: {error:#}");
                    is_usable &= !has_other_geo;
                }
            }
        }
        let has_other_tls = files(&wanted) != files(&self.config);
        if has_other_tls || changed(&|now| now.tls != self.read.tls) {
            // With a configuration that cannot be used, its certificate is none of ours either.
            let of = if is_usable { &wanted } else { &self.config };
            if let (Some(tls), Some(files)) = (&self.live.tls, files(of)) {
                match tls.reload(&files) {
                    Ok(()) => info!("loaded the certificate and its key"),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        error!(error, "the certificate stays as it was");
                        is_usable &= !has_other_tls;
                    }
                }
            }
        }
        // Marks from before the reading: what has changed since is a change still.
        self.read = before;
        if !is_usable {
            error!("the configuration stays as it was");
            return;
        }
        say_what_needs_a_restart(&self.config, &wanted);
        self.config = keep_what_needs_a_restart(&self.config, wanted);
        self.geo = geo;
        if has_other_geo || has_other_tls {
            let now = Marks::of(self.path.as_ref(), &self.config);
            let config = self.read.config;
            self.read = Marks { config, ..now };
        }
        self.log.apply(&self.config.log);
        let settings = Settings::of(&self.config, Arc::clone(&self.geo));
        self.live.put(&self.config, settings).await;
        info!("the configuration is up to date");
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

impl Marks {
    /// The files as they are now.
    pub fn of(path: Option<&PathBuf>, config: &Config) -> Self {
        let tls = files(config).map(|files| [files.certificate, files.key]);
        Self {
            config: path.and_then(|path| FileMark::of(path)),
            tls: tls
                .iter()
                .flatten()
                .map(|path| FileMark::of(path))
                .collect(),
            geo: config
                .geoip
                .iter()
                .chain(&config.asn_prefixes)
                .map(|path| FileMark::of(path))
                .collect(),
        }
    }
}

fn files(config: &Config) -> Option<oci_mirror::http::server::tls::Files> {
    config.tls.as_ref().map(crate::config::Tls::files)
}

async fn open_geo(config: &Config) -> anyhow::Result<Geo> {
    let sources = Sources::from(config);
    Ok(tokio::task::spawn_blocking(move || Geo::open(&sources)).await??)
}

/// The settings that hold until the program is started again, by name.
fn fixed(config: &Config) -> [(&'static str, String); 10] {
    [
        ("listen", format!("{:?}", config.listeners())),
        ("socket-mode", config.socket_mode.to_string()),
        ("tree", config.tree.display().to_string()),
        ("database", config.database.display().to_string()),
        ("proxy-protocol", config.proxy_protocol.to_string()),
        ("limits", format!("{:?}", config.limits)),
        ("tls", config.tls.is_some().to_string()),
        ("crawler", format!("{:?}", config.crawler)),
        ("notify", format!("{:?}", config.notify)),
        ("statistics", format!("{:?}", config.statistics)),
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
        proxy_protocol: old.proxy_protocol,
        limits: old.limits.clone(),
        crawler: old.crawler.clone(),
        notify: old.notify.clone(),
        statistics: old.statistics.clone(),
        ..new
    }
}
