//! Silence: what is forgotten because a mirror has not said it for a long time.

use jiff::Timestamp;

use super::crawls::Scope;
use super::held::Told;
use super::rounds::clock;
use super::{Database, Error, categories, record};
use crate::network::HostId;

impl Database {
    /// Whether something is offered on the word of a mirror that was last believed before `before`.
    pub fn has_silent(&self, before: Timestamp) -> Result<bool, Error> {
        let query =
            format!("SELECT 1 {SILENT} UNION ALL SELECT 1 FROM category WHERE named_at < ?1");
        let find = || {
            let mut statement = self.connection.prepare_cached(&query)?;
            statement.exists([clock(before)])
        };
        find().map_err(|source| self.failed("read mirrors from", source))
    }

    /// Forgets what private mirrors hold that were last believed before `before`, and says which these are. What was
    /// damaged there is not forgotten, nor what they have listed since.
    pub fn expire_check_ins(&mut self, before: Timestamp) -> Result<Vec<String>, Error> {
        self.write("change mirrors in", |transaction| {
            let query = format!("SELECT host.id, host.name {SILENT}");
            let mut statement = transaction.prepare_cached(&query)?;
            let silent = statement.query_map([clock(before)], |row| {
                Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?))
            })?;
            let silent: Vec<(u32, String)> = silent.collect::<rusqlite::Result<_>>()?;
            for (id, _) in &silent {
                transaction.execute(
                    "UPDATE presence SET verified = x'', missing = x'',
                                         revision = (SELECT 1 + max(revision) FROM presence)
                     WHERE host = ?1",
                    [id],
                )?;
                categories::forget_older(transaction, HostId(*id), before)?;
            }
            Ok(silent.into_iter().map(|(_, name)| name).collect())
        })
    }

    /// Forgets what mirrors hold of categories that they have not told of since `before`, and says which these are: a
    /// mirror and its category.
    pub fn expire_categories(&mut self, before: Timestamp) -> Result<Vec<(String, String)>, Error> {
        self.write("change mirrors in", |transaction| {
            let query = "SELECT id, name FROM host
                         WHERE id IN (SELECT host FROM category WHERE named_at < ?1)";
            let mut statement = transaction.prepare_cached(query)?;
            let old = statement.query_map([clock(before)], |row| {
                Ok((HostId(row.get(0)?), row.get(1)?))
            })?;
            let old: Vec<(HostId, String)> = old.collect::<rusqlite::Result<_>>()?;
            let mut all = Vec::new();
            for (host, name) in old {
                let (expired, lost) = categories::expire(transaction, host, before)?;
                if categories::is_believed(transaction, host)? {
                    let told = Told {
                        unknown: lost,
                        ..Told::default()
                    };
                    record::held(transaction, host, Scope::Part, &told)?;
                    all.extend(expired.into_iter().map(|category| {
                        let category = match category.as_str() {
                            categories::REST => "what no category names".to_owned(),
                            _ => category,
                        };
                        (name.clone(), category)
                    }));
                }
            }
            Ok(all)
        })
    }
}

/// Private hosts that were last believed before some time, and of which something is known.
const SILENT: &str = "FROM host JOIN presence ON presence.host = host.id
     WHERE host.private = 1 AND host.checked_in_at < ?1 AND presence.verified != x''";
