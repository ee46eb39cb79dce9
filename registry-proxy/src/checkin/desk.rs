//! The desk: where mirrors check in.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use oci_mirror::http::files;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::state::State;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::answer::Refusal;
use super::json::{Answer, Crawl, Presence, Report, Status};
use super::limit::Limits;
use super::report_mirror::CheckIn as Announced;
use super::request::{announced, bearer, expect, queue, read};
use super::token::Token;
use super::{presence, xmlrpc};
use crate::config::Config;
use crate::db::{self, CheckIn, Database, Recorded, Verdict, Way};
use crate::network::{Host, Inactive};
use crate::notify::{Notice, Notifier};
use crate::snapshot::Snapshot;

/// Largest report. With all digests in it, it is one of more than a million blobs.
const REPORT_BYTES: usize = 64 << 20;

/// Largest report of a public mirror, whose blobs are found out by looking.
const PUBLIC_REPORT_BYTES: usize = 8 << 20;

/// A report of at most so many bytes is read at once; of larger ones few at a time.
const SMALL: u64 = 1 << 20;

/// Largest call of XML-RPC.
const CALL_BYTES: usize = 8 << 20;

/// How many large reports are read and looked at at a time: of private mirrors, and of public ones.
const LARGE_REPORTS: usize = 2;

/// How many calls of XML-RPC are read at a time: who sends one is not known before that.
const CALLERS: usize = 16;

/// How many calls of XML-RPC are unpacked at a time.
const CALLS: usize = 2;

/// How long a report may take to come.
const READING: Duration = Duration::from_secs(300);

