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

/// How a state is remembered by a crawl that looked for what is in the tree up to `serial`.
///
/// Of one that is ahead of that not all was looked for. So it goes by another digest: when its mirror tells of it, or once
/// the tree is as far, it is a new one, but not each time it is met until then.
pub(super) fn as_looked_for(state: TreeState, serial: u64) -> TreeState {
    if state.serial.is_none_or(|its| its <= serial) {
        return state;
    }
    let text = format!("{}\nahead\n", state.digest);
    TreeState {
        digest: Algorithm::Sha256.digest(text.as_bytes()),
        ..state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_ahead_is_a_new_one_once_the_tree_is_as_far() {
        let state = |digest: &str, serial| TreeState {
            digest: Algorithm::Sha256.digest(digest.as_bytes()),
            serial,
        };
        for serial in [None, Some(6), Some(7)] {
            assert_eq!(as_looked_for(state("a", serial), 7), state("a", serial));
        }
        let ahead = state("a", Some(8));
        let remembered = as_looked_for(ahead, 7);
        assert_ne!(remembered.digest, ahead.digest);
        assert_eq!(remembered.serial, ahead.serial);
        assert_eq!(as_looked_for(ahead, 6), remembered, "it has not moved");
        assert_ne!(as_looked_for(state("b", Some(8)), 7), remembered);
    }
}
