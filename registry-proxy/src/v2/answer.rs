//! What is answered, and what an operator counts of it.

use http::Response;
use oci_mirror::http::Body;
use oci_mirror::reference::RepoName;

use crate::observe::Kind;
use crate::presence::HostPosition;

/// A response and the facts about it that its status does not tell.
#[derive(Debug)]
pub struct Answer {
    /// What the client gets.
    pub response: Response<Body>,
    /// What was asked for, if it is not what the path says.
    pub kind: Option<Kind>,
    /// The repository it was asked of.
    pub repository: Option<RepoName>,
    /// The mirror the client was sent to, and for how many bytes.
    pub mirror: Option<(HostPosition, u64)>,
    /// Whether the client got a metalink in the place of what it asked for.
    pub is_metalink: bool,
    /// Bytes of the tree in the body.
    pub from_tree: u64,
}

impl Answer {
    /// An answer that comes out of memory and sends the client nowhere.
    pub fn new(response: Response<Body>) -> Self {
        Self {
            response,
            kind: None,
            repository: None,
            mirror: None,
            is_metalink: false,
            from_tree: 0,
        }
    }

    /// An answer to something else than the path says.
    pub fn of(kind: Kind, response: Response<Body>) -> Self {
        Self {
            kind: Some(kind),
            ..Self::new(response)
        }
    }

    /// An answer whose body is content of the tree.
    pub fn from_tree(response: Response<Body>) -> Self {
        let bytes = http_body::Body::size_hint(response.body()).lower();
        Self {
            from_tree: bytes,
            ..Self::new(response)
        }
    }
}
