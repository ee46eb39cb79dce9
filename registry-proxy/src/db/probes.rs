//! Probes: what was tried at a host as a client would, besides fetching blobs.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Transaction, params};
use serde::Serialize;

use super::evidence::cut;
use super::{Database, Error};
use crate::network::HostId;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What was tried.
    pub name: ProbeName,
    /// What came of it.
    pub result: ProbeResult,
    /// More of it, for people.
    pub detail: String,
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeName {
    /// Whether its certificate is one that clients accept.
    Tls,
    /// Whether it answers over IPv4.
    Ipv4,
    /// Whether it answers over IPv6.
    Ipv6,
    /// Whether it sends the part of a file that is asked for.
    Range,
    /// Whether it sends files as they are, whatever encodings are accepted.
    Encoding,
}

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeResult {
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// There is nothing to try, as an address of that family.
    Absent,
    /// It could not be tried from here.
    Unknown,
}

impl ProbeName {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Tls,
        Self::Ipv4,
        Self::Ipv6,
        Self::Range,
        Self::Encoding,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Range => "range",
            Self::Encoding => "encoding",
        }
    }
}

impl ProbeResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Absent, Self::Unknown];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ProbeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ProbeName {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let mut all = Self::ALL.into_iter();
        all.find(|name| name.as_str() == text).ok_or(UnknownWord)
    }
}

impl FromStr for ProbeResult {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let mut all = Self::ALL.into_iter();
        all.find(|result| result.as_str() == text)
            .ok_or(UnknownWord)
    }
}

/// The word is none of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no word of a probe")]
pub struct UnknownWord;

impl Database {
    /// What came of the last try of each, with the time of it.
    pub fn probes(&self, host: HostId) -> Result<Vec<(String, Probe)>, Error> {
        let read = || {
            let query = "SELECT at, name, result, detail FROM probe WHERE host = ?1";
            let mut statement = self.connection.prepare_cached(query)?;
            let mut rows = statement.query([host.0])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, result): (String, String) = (row.get(1)?, row.get(2)?);
                // A word that a later version wrote means nothing here.
                if let (Ok(name), Ok(result)) = (name.parse(), result.parse()) {
                    let detail = row.get(3)?;
                    found.push((
                        row.get(0)?,
                        Probe {
                            name,
                            result,
                            detail,
                        },
                    ));
                }
            }
            found.sort_by_key(|(_, probe): &(String, Probe)| probe.name);
            Ok(found)
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }
}

/// Enters what came of the probes of a crawl; those that were not made keep what they had.
pub(super) fn enter(
    transaction: &Transaction<'_>,
    host: HostId,
    at: &str,
    probes: &[Probe],
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO probe (host, name, result, detail, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for probe in probes {
        let (name, result) = (probe.name.as_str(), probe.result.as_str());
        statement.execute(params![host.0, name, result, cut(&probe.detail), at])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::hosts::tests::new_host;
    use super::*;

    #[test]
    fn the_last_of_each_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let host = database
            .add_host(&new_host("m", "https://m.example/t"))
            .unwrap();
        let probe = |name, result, detail: &str| Probe {
            name,
            result,
            detail: detail.to_owned(),
        };
        let long = "ä".repeat(5000);
        let first = [
            probe(ProbeName::Range, ProbeResult::Failed, &long),
            probe(ProbeName::Tls, ProbeResult::Passed, ""),
        ];
        let then = [probe(ProbeName::Tls, ProbeResult::Failed, "expired")];
        for (at, probes) in [("1", &first[..]), ("2", &then)] {
            let transaction = database.connection.transaction().unwrap();
            enter(&transaction, host, at, probes).unwrap();
            transaction.commit().unwrap();
        }
        let found = database.probes(host).unwrap();
        assert_eq!(found[0], ("2".to_owned(), then[0].clone()));
        assert_eq!((&*found[1].0, found[1].1.detail.len()), ("1", 2048));
        assert_eq!(found.len(), 2);
    }
}
