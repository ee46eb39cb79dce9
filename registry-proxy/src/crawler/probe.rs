//! What is tried at a mirror as a client would, besides fetching blobs.
//!
//! A probe fails only where a client would too, and says so to people; what lies with us, as a missing
//! IPv6 network, is unknown.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use http::{Method, StatusCode};
use url::{Host as UrlHost, Url};

use super::check::{Answer, Mirror, part, plain};
use super::guard::{Family, Guard, Policy};
use super::identity::Identity;
use super::pace::Pace;
use super::wire::Wire;
use super::wire::exchange::{Failure, Question};
use crate::db::{Probe, ProbeName, ProbeResult};
use crate::network::Host;

/// So many bytes of a file are asked for to see whether parts are sent.
const PART: u64 = 1 << 10;

/// What came of one, and more of it for people.
type Tried = (ProbeResult, String);

/// Tries what is due with a file of the mirror: its URL and length.
pub async fn probe(
    wire: &Wire,
    host: &Host,
    policy: Policy,
    pace: Arc<Pace>,
    due: &[ProbeName],
    (url, size): (&str, u64),
) -> Vec<Probe> {
    tracing::debug!(host.name = %host.name, url, "trying what else clients do");
    let mut mirror = wire.mirror(policy, Arc::clone(&pace));
    let mut probes = Vec::new();
    for &name in due {
        let family = |family| Pinned {
            wire,
            policy,
            pace: Arc::clone(&pace),
            family,
        };
        let (result, detail) = match name {
            ProbeName::Tls => tls(&mut mirror, url).await,
            ProbeName::Ipv4 => family(Family::V4).answers(&mut mirror, url).await,
            ProbeName::Ipv6 => family(Family::V6).answers(&mut mirror, url).await,
            ProbeName::Range => range(&mut mirror, url, size).await,
            ProbeName::Encoding => encoding(&mut mirror, url).await,
        };
        probes.push(Probe {
            name,
            result,
            detail,
        });
    }
    probes
}

fn passed() -> Tried {
    (ProbeResult::Passed, String::new())
}

/// Whether its certificate is one that clients accept.
async fn tls(mirror: &mut Mirror, url: &str) -> Tried {
    if !url.starts_with("https:") {
        return (ProbeResult::Absent, "it serves http".to_owned());
    }
    match mirror
        .ask(Question::new(Method::HEAD, url, 0, Identity::Browser))
        .await
    {
        Ok(_) | Err(Failure::Unusable(_)) => passed(),
        Err(Failure::Unreachable(reason, error)) => {
            if causes(error.as_ref()).contains(&io::ErrorKind::InvalidData) {
                (ProbeResult::Failed, reason)
            } else {
                (ProbeResult::Unknown, reason)
            }
        }
    }
}

/// The kinds of the errors of the system that an error comes from. TLS says what it refuses as one of data.
fn causes(error: Option<&reqwest::Error>) -> Vec<io::ErrorKind> {
    let mut kinds = Vec::new();
    let mut next = error.and_then(|error| error.source());
    while let Some(cause) = next {
        let mut system = cause.downcast_ref::<io::Error>();
        while let Some(error) = system {
            kinds.push(error.kind());
            // One that wraps another does not name it as its source.
            system = error.get_ref().and_then(|inner| inner.downcast_ref());
        }
        next = cause.source();
    }
    kinds
}

/// Whether it sends the part of a file that is asked for: clients go on so with a broken transfer.
async fn range(mirror: &mut Mirror, url: &str, size: u64) -> Tried {
    if size < 2 {
        return (ProbeResult::Unknown, "the file has no parts".to_owned());
    }
    let range = 1..size.min(1 + PART);
    let question = Question {
        range: Some(range.clone()),
        ..Question::new(Method::GET, url, PART, Identity::Browser)
    };
    let mut exchange = match mirror.ask(question).await {
        Err(failure) => return unanswered(failure),
        Ok(exchange) => exchange,
    };
    match exchange.status() {
        StatusCode::PARTIAL_CONTENT | StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {}
        status => return (ProbeResult::Unknown, format!("status {status}")),
    }
    match part(exchange.status(), exchange.headers(), &range, size) {
        Ok(()) => {}
        Err(Answer::Unknown(wrong) | Answer::Damaged(wrong)) => {
            return (ProbeResult::Failed, wrong);
        }
        Err(_) => return (ProbeResult::Unknown, String::new()),
    }
    match mirror
        .body(&mut exchange, range.end - range.start, |_| {})
        .await
    {
        Ok(()) => passed(),
        Err(Answer::Damaged(wrong)) => (ProbeResult::Failed, wrong),
        Err(Answer::Unknown(reason) | Answer::Unreachable(reason)) => {
            (ProbeResult::Unknown, reason)
        }
        Err(_) => (ProbeResult::Unknown, String::new()),
    }
}

