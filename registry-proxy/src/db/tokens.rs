//! Tokens: by which a host is known that checks in.
//!
//! Of a token only a hash is kept, and a part of it that is no secret, by which its row is found.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use subtle::ConstantTimeEq as _;

use super::{Database, Error, hosts};
use crate::checkin::Token;
use crate::network::{Host, HostId, HostName};

impl Database {
    /// Gives a host a token; the one it had is worth nothing any more.
    pub fn set_token(
        &mut self,
        name: &HostName,
        token: &Token,
        at: Timestamp,
    ) -> Result<(), Error> {
        self.write("change a mirror in", |transaction| {
            let entered = transaction.execute(
                "INSERT OR REPLACE INTO token (host, key, hash, created_at)
                 SELECT id, ?2, ?3, ?4 FROM host WHERE name = ?1",
                params![name.as_str(), token.key(), token.hash(), at.to_string()],
            )?;
            match entered {
                0 => Err(Error::NameUnknown(name.to_string()).into()),
                _ => Ok(()),
            }
        })
    }

    /// Takes the token of a host back; whether it had one. What rests on its word alone is forgotten, and a private
    /// one is crawled again.
    pub fn revoke_token(&mut self, name: &HostName) -> Result<bool, Error> {
        self.write("change a mirror in", |transaction| {
            let query = "SELECT id, checked_in_at IS NOT NULL FROM host WHERE name = ?1";
            let found = transaction.query_row(query, [name.as_str()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
            });
            let (id, has_checked_in) = found
                .optional()?
                .ok_or_else(|| Error::NameUnknown(name.to_string()))?;
            if has_checked_in {
                hosts::forget(transaction, id)?;
            }
            Ok(transaction.execute("DELETE FROM token WHERE host = ?1", [id])? > 0)
        })
    }

    /// Whether a host has a token.
    pub fn has_token(&self, host: HostId) -> Result<bool, Error> {
        let query = "SELECT 1 FROM token WHERE host = ?1";
        let find = || self.connection.prepare_cached(query)?.exists([host.0]);
        find().map_err(|source| self.failed("read mirrors from", source))
    }

    /// The host that a token is of.
    ///
    /// It takes as long to find that there is none.
    pub fn bearer(&self, token: &Token) -> Result<Option<Host>, Error> {
        let find = || {
            let query = "SELECT host.name, token.hash FROM token JOIN host ON host.id = token.host WHERE key = ?1";
            let mut statement = self.connection.prepare_cached(query)?;
            statement
                .query_row([token.key()], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?))
                })
                .optional()
        };
        let found = find().map_err(|source| self.failed("read mirrors from", source))?;
        let (name, hash) = found.unwrap_or_default();
        let is_right = bool::from(hash.ct_eq(&token.hash()));
        match name.parse() {
            Ok(name) if is_right => Ok(Some(self.host(&name)?.host)),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}
