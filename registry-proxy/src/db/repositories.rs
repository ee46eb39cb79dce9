//! Repositories that could not be crawled at a host while the rest of it could.
//!
//! A row is kept only of those with something amiss. A repository is judged by the blobs that are its own:
//! one that shares its base image with another is not there because that is.

use std::collections::HashMap;

use oci_mirror::reference::RepoName;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::{BlobId, Repository};
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::Serialize;

use super::crawls::{Change, Verdict};
use super::numbers::Numbers;
use super::presence::bitmap;
use super::{Database, Error};
use crate::network::standing::FAILURES_TO_DISABLE;
use crate::network::{HostId, RepoGlob, glob};

/// A repository of a host that has something amiss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepositoryHealth {
    /// Which.
    pub repository: String,
    /// Crawls failed in a row.
    pub failed_crawls: u32,
    /// Why the last one failed.
    pub failure: String,
    /// How many blobs it has of its own.
    pub carried: u64,
    /// How many of these are missing.
    pub missing: u64,
    /// Of how many it could not be told.
    pub unknown: u64,
    /// When that was.
    pub checked_at: String,
}

impl Database {
    /// The repositories of a host with something amiss, by name.
    pub fn repository_health(&self, host: HostId) -> Result<Vec<RepositoryHealth>, Error> {
        let read = || {
            let query =
                "SELECT repository, failed_crawls, failure, carried, missing, unknown, checked_at
                         FROM repository_health WHERE host = ?1 ORDER BY repository";
            let mut statement = self.connection.prepare_cached(query)?;
            let rows = statement.query_map([host.0], |row| {
                let count =
                    |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
                Ok(RepositoryHealth {
                    repository: row.get(0)?,
                    failed_crawls: row.get(1)?,
                    failure: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                    carried: count(3)?,
                    missing: count(4)?,
                    unknown: count(5)?,
                    checked_at: row.get(6)?,
                })
            });
            rows?.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }
}

/// What a crawl found of the blobs of a repository's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Found {
    own: u64,
    verified: u64,
    missing: u64,
    /// Told just now.
    unknown: u64,
    /// Told just now, in any way.
    told: u64,
}

impl Found {
    /// Why nobody could have it from there; `None` if somebody may, or nothing was asked.
    fn failure(&self) -> Option<String> {
        let is_lost = self.verified == 0 && self.missing + self.unknown >= self.own;
        (is_lost && self.told > 0).then(|| match self.unknown {
            0 => format!("all of its {} blobs are missing", self.own),
            unknown => format!(
                "of its {} blobs {} are missing and {unknown} get no usable answer",
                self.own, self.missing
            ),
        })
    }
}

/// Writes down what a crawl means for single repositories, once its presence is; what changed for clients.
pub(super) fn update(
    transaction: &Transaction<'_>,
    host: HostId,
    (at, verdicts): (&str, &[(BlobId, Verdict)]),
    numbers: &Numbers,
    catalog: &Catalog,
) -> rusqlite::Result<Vec<(RepoName, Change)>> {
    let mut rows = rows(transaction, host)?;
    let is_amiss = |told: &(BlobId, Verdict)| matches!(told.1, Verdict::Missing | Verdict::Unknown);
    // Nearly always: nothing was amiss, and nothing is.
    if rows.is_empty() && !verdicts.iter().any(is_amiss) {
        return Ok(Vec::new());
    }
    let is_meant = carries(transaction, host)?;
    let carried = || catalog.repositories().filter(|(name, _)| is_meant(name));
    let mut times: Vec<u8> = vec![0; catalog.blobs().len()];
    for (_, repository) in carried() {
        for id in repository.members() {
            times[id.index()] = times[id.index()].saturating_add(1);
        }
    }
    let own = |repository: &Repository| -> RoaringBitmap {
        let members = repository.members();
        members
            .filter(|id| times[id.index()] == 1)
            .map(|id| id.0)
            .collect()
    };
    let sets = Sets::read(transaction, host, verdicts, numbers)?;
    let mut changes = Vec::new();
    for (name, repository) in carried() {
        let own = own(repository);
        if own.is_empty() {
            // Its row, if it has one, is forgotten below.
            continue;
        }
        let failed_crawls = rows.remove(name.as_str());
        if failed_crawls.is_none() && own.is_disjoint(&sets.amiss) {
            continue;
        }
        let found = sets.of(&own);
        match (found.failure(), failed_crawls) {
            (Some(failure), failed_crawls) => {
                let failed_crawls = failed_crawls.unwrap_or(0).saturating_add(1);
                enter(transaction, host, at, name, failed_crawls, &failure, found)?;
                if failed_crawls == FAILURES_TO_DISABLE {
                    changes.push((name.clone(), Change::Disabled(failure)));
                }
            }
            (None, Some(failed_crawls)) if found.verified > 0 => {
                forget(transaction, host, name.as_str())?;
                if failed_crawls >= FAILURES_TO_DISABLE {
                    changes.push((name.clone(), Change::Returned));
                }
            }
            // There, it seems, but not verified yet; or not asked for.
            (None, _) => {}
        }
    }
    // What is not carried any more, or has nothing of its own.
    for (name, failed_crawls) in rows {
        forget(transaction, host, &name)?;
        if failed_crawls >= FAILURES_TO_DISABLE
            && let Ok(name) = name.parse()
        {
            changes.push((name, Change::Returned));
        }
    }
    Ok(changes)
}