/// Whether it sends files as they are to those who say that they understand encodings, as most clients do.
async fn encoding(mirror: &mut Mirror, url: &str) -> Tried {
    let question = Question {
        encodings: "gzip",
        ..Question::new(Method::GET, url, 0, Identity::Browser)
    };
    match mirror.ask(question).await {
        Err(failure) => unanswered(failure),
        Ok(exchange) if exchange.status() != StatusCode::OK => (
            ProbeResult::Unknown,
            format!("status {}", exchange.status()),
        ),
        Ok(exchange) => match plain(exchange.headers()) {
            Err(Answer::Damaged(wrong)) => (ProbeResult::Failed, wrong),
            _ => passed(),
        },
    }
}

fn unanswered(failure: Failure) -> Tried {
    let (Failure::Unreachable(reason, _) | Failure::Unusable(reason)) = failure;
    (ProbeResult::Unknown, reason)
}

/// A mirror, by its addresses of one family.
struct Pinned<'a> {
    wire: &'a Wire,
    policy: Policy,
    pace: Arc<Pace>,
    family: Family,
}

impl Pinned<'_> {
    /// Whether there is one, and it answers anything there.
    async fn answers(self, mirror: &mut Mirror, url: &str) -> Tried {
        let (here, elsewhere) = match self.has_addresses(url).await {
            Ok(found) => found,
            Err(error) => return (ProbeResult::Unknown, error.to_string()),
        };
        if !here {
            return (ProbeResult::Absent, "it has no such address".to_owned());
        }
        let question = Question::new(Method::HEAD, url, 0, Identity::Browser);
        let asked = if elsewhere {
            match self.wire.pinned(self.policy, self.family, self.pace) {
                Ok(mut pinned) => pinned.ask(question).await,
                Err(error) => return (ProbeResult::Unknown, error.to_string()),
            }
        } else {
            // Over the connection there is: it has no other address.
            mirror.ask(question).await
        };
        match asked {
            Ok(_) => passed(),
            Err(Failure::Unusable(reason)) => (ProbeResult::Failed, reason),
            Err(Failure::Unreachable(reason, error)) => {
                // Then it is we who have no network of this family.
                let ours = |kind: &io::ErrorKind| {
                    use io::ErrorKind::{AddrNotAvailable, NetworkUnreachable, Unsupported};
                    matches!(kind, AddrNotAvailable | NetworkUnreachable | Unsupported)
                };
                if causes(error.as_ref()).iter().any(ours) {
                    (ProbeResult::Unknown, reason)
                } else {
                    (ProbeResult::Failed, reason)
                }
            }
        }
    }

    /// Whether it has addresses of this family, and of the other.
    async fn has_addresses(&self, url: &str) -> io::Result<(bool, bool)> {
        let url = Url::parse(url).map_err(io::Error::other)?;
        let is = |family| (self.family == family, self.family != family);
        Ok(match url.host() {
            Some(UrlHost::Ipv4(_)) => is(Family::V4),
            Some(UrlHost::Ipv6(_)) => is(Family::V6),
            Some(UrlHost::Domain(name)) => {
                let guard = Guard {
                    policy: self.policy,
                    family: None,
                };
                let found = guard.addresses(name).await?;
                let has = |here| found.iter().any(|at| self.family.has(at.ip()) == here);
                (has(true), has(false))
            }
            None => (false, false),
        })
    }
}