/// How long a call may take to come.
const CALLING: Duration = Duration::from_secs(30);

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
    let mut router = Router::new().route("/api/v1/checkin", post(report).fallback(only_post));
    if desk.takes_calls {
        // Where MirrorManager has it, and where its clients are told that it is.
        for path in ["/xmlrpc", "/mirrormanager/xmlrpc"] {
            router = router.route(path, post(call).fallback(only_post));
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

async fn report(
    extract::State(desk): extract::State<Arc<Desk>>,
    request: Request<Body>,
) -> Response {
    match desk.report(request).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn call(extract::State(desk): extract::State<Arc<Desk>>, request: Request<Body>) -> Response {
    match desk.call(request).await {
        Ok(text) => ([(CONTENT_TYPE, "text/xml")], text).into_response(),
        Err(refusal) => refusal.into_response(),
    }
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
                "{} has not checked in for {expire:#}: what it holds is not known any more",
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

    async fn report(self: Arc<Self>, request: Request<Body>) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        let token = bearer(&head.headers);
        let desk = Arc::clone(&self);
        let host = blocking(move || desk.admit(token.as_ref())).await?;
        expect(&head.headers, "application/json")?;
        let (most, slots) = if host.is_private() {
            (REPORT_BYTES, &self.large)
        } else {
            (PUBLIC_REPORT_BYTES, &self.large_public)
        };
        let length = announced(&head.headers, most)?;
        let slot = if length.is_some_and(|length| length <= SMALL) {
            None
        } else {
            // No mirror takes more than one.
            let alone = self.limits.alone(host.id).ok_or(Refusal::Busy)?;
            Some((alone, queue(slots).await?))
        };
        let body = read(body, most, READING).await?;
        blocking(move || {
            let _slot = slot;
            let report =
                Report::from_bytes(&body).map_err(|error| Refusal::Malformed(error.to_string()))?;
            drop(body);
            self.take(&host, &report, Timestamp::now())
        })
        .await
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

    /// Writes down what a mirror reports. Blocks.
    fn take(&self, host: &Host, report: &Report, now: Timestamp) -> Result<Answer, Refusal> {
        let count = |number: usize| number as u64;
        let mut entry = CheckIn {
            at: now,
            way: Way::Report,
            serial: Some(report.serial),
            state: Some(report.state),
            repositories: report.repositories.as_ref().map(|it| count(it.len())),
            carried: Some(report.carried()),
            blobs: 0,
            damaged: report.damaged.as_ref().map(|it| count(it.len())),
        };
        let answer = |presence, crawl| Answer {
            status: Status::Recorded,
            presence,
            crawl,
        };
        if !host.is_private() {
            let crawl = self.hint(host, &entry)?;
            return Ok(answer(Presence::None, crawl));
        }
        let snapshot = self.snapshot.load_full().ok_or(Refusal::Unavailable)?;
        let catalog = &snapshot.catalog;
        // It has what it had, and nothing in it was looked at.
        if report.blobs.is_none()
            && report.damaged.is_none()
            && self.write(|database| database.check_in_again(host.id, &entry))?
        {
            info!(
                host.name = %host.name,
                serial = entry.serial,
                way = %entry.way,
                "{} has checked in as it was", host.name
            );
            return Ok(answer(Presence::Taken, Crawl::None));
        }
        let ours = own_state(&snapshot);
        let Some(verdicts) = presence::of_report(report, host, catalog, ours.as_deref()) else {
            return Ok(answer(Presence::Wanted, Crawl::None));
        };
        entry.blobs = present(&verdicts);
        let recorded =
            self.write(|database| database.check_in(host.id, &entry, verdicts, catalog))?;
        // Meanwhile it is another mirror, or none.
        self.tell(host, &entry, &recorded.ok_or(Refusal::Unknown)?);
        Ok(answer(Presence::Taken, Crawl::None))
    }

    async fn call(self: Arc<Self>, request: Request<Body>) -> Result<String, Refusal> {
        let (head, body) = request.into_parts();
        expect(&head.headers, "text/xml")?;
        announced(&head.headers, CALL_BYTES)?;
        let caller = queue(&self.callers).await?;
        let body = read(body, CALL_BYTES, CALLING).await?;
        // Who is slow keeps nobody from being understood.
        let slot = queue(&self.calls).await?;
        blocking(move || {
            let _slots = (caller, slot);
            let argument = match xmlrpc::argument(&body) {
                Ok(argument) => argument,
                Err(error) => return self.fault(&error.to_string()),
            };
            drop(body);
            let announced = match Announced::unpack(&argument) {
                Ok(announced) => announced,
                Err(error) => return self.fault(&error.to_string()),
            };
            drop(argument);
            self.answer(&announced, Timestamp::now())
        })
        .await
    }

    /// Answers a call that was not understood, as if it were a stranger's.
    fn fault(&self, reason: &str) -> Result<String, Refusal> {
        let strangers = self.limits.stranger(Instant::now());
        strangers.map_err(Refusal::TooOften)?;
        Ok(xmlrpc::fault(reason))
    }

    /// Answers a call that was understood. Blocks.
    fn answer(&self, announced: &Announced, now: Timestamp) -> Result<String, Refusal> {
        let token = announced.password.parse().ok();
        let admitted = self.admit(token.as_ref()).and_then(|host| {
            let is_its =
                host.name.as_str() == announced.host && host.site.as_str() == announced.site;
            is_its.then_some(host).ok_or(Refusal::Unknown)
        });
        let text = match admitted.and_then(|host| self.take_call(&host, announced, now)) {
            Ok(text) => text,
            // As MirrorManager does: its clients print what they are told.
            Err(refusal @ (Refusal::Unknown | Refusal::OutOfService(_))) => {
                format!("error checking in: {refusal}\n")
            }
            Err(refusal) => return Err(refusal),
        };
        Ok(xmlrpc::answer(&text))
    }

    /// Writes down what a mirror says as with MirrorManager, and what it is told. Blocks.
    fn take_call(
        &self,
        host: &Host,
        announced: &Announced,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let categories = &announced.categories;
        let mut told = String::new();
        for category in categories {
            let (name, count) = (&category.name, category.directories);
            // Writing to a string cannot fail.
            let _ = writeln!(
                told,
                "{name}: directories updated: {count} added: 0 deleted 0"
            );
        }
        let repositories = categories.iter().map(|it| it.repositories.len() as u64);
        let entry = CheckIn {
            at: now,
            way: Way::XmlRpc,
            serial: None,
            state: None,
            repositories: Some(repositories.sum()),
            carried: None,
            blobs: 0,
            damaged: None,
        };
        if host.is_private() {
            let snapshot = self.snapshot.load_full().ok_or(Refusal::Unavailable)?;
            let catalog = &snapshot.catalog;
            let named = presence::named(categories, host, catalog);
            let recorded = self.write(|database| {
                database.check_in_by_category(host.id, &entry, &named, catalog)
            })?;
            // Meanwhile it is another mirror, or none.
            let (entry, recorded) = recorded.ok_or(Refusal::Unknown)?;
            self.tell(host, &entry, &recorded);
            if entry.blobs == 0 && named.values().any(|blobs| !blobs.is_empty()) {
                told.push_str("what is there counts from the call after the next sync on\n");
            }
        } else {
            self.hint(host, &entry)?;
        }
        told.push_str("checked in successful\n");
        Ok(told)
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

/// The bytes of our `state.json`, unless the tree is another one by now.
fn own_state(snapshot: &Snapshot) -> Option<Vec<u8>> {
    let bytes = std::fs::read(TreePath::State.under(snapshot.tree.root())).ok()?;
    let state = State::from_bytes(&bytes).ok()?;
    (state == *snapshot.catalog.state()).then_some(bytes)
}

fn unavailable(error: &db::Error) -> Refusal {
    error!(
        error = error as &dyn std::error::Error,
        "a check-in cannot be recorded"
    );
    Refusal::Unavailable
}

/// How many blobs are there.
fn present(verdicts: &[(BlobId, Verdict)]) -> u64 {
    let gone = [Verdict::Missing, Verdict::Damaged];
    let there = verdicts.iter().filter(|told| !gone.contains(&told.1));
    there.count() as u64
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
