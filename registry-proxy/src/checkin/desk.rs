//! The desk: where mirrors check in.
//!
//! Who it is and what is written down is the same for both ways in: [`report`], of `mirror-tool`, and [`call`], as with
//! MirrorManager.

mod call;
mod report;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use http::header::ALLOW;
use http::{HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use oci_mirror::http::files;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::answer::Refusal;
use super::json::Crawl;
use super::limit::Limits;
use super::token::Token;
use crate::config::Config;
use crate::db::{self, CheckIn, Database, Recorded};
use crate::network::{Host, Inactive};
use crate::notify::{Notice, Notifier};
use crate::snapshot::Snapshot;

/// How many large reports are read and looked at at a time: of private mirrors, and of public ones.
const LARGE_REPORTS: usize = 2;

/// How many calls of XML-RPC are read at a time: who sends one is not known before that.
const CALLERS: usize = 16;

/// How many calls of XML-RPC are unpacked at a time.
const CALLS: usize = 2;

/// Where mirrors check in.
#[derive(Debug)]
pub struct Desk {
    database: PathBuf,
    expire: Duration,
    takes_calls: bool,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    limits: Limits,
    notifier: Notifier,
    /// Kept open, so that it costs little to find that a token is nobody's.
    reader: Mutex<Option<Database>>,
    large: Arc<Semaphore>,
    large_public: Arc<Semaphore>,
    callers: Arc<Semaphore>,
    calls: Arc<Semaphore>,
}

/// The routes by which mirrors check in.
pub fn router(desk: &Arc<Desk>) -> Router {
    let mut router =
        Router::new().route("/api/v1/checkin", post(report::receive).fallback(only_post));
    if desk.takes_calls {
        // Where MirrorManager has it, and where its clients are told that it is.
        for path in ["/xmlrpc", "/mirrormanager/xmlrpc"] {
            router = router.route(path, post(call::receive).fallback(only_post));
        }
    }
    router.with_state(Arc::clone(desk))
}

async fn only_post() -> Response {
    let mut response = files::text(StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
    let allowed = HeaderValue::from_static("POST");
    response.headers_mut().insert(ALLOW, allowed);
    response.map(Body::new)
}

impl Desk {
    /// One for the mirrors of a database, which is opened when the first comes.
    pub fn new(config: &Config, snapshot: Arc<ArcSwapOption<Snapshot>>) -> Self {
        Self {
            database: config.database.clone(),
            expire: config.check_in.expire,
            takes_calls: config.check_in.xml_rpc,
            snapshot,
            limits: Limits::default(),
            notifier: Notifier::default(),
            reader: Mutex::default(),
            large: Arc::new(Semaphore::new(LARGE_REPORTS)),
            large_public: Arc::new(Semaphore::new(LARGE_REPORTS)),
            callers: Arc::new(Semaphore::new(CALLERS)),
            calls: Arc::new(Semaphore::new(CALLS)),
        }
    }

    /// Tells what becomes of mirrors there, and not to the log alone.
    #[must_use]
    pub fn telling(self, notifier: Notifier) -> Self {
        Self { notifier, ..self }
    }

    /// Forgets what silent mirrors have said, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let often = (self.expire / 10).clamp(Duration::from_secs(1), Duration::from_secs(60));
        let mut tick = tokio::time::interval(often);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_told = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let desk = Arc::clone(&self);
            let expired = blocking(move || desk.expire(Timestamp::now())).await;
            // Until it works again this is the same every time.
            if expired.is_err() && !is_told {
                warn!("what silent mirrors have said cannot be forgotten");
            }
            is_told = expired.is_err();
        }
    }

    /// Forgets what mirrors have said that have been silent for too long. Blocks.
    pub fn expire(&self, now: Timestamp) -> Result<(), Refusal> {
        let expire = SignedDuration::try_from(self.expire).unwrap_or(SignedDuration::MAX);
        let before = now.saturating_sub(expire).unwrap_or(Timestamp::MIN);
        if !self
            .read(|database| database.has_silent(before))?
            .unwrap_or(false)
        {
            return Ok(());
        }
        let (silent, dropped) = self.write(|database| {
            let silent = database.expire_check_ins(before)?;
            Ok((silent, database.expire_categories(before)?))
        })?;
        for name in silent {
            warn!(
                host.name = name,
                "{} has said nothing that counts for {expire:#}: what it holds is not known any more",
                name.escape_debug()
            );
        }
        for (name, category) in dropped {
            warn!(
                host.name = name,
                category,
                "{} has told nothing of `{}` for {expire:#}: what it holds of it is not known any more",
                name.escape_debug(),
                category.escape_debug()
            );
        }
        Ok(())
    }

    /// Who it is, if he may check in now. Blocks.
    fn admit(&self, token: Option<&Token>) -> Result<Host, Refusal> {
        let found = match token {
            Some(token) => self.read(|database| database.bearer(token))?,
            None => None,
        };
        let Some(host) = found.flatten() else {
            let strangers = self.limits.stranger(Instant::now());
            return Err(strangers.map_or_else(Refusal::TooOften, |()| Refusal::Unknown));
        };
        let objections = host.objections();
        let objection = objections.iter().find(|objection| {
            matches!(
                objection,
                Inactive::SiteDisabled { .. } | Inactive::DisabledByAdmin { .. }
            )
        });
        if let Some(objection) = objection {
            return Err(Refusal::OutOfService(objection.to_string()));
        }
        self.limits
            .mirror(host.id, Instant::now())
            .map_err(Refusal::TooOften)?;
        Ok(host)
    }

    /// Notes that a public mirror may be worth a look.
    fn hint(&self, host: &Host, entry: &CheckIn) -> Result<Crawl, Refusal> {
        let is_hinted = self.write(|database| database.hint(host.id, entry))?;
        info!(
            host.name = %host.name,
            serial = entry.serial,
            way = %entry.way,
            "{} has checked in", host.name
        );
        Ok(if is_hinted { Crawl::Soon } else { Crawl::None })
    }

    /// Tells what a check-in of a private mirror has come to.
    fn tell(&self, host: &Host, entry: &CheckIn, recorded: &Recorded) {
        info!(
            host.name = %host.name,
            serial = entry.serial,
            blobs = entry.blobs,
            way = %entry.way,
            "{} has checked in", host.name
        );
        for notice in Notice::of(recorded, &host.site, &[], entry.at) {
            self.notifier.tell(notice);
        }
    }

    /// Looks something up, if there is a database.
    fn read<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, db::Error>,
    ) -> Result<Option<T>, Refusal> {
        if !self.database.exists() {
            return Ok(None);
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if !reader.as_ref().is_some_and(Database::is_in_place) {
            *reader =
                Some(Database::open_reader(&self.database).map_err(|error| unavailable(&error))?);
        }
        let found = reader.as_ref().map(work).transpose();
        if found.is_err() {
            *reader = None;
        }
        found.map_err(|error| unavailable(&error))
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, db::Error>,
    ) -> Result<T, Refusal> {
        let mut database =
            Database::open_existing(&self.database).map_err(|error| unavailable(&error))?;
        work(&mut database).map_err(|error| unavailable(&error))
    }
}

fn unavailable(error: &db::Error) -> Refusal {
    error!(
        error = error as &dyn std::error::Error,
        "a check-in cannot be recorded"
    );
    Refusal::Unavailable
}

/// The one way from here to the database, and to what takes long to read.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::Unavailable),
    }
}
