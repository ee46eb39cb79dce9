//! What `mirror-tool report` sends, and what it is told.
//!
//! Fields we do not know are passed over: the mirror may be of a later version. What we do know is either right or
//! the whole report is refused.

use std::borrow::Cow;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::reference::RepoName;
use serde::{Deserialize, Serialize};

/// The version of the format.
const VERSION: u32 = 1;

/// Most repositories named in a report; more are said by naming none.
pub const MAX_REPOSITORIES: usize = 100_000;

/// Most damaged blobs told in a report: with more, something else is wrong.
pub const MAX_DAMAGED: usize = 10_000;

/// What a mirror says of its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The serial.
    pub serial: u64,
    /// The digest of its `state.json`.
    pub state: Digest,
    /// The digest of its file list.
    pub list: Option<Digest>,
    /// The repositories it carries; none means all.
    pub repositories: Option<Vec<RepoName>>,
    /// The blobs it holds, if that was asked for.
    pub blobs: Option<Blobs>,
    /// Those that a verification of the whole tree has found to be damaged; none: there was no verification.
    pub damaged: Option<Vec<Digest>>,
}

/// Digests, as their bytes one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blobs {
    sha256: Vec<[u8; 32]>,
    sha512: Vec<[u8; 64]>,
}

impl Blobs {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Digest> + '_ {
        let long = self.sha512.iter().map(|bytes| Digest::Sha512(*bytes));
        let short = self.sha256.iter().map(|bytes| Digest::Sha256(*bytes));
        short.chain(long)
    }
}

impl Report {
    /// Reads the body of a report.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let wire: Wire<'_> = serde_json::from_slice(bytes)?;
        if wire.version != VERSION {
            return Err(Malformed::Version(wire.version));
        }
        if wire.repositories.as_ref().map_or(0, Vec::len) > MAX_REPOSITORIES {
            return Err(Malformed::Many("repositories", MAX_REPOSITORIES));
        }
        let damaged = wire.verified.map(|verified| verified.damaged);
        if damaged.as_ref().map_or(0, Vec::len) > MAX_DAMAGED {
            return Err(Malformed::Many("damaged", MAX_DAMAGED));
        }
        let blobs = wire.blobs.map(|blobs| {
            Ok::<_, Malformed>(Blobs {
                sha256: digests(blobs.sha256.as_deref())?,
                sha512: digests(blobs.sha512.as_deref())?,
            })
        });
        Ok(Self {
            serial: wire.serial,
            state: wire.state,
            list: wire.list,
            repositories: wire.repositories,
            blobs: blobs.transpose()?,
            damaged,
        })
    }

    /// What tells two reports of the same state apart: a digest of the serial, the file list and the repositories, in
    /// whatever order and however often these are named.
    pub fn carried(&self) -> Digest {
        let list = self.list.map(|list| list.to_string());
        let mut text = format!("{}\n{}\n", self.serial, list.unwrap_or_default());
        match &self.repositories {
            // No repository is called so.
            None => text.push('*'),
            Some(names) => {
                let names: BTreeSet<&str> = names.iter().map(RepoName::as_str).collect();
                for name in names {
                    text.push_str(name);
                    text.push('\n');
                }
            }
        }
        Algorithm::Sha256.digest(text.as_bytes())
    }
}

fn digests<const LENGTH: usize>(text: Option<&str>) -> Result<Vec<[u8; LENGTH]>, Malformed> {
    let bytes = STANDARD
        .decode(text.unwrap_or_default())
        .map_err(|_| Malformed::Blobs)?;
    let (digests, rest) = bytes.as_chunks();
    if rest.is_empty() {
        Ok(digests.to_vec())
    } else {
        Err(Malformed::Blobs)
    }
}

/// The report as it is written.
#[derive(Deserialize)]
struct Wire<'a> {
    version: u32,
    serial: u64,
    state: Digest,
    list: Option<Digest>,
    repositories: Option<Vec<RepoName>>,
    #[serde(borrow)]
    blobs: Option<WireBlobs<'a>>,
    verified: Option<Verified>,
}

#[derive(Deserialize)]
struct WireBlobs<'a> {
    #[serde(borrow)]
    sha256: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sha512: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Verified {
    damaged: Vec<Digest>,
}

/// Why a report is refused.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON of this shape.
    #[error("the report is malformed: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of a version that this program does not know.
    #[error("the report has version {0}; this front end knows version {VERSION}")]
    Version(u32),
    /// A list is too long.
    #[error("there are more than {1} entries in `{0}`")]
    Many(&'static str, usize),
    /// The blobs are not digests one after the other, in base64.
    #[error("`blobs` are not whole digests in base64")]
    Blobs,
}

