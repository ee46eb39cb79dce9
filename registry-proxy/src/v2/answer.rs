//! What is answered, and what an operator counts of it.

use http::Response;
use oci_mirror::http::Body;

use crate::presence::HostPosition;

/// A response and the facts about it that its status does not tell.
#[derive(Debug)]
pub struct Answer {
    /// What the client gets.
    pub response: Response<Body>,
    /// What kind of request it answers.
    pub kind: Kind,
    /// The mirror the client was sent to.
    pub mirror: Option<HostPosition>,
    /// Bytes of the tree in the body.
    pub from_tree: u64,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Whether this is a registry.
    Base,
    /// The list of repositories.
    Catalog,
    /// The list of a repository's tags.
    Tags,
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
    /// A metalink of a manifest or blob.
    Metalink,
    /// What refers to a manifest.
    Referrers,
    /// Something that is no endpoint, or a method that is not served.
    Unknown,
}

impl Answer {
    /// An answer that comes out of memory and sends the client nowhere.
    pub fn new(kind: Kind, response: Response<Body>) -> Self {
        Self {
            response,
            kind,
            mirror: None,
            from_tree: 0,
        }
    }

    /// An answer whose body is content of the tree.
    pub fn from_tree(kind: Kind, response: Response<Body>) -> Self {
        let bytes = http_body::Body::size_hint(response.body()).lower();
        Self {
            from_tree: bytes,
            ..Self::new(kind, response)
        }
    }
}