/// What is known of the blobs of a host, by the numbers of the catalog.
struct Sets {
    verified: RoaringBitmap,
    missing: RoaringBitmap,
    unknown: RoaringBitmap,
    told: RoaringBitmap,
    /// Told just now to be missing, or nothing at all.
    amiss: RoaringBitmap,
}

impl Sets {
    fn read(
        transaction: &Transaction<'_>,
        host: HostId,
        verdicts: &[(BlobId, Verdict)],
        numbers: &Numbers,
    ) -> rusqlite::Result<Self> {
        let query = "SELECT verified, missing FROM presence WHERE host = ?1";
        let known = transaction.query_row(query, [host.0], |row| {
            let set = |column| row.get(column).map(|bytes: Vec<u8>| bitmap(&bytes));
            Ok((set(0)?, set(1)?))
        });
        let (verified, missing) = known.optional()?.unwrap_or_default();
        let among = |set| numbers.among(set).map(|id| id.0).collect();
        let select = |wanted: &dyn Fn(Verdict) -> bool| {
            let chosen = verdicts.iter().filter(|(_, verdict)| wanted(*verdict));
            chosen.map(|(id, _)| id.0).collect::<RoaringBitmap>()
        };
        let unknown = select(&|verdict| verdict == Verdict::Unknown);
        Ok(Self {
            verified: among(&verified),
            missing: among(&missing),
            amiss: select(&|verdict| verdict == Verdict::Missing) | &unknown,
            unknown,
            told: select(&|_| true),
        })
    }

    fn of(&self, own: &RoaringBitmap) -> Found {
        Found {
            own: own.len(),
            verified: own.intersection_len(&self.verified),
            missing: own.intersection_len(&self.missing),
            unknown: own.intersection_len(&self.unknown),
            told: own.intersection_len(&self.told),
        }
    }
}

fn rows(transaction: &Transaction<'_>, host: HostId) -> rusqlite::Result<HashMap<String, u32>> {
    let query = "SELECT repository, failed_crawls FROM repository_health WHERE host = ?1";
    let mut statement = transaction.prepare_cached(query)?;
    let rows = statement.query_map([host.0], |row| Ok((row.get(0)?, row.get(1)?)));
    rows?.collect()
}

/// What a host is meant to hold.
fn carries(
    transaction: &Transaction<'_>,
    host: HostId,
) -> rusqlite::Result<impl Fn(&RepoName) -> bool> {
    let query = "SELECT glob, excluded FROM repository WHERE host = ?1";
    let mut statement = transaction.prepare_cached(query)?;
    let mut rows = statement.query([host.0])?;
    let (mut included, mut excluded): (Vec<RepoGlob>, Vec<RepoGlob>) = Default::default();
    while let Some(row) = rows.next()? {
        let glob: Option<RepoGlob> = row.get::<_, String>(0)?.parse().ok();
        if row.get(1)? {
            excluded.extend(glob);
        } else {
            included.extend(glob);
        }
    }
    Ok(move |name: &RepoName| glob::are_for(&included, &excluded, name))
}

