//! The mirror's own `state.json`: whether its copy of the tree has moved.
//!
//! It says how far a mirror is behind, and when it is worth asking again for what was missing. A mirror
//! without one, or with one that cannot be read, is no worse a mirror: clients do not need it.

use oci_mirror::digest::Algorithm;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::state::{MAX_BYTES, State};

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
    match mirror.fetch(&base.join(&TreePath::State), MAX_BYTES).await {
        Ok(bytes) => Ok(Seen::There(TreeState {
            digest: Algorithm::Sha256.digest(&bytes),
            serial: State::from_bytes(&bytes).ok().map(|state| state.serial),
        })),
        Err(Answer::Missing | Answer::Damaged(_)) => Ok(Seen::Absent),
        Err(answer) => Err(answer),
    }
}
