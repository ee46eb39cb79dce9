//! The mirror's own `state.json`: whether its copy of the tree has moved.
//!
//! It says how far a mirror is behind, and when it is worth asking again for what was missing. A mirror
//! without one, or with one that cannot be read, is no worse a mirror: clients do not need it.

use futures_util::StreamExt as _;
use http::StatusCode;
use oci_mirror::digest::Algorithm;
use oci_mirror::error_chain::chain;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::state::{MAX_BYTES, State};
use reqwest::Method;

use super::check::{Answer, Mirror};
use crate::db::TreeState;
use crate::network::BaseUrl;

/// What there is of it at a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Some bytes, which may be a state or not.
    There(TreeState),
    /// None that could be one.
    Absent,
}

/// Asks for it; an error if there was no usable answer.
pub async fn see(mirror: &mut Mirror, base: &BaseUrl) -> Result<Seen, Answer> {
    let url = base.join(&TreePath::State);
    let response = mirror.ask(Method::GET, &url, MAX_BYTES).await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
            return Ok(Seen::Absent);
        }
        status => return Err(Answer::Unknown(format!("status {status}"))),
    }
    let mut bytes = Vec::new();
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| Answer::Unknown(chain(&error)))?;
        if (bytes.len() + chunk.len()) as u64 > MAX_BYTES {
            return Ok(Seen::Absent);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Seen::There(TreeState {
        digest: Algorithm::Sha256.digest(&bytes),
        serial: State::from_bytes(&bytes).ok().map(|state| state.serial),
    }))
}
