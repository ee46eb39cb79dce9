//! Reports: what `mirror-tool report` posts, with its token in a field of the request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse, Response};
use http::Request;
use jiff::Timestamp;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::state::State;
use tracing::info;

use super::{Desk, blocking};
use crate::checkin::answer::Refusal;
use crate::checkin::json::{Answer, Crawl, Presence, Report, Status};
use crate::checkin::presence::{self, Grounds};
use crate::checkin::request::{announced, bearer, expect, queue, read};
use crate::db::{CheckIn, Verdict, Way};
use crate::network::Host;
use crate::snapshot::Snapshot;

/// Largest report. With all digests in it, it is one of more than a million blobs.
const REPORT_BYTES: usize = 64 << 20;

/// Largest report of a public mirror, whose blobs are found out by looking.
const PUBLIC_REPORT_BYTES: usize = 8 << 20;

/// A report of at most so many bytes is read at once; of larger ones few at a time.
const SMALL: u64 = 1 << 20;

/// How long a report may take to come.
const READING: Duration = Duration::from_secs(300);

/// Answers a report.
pub(super) async fn receive(
    extract::State(desk): extract::State<Arc<Desk>>,
    request: Request<Body>,
) -> Response {
    match desk.report(request).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

impl Desk {
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

    /// Writes down what a mirror reports. Blocks.
    fn take(&self, host: &Host, report: &Report, now: Timestamp) -> Result<Answer, Refusal> {
        let count = |number: usize| number as u64;
        let mut entry = CheckIn {
            at: now,
            way: Way::Report,
            serial: Some(report.serial),
            state: Some(report.state),
            repositories: report.repositories.as_ref().map(|it| count(it.len())),
            carried: None,
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
        let ours = own_state(&snapshot);
        let ours = ours.as_deref();
        // It has what it had, and nothing in it was looked at.
        if report.blobs.is_none() && report.damaged.is_none() {
            let same = Grounds::still_good(report, host, catalog, ours);
            if self.write(|database| database.check_in_again(host.id, &entry, &same))? {
                info!(
                    host.name = %host.name,
                    serial = entry.serial,
                    way = %entry.way,
                    "{} has checked in as it was", host.name
                );
                return Ok(answer(Presence::Taken, Crawl::None));
            }
        }
        let Some((verdicts, grounds)) = presence::of_report(report, host, catalog, ours) else {
            return Ok(answer(Presence::Wanted, Crawl::None));
        };
        entry.carried = Some(grounds.of(&report.carried()));
        entry.blobs = present(&verdicts);
        let recorded =
            self.write(|database| database.check_in(host.id, &entry, verdicts, catalog))?;
        // Meanwhile it is another mirror, or none.
        let (entry, recorded) = recorded.ok_or(Refusal::Unknown)?;
        self.tell(host, &entry, &recorded);
        Ok(answer(Presence::Taken, Crawl::None))
    }
}

/// The bytes of our `state.json`, unless the tree is another one by now.
fn own_state(snapshot: &Snapshot) -> Option<Vec<u8>> {
    let bytes = std::fs::read(TreePath::State.under(snapshot.tree.root())).ok()?;
    let state = State::from_bytes(&bytes).ok()?;
    (state == *snapshot.catalog.state()).then_some(bytes)
}

/// How many blobs are there.
fn present(verdicts: &[(BlobId, Verdict)]) -> u64 {
    let gone = [Verdict::Missing, Verdict::Damaged];
    let there = verdicts.iter().filter(|told| !gone.contains(&told.1));
    there.count() as u64
}
