//! Calls: what MirrorManager's `report_mirror` sends, with the token in the text of the call.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse, Response};
use http::Request;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Desk, blocking};
use crate::checkin::answer::Refusal;
use crate::checkin::report_mirror::CheckIn as Announced;
use crate::checkin::request::{announced, expect, queue, read};
use crate::checkin::{presence, xmlrpc};
use crate::db::{CheckIn, Way};
use crate::network::Host;

/// Largest call of XML-RPC.
const CALL_BYTES: usize = 8 << 20;

/// How long a call may take to come.
const CALLING: Duration = Duration::from_secs(30);

/// Answers a call.
pub(super) async fn receive(
    extract::State(desk): extract::State<Arc<Desk>>,
    request: Request<Body>,
) -> Response {
    match desk.call(request).await {
        Ok(text) => ([(CONTENT_TYPE, "text/xml")], text).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

impl Desk {
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
}