/// What a mirror is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// That all is well.
    pub status: Status,
    /// What was done with what it says it holds.
    pub presence: Presence,
    /// Whether it is going to be looked at.
    pub crawl: Crawl,
}

/// That a report was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was.
    Recorded,
}

/// What was done with what a mirror says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Clients are sent for it.
    Taken,
    /// It has to be said blob by blob.
    Wanted,
    /// Nothing: it is found out by looking.
    None,
}

/// Whether a mirror is going to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crawl {
    /// Within minutes.
    Soon,
    /// When it is its turn, or never.
    None,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(text: &str) -> Digest {
        Algorithm::Sha256.digest(text.as_bytes())
    }

    fn report() -> Value {
        let two = [digest("a"), digest("b")];
        let bytes: Vec<u8> = two.iter().flat_map(|it| it.as_bytes().to_vec()).collect();
        json!({
            "version": 1,
            "tool": "mirror-tool 0.1",
            "serial": 9,
            "state": digest("state"),
            "list": digest("list"),
            "repositories": ["a/b", "c"],
            "blobs": {"sha256": STANDARD.encode(bytes), "later": 1},
            "verified": {"at": "2026-01-01T00:00:00Z", "damaged": [digest("b")]},
        })
    }

    fn parse(report: &Value) -> Result<Report, Malformed> {
        Report::from_bytes(report.to_string().as_bytes())
    }

    #[test]
    fn a_report_says_what_was_said() {
        let parsed = parse(&report()).unwrap();
        assert_eq!((parsed.serial, parsed.state), (9, digest("state")));
        assert_eq!(parsed.list, Some(digest("list")));
        assert_eq!(parsed.repositories.unwrap().len(), 2);
        let blobs: Vec<_> = parsed.blobs.unwrap().iter().collect();
        assert_eq!(blobs, [digest("a"), digest("b")]);
        assert_eq!(parsed.damaged.unwrap(), [digest("b")]);
    }

    #[test]
    fn what_is_left_out_is_as_if_it_were_null() {
        let mut short = report();
        for field in ["list", "repositories", "blobs", "verified"] {
            short[field] = Value::Null;
        }
        let with_null = parse(&short).unwrap();
        let fields = short.as_object_mut().unwrap();
        fields.retain(|_, value| !value.is_null());
        assert_eq!(parse(&short).unwrap(), with_null);
        assert_eq!(with_null.blobs, None);
    }

    #[test]
    fn what_is_carried_is_the_same_in_any_order_and_with_nothing_less() {
        let carried = |field: &str, value: Value| {
            let mut report = report();
            report[field] = value;
            parse(&report).unwrap().carried()
        };
        let same = carried("blobs", Value::Null);
        assert_eq!(carried("repositories", json!(["c", "a/b", "c"])), same);
        let others = [
            carried("serial", json!(10)),
            carried("list", Value::Null),
            carried("repositories", Value::Null),
            carried("repositories", json!([])),
            carried("repositories", json!(["a/b", "d"])),
            carried("repositories", json!(["a/b"])),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, same, "{index}");
            assert!(!others[..index].contains(other), "{index}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_whole() {
        for (field, value, told) in [
            ("version", json!(2), "version 2"),
            ("serial", json!(-1), "-1"),
            ("state", json!("sha256:xx"), "malformed"),
            ("repositories", json!(["../x"]), "malformed"),
            ("repositories", json!(vec!["a"; 100_001]), "100000"),
            ("blobs", json!({"sha256": "AAAA"}), "whole digests"),
            ("blobs", json!({"sha256": "?"}), "whole digests"),
            (
                "blobs",
                json!({"sha512": STANDARD.encode([0; 96])}),
                "whole",
            ),
            ("verified", json!({}), "damaged"),
            (
                "verified",
                json!({"damaged": vec![digest("a"); 10_001]}),
                "10000",
            ),
        ] {
            let mut report = report();
            report[field] = value;
            let error = parse(&report).unwrap_err().to_string();
            assert!(error.contains(told), "{field}: {error}");
        }
        assert!(Report::from_bytes(b"").is_err());
        let deep = [b"{\"x\":".repeat(10_000), b"[".repeat(100_000)].concat();
        assert!(Report::from_bytes(&deep).is_err());
    }

    #[test]
    fn an_answer_is_three_words() {
        let answer = Answer {
            status: Status::Recorded,
            presence: Presence::Wanted,
            crawl: Crawl::Soon,
        };
        assert_eq!(
            serde_json::to_value(answer).unwrap(),
            json!({"status": "recorded", "presence": "wanted", "crawl": "soon"})
        );
    }
}
