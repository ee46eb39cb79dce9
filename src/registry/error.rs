//! Why a registry's answer could not be had or could not be used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::{credentials, transport};
use crate::digest::Digest;
use crate::manifest;
use crate::reference::{Reference, RegistryHost, RepoName};

/// What a registry was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The list of tags.
    Tags(RepoName),
    /// One manifest.
    Manifest(RepoName, Reference),
    /// What refers to one manifest.
    Referrers(RepoName, Digest),
    /// One blob.
    Blob(RepoName, Digest),
}

impl Subject {
    /// The repository asked.
    pub fn name(&self) -> &RepoName {
        match self {
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Referrers(name, _)
            | Self::Blob(name, _) => name,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(name) => write!(f, "the tags of {name}"),
            Self::Manifest(name, Reference::Tag(tag)) => write!(f, "manifest {name}:{tag}"),
            Self::Manifest(name, Reference::Digest(digest)) => {
                write!(f, "manifest {name}@{digest}")
            }
            Self::Referrers(name, digest) => write!(f, "the referrers of {name}@{digest}"),
            Self::Blob(name, digest) => write!(f, "blob {digest} of {name}"),
        }
    }
}

/// What may help where no connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Nobody answered TLS.
    PlainHttp,
    /// Somebody answered, but what he said or showed is no good.
    Certificate,
}

impl Hint {
    const fn text(self) -> &'static str {
        match self {
            Self::PlainHttp => "; if it speaks plain HTTP, add --plain-http",
            Self::Certificate => {
                "; if it speaks plain HTTP, add --plain-http, if it has a certificate of your own \
                 authority, --tls-ca"
            }
        }
    }
}

/// Why a question to a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client could not be made, for example because of a malformed CA certificate.
    #[error("cannot set up the connection to {registry}")]
    Client {
        /// The registry.
        registry: RegistryHost,
        /// What the client said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer, or one that broke off.
    #[error("cannot get {subject} from {registry}{}", .hint.map_or("", Hint::text))]
    Request {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// What may help.
        hint: Option<Hint>,
        /// What the client said.
        source: reqwest::Error,
    },
    /// An answer other than the one hoped for.
    #[error("cannot get {subject} from {registry}: it answers {status}{}", Detail(.message.as_deref()))]
    Status {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// The status of the answer.
        status: StatusCode,
        /// How long the registry wants to be left alone.
        retry_after: Option<Duration>,
        /// The reason it gave, already excerpted.
        message: Option<Box<str>>,
    },
    /// The token service refused us or did not answer.
    #[error("cannot log in at {registry} to get {subject}")]
    Login {
        /// The registry.
        registry: RegistryHost,
        /// What the login was for.
        subject: Subject,
        /// What is wrong. Several requests may have waited for one login.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A stored login cannot be used.
    #[error("cannot find the login for {registry}")]
    Credentials {
        /// The registry.
        registry: RegistryHost,
        /// What is wrong. Several requests may have waited for one login.
        source: Arc<credentials::Error>,
    },
    /// The answer is longer than one of its kind may be.
    #[error("{subject} from {registry} is longer than {limit} bytes")]
    TooLarge {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// How long it may be.
        limit: u64,
    },
    /// The document is not a manifest, or not the one asked for.
    #[error("cannot use {subject} from {registry}")]
    Manifest {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// What is wrong.
        source: manifest::Error,
    },
    /// The registry announces one digest and sends another.
    #[error("{subject} from {registry} is announced as {announced} but is {found}")]
    Announced {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// The digest in `Docker-Content-Digest`.
        announced: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The tag list is not the JSON it should be.
    #[error("{subject} from {registry} are not the JSON of a tag list")]
    TagList {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The list of referrers is not the image index it should be.
    #[error("{subject} from {registry} are not an image index")]
    Referrers {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A list is longer in all than one of its kind may be.
    #[error("{subject} from {registry} are more than {most}")]
    TooMany {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// How many there may be.
        most: usize,
    },
    /// A list goes round in circles or never ends.
    #[error("{subject} from {registry} do not end after {pages} pages")]
    TooManyPages {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// How many pages were read.
        pages: usize,
    },
    /// A list goes on somewhere that cannot be asked, so it would be incomplete.
    #[error("{subject} from {registry} go on at {link}, which cannot be asked for")]
    NextPage {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// The field that says so, already excerpted.
        link: Box<str>,
    },
    /// The answer comes so slowly that waiting for its end would hold up everything.
    #[error("{subject} from {registry} comes too slowly: {received} bytes in {} s", .waited.as_secs_f32())]
    TooSlow {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// How much came.
        received: u64,
        /// In what time.
        waited: Duration,
    },
    /// So many requests in a row have failed that this one was not even sent.
    #[error("cannot get {subject} from {registry}: given up after {failures} failures in a row")]
    GivenUp {
        /// The registry.
        registry: RegistryHost,
        /// What was to be asked for.
        subject: Subject,
        /// How many requests have failed.
        failures: usize,
    },
    /// A blob came compressed once more, so its bytes are not the blob's.
    #[error("{subject} from {registry} comes with Content-Encoding {encoding}")]
    Encoded {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// The encoding, already excerpted.
        encoding: Box<str>,
    },
    /// A part was sent that does not start where it was asked to.
    #[error("{subject} from {registry} does not go on at byte {offset}: Content-Range is {range}")]
    Range {
        /// The registry.
        registry: RegistryHost,
        /// What was asked for.
        subject: Subject,
        /// Where it should go on.
        offset: u64,
        /// The field, already excerpted.
        range: Box<str>,
    },
}

impl Error {
    /// Whether the registry says it has no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// Whether the same question may be answered better later.
    ///
    /// A login that failed is not asked for again: the token service has been asked often enough.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request { source, .. } => transport::is_temporary(source),
            Self::Status { status, .. } => is_temporary(*status),
            Self::TooSlow { .. } => true,
            _ => false,
        }
    }

    /// Whether the registry refuses only because it is asked too much.
    pub(super) fn is_throttled(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS)
    }

    /// Whether the registry does not go on in the middle of a blob, but may send it from the start.
    pub fn is_range_refused(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Range { .. } => true,
            _ => false,
        }
    }

    /// How long the registry wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Whether an answer of this status may be another one later.
pub(super) fn is_temporary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Shows the reason a registry gave, if it gave one.
pub(super) struct Detail<'a>(pub(super) Option<&'a str>);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |message| write!(f, " ({message})"))
    }
}
