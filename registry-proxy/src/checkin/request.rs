//! What a request has to be before it is read, and how it is read.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Refusal;
use super::token::Token;

/// How long one waits for one's turn.
const QUEUE: Duration = Duration::from_secs(10);

/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(20);

/// The token of whoever asks, if he has one.
pub(super) fn bearer(fields: &HeaderMap) -> Option<Token> {
    let value = fields.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    token.trim().parse().ok()
}

/// Refuses what is of another type, or packed.
pub(super) fn expect(fields: &HeaderMap, wanted: &'static str) -> Result<(), Refusal> {
    let kind = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next();
    let is_wanted = kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted));
    if is_wanted && !fields.contains_key(CONTENT_ENCODING) {
        Ok(())
    } else {
        Err(Refusal::Type(wanted))
    }
}

/// The length that is announced, unless it is too much.
pub(super) fn announced(fields: &HeaderMap, most: usize) -> Result<Option<u64>, Refusal> {
    let length = fields.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let length: Option<u64> = length.and_then(|length| length.parse().ok());
    match length {
        Some(length) if length > most as u64 => Err(Refusal::TooLarge(most as u64)),
        length => Ok(length),
    }
}

/// Waits until it is one's turn.
pub(super) async fn queue(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    let slot = timeout(QUEUE, Arc::clone(slots).acquire_owned()).await;
    slot.map_err(|_| Refusal::Busy)?
        .map_err(|_| Refusal::Unavailable)
}

/// Reads a body of at most so many bytes.
pub(super) async fn read(body: Body, most: usize, within: Duration) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, most);
    let reading = async {
        let mut body = std::pin::pin!(body);
        let mut bytes = Vec::new();
        while let Some(frame) = timeout(SILENCE, body.frame())
            .await
            .map_err(|_| Refusal::Late)?
        {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Refusal::TooLarge(most as u64)
                } else {
                    Refusal::Late
                }
            })?;
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(data);
            }
        }
        Ok(Bytes::from(bytes))
    };
    timeout(within, reading).await.map_err(|_| Refusal::Late)?
}