fn enter(
    transaction: &Transaction<'_>,
    host: HostId,
    at: &str,
    name: &RepoName,
    failed_crawls: u32,
    failure: &str,
    found: Found,
) -> rusqlite::Result<()> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    transaction.execute(
        "INSERT OR REPLACE INTO repository_health
           (host, repository, failed_crawls, failure, carried, verified, missing, damaged, unknown, checked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, 0, ?7, ?8)",
        params![
            host.0,
            name.as_str(),
            failed_crawls,
            failure,
            count(found.own),
            count(found.missing),
            count(found.unknown),
            at
        ],
    )?;
    Ok(())
}

fn forget(transaction: &Transaction<'_>, host: HostId, name: &str) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM repository_health WHERE host = ?1 AND repository = ?2",
        params![host.0, name],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use oci_mirror::descriptor::Descriptor;
    use oci_mirror::digest::Algorithm;
    use oci_mirror::media_type::MediaType;
    use oci_mirror::tree::TreeWriter;
    use oci_mirror::tree::writer::Image;

    use super::super::hosts::tests::new_host;
    use super::super::{Crawl, Outcome, Scope};
    use super::*;
    use crate::network::NewHost;

    /// Repositories `a` and `b` with a manifest each and one config between them.
    fn catalog(root: &std::path::Path) -> Catalog {
        let writer = TreeWriter::open(root).unwrap();
        let config = Algorithm::Sha256.digest(b"{}");
        writer.stage_bytes(config, b"{}").unwrap();
        let image = |repo: &str| {
            let manifest = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[],"annotations":{{"of":"{repo}"}}}}"#
            );
            let digest = Algorithm::Sha256.digest(manifest.as_bytes());
            writer.stage_bytes(digest, manifest.as_bytes()).unwrap();
            Image {
                repo: repo.parse().unwrap(),
                tag: "1".parse().ok(),
                root: Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64),
                reach: vec![config, digest],
                tag_referrers: None,
            }
        };
        writer.publish(&[image("a"), image("b")]).unwrap();
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        Catalog::load(writer.tree(), None).unwrap()
    }

    #[test]
    fn a_repository_that_is_not_there_four_times_is_disabled_alone_and_the_first_find_brings_it_back()
     {
        let dir = tempfile::tempdir().unwrap();
        let catalog = catalog(&dir.path().join("tree"));
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let new = NewHost {
            repositories: Vec::new(),
            ..new_host("m", "https://m.example/t")
        };
        let host = database.add_host(&new).unwrap();
        let b: RepoName = "b".parse().unwrap();
        let members = |name: &str| {
            catalog
                .repository(&name.parse().unwrap())
                .unwrap()
                .members()
        };
        let own: Vec<BlobId> = {
            let others: Vec<BlobId> = members("a").collect();
            members("b").filter(|id| !others.contains(id)).collect()
        };
        assert_eq!(own.len(), 1);
        let mut told = |of_b: Verdict| {
            let all = (0..u32::try_from(catalog.blobs().len()).unwrap()).map(BlobId);
            let verdict = |id| {
                if own.contains(&id) {
                    of_b
                } else {
                    Verdict::Read
                }
            };
            let verdicts: Vec<_> = all.map(|id| (id, verdict(id))).collect();
            let outcome = Outcome::Finished {
                scope: Scope::Whole,
                verdicts,
                evidence: Vec::new(),
            };
            let crawl = Crawl::new(Timestamp::UNIX_EPOCH, outcome);
            let recorded = database.record_crawl(host, &crawl, &catalog).unwrap();
            (
                recorded.unwrap().repositories,
                database.repository_health(host).unwrap(),
            )
        };
        assert_eq!(told(Verdict::Read), (vec![], vec![]));
        for crawls in 1..=3 {
            let (changes, health) = told(Verdict::Missing);
            assert_eq!((changes, health[0].failed_crawls), (vec![], crawls));
        }
        let (changes, health) = told(Verdict::Unknown);
        let reason = "of its 1 blobs 0 are missing and 1 get no usable answer".to_owned();
        assert_eq!(changes, [(b.clone(), Change::Disabled(reason))]);
        assert_eq!(health.len(), 1, "the other repository is well");
        assert_eq!(told(Verdict::Missing).0, [], "it is said once");
        assert_eq!(told(Verdict::Present).0, [], "not read, so not back");
        assert_eq!(
            told(Verdict::Sampled),
            (vec![(b, Change::Returned)], vec![])
        );
        assert_eq!(told(Verdict::Read), (vec![], vec![]));
    }
}
