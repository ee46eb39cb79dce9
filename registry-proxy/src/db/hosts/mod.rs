//! Hosts: entering, reading, changing.
//!
//! A host keeps its number, and with it all that crawls found out, through every change; only a host that
//! moved to another address is looked at as if it were new.

mod read;
mod write;

use jiff::Timestamp;
use rusqlite::params;
use tracing::error;

pub(super) use read::{entries, text};
pub(super) use write::{change, forget, insert, remove, rewrite};

use super::{Database, Error, is_taken};
use crate::network::{By, Host, HostId, HostName, NewHost, Unacceptable};

/// A host with what is known beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The host.
    pub host: Host,
    /// When it was last crawled.
    pub crawled_at: Option<Timestamp>,
    /// When it last said itself what it holds, and was believed.
    pub checked_in_at: Option<Timestamp>,
}

/// A host whose row cannot have been written by this program: somebody edited the file. It is left out
/// everywhere, until it is entered anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its number.
    pub(super) id: i64,
    /// The name in the row.
    pub name: String,
    /// What is malformed.
    pub field: &'static str,
}

impl From<&Unreadable> for Error {
    fn from(row: &Unreadable) -> Self {
        Self::Malformed {
            what: "mirror",
            name: row.name.clone(),
            field: row.field,
        }
    }
}

impl Database {
    /// Enters a host. It gets its first clients after its first crawl.
    pub fn add_host(&mut self, host: &NewHost) -> Result<HostId, Error> {
        self.write("enter a mirror into", |transaction| {
            insert(transaction, host).map_err(|source| {
                if is_taken(&source) {
                    Error::NameTaken(host.name.to_string()).into()
                } else {
                    source.into()
                }
            })
        })
    }

    /// All hosts, in the order in which they were entered. Those left out are told in the log, once.
    pub fn hosts(&self) -> Result<Vec<Host>, Error> {
        let (listed, unreadable) = self.entries()?;
        if *self.told.borrow() != unreadable {
            for row in &unreadable {
                error!(mirror.name = %row.name.escape_debug(), "{}; it is left out", Error::from(row));
            }
            self.told.replace(unreadable);
        }
        Ok(listed.into_iter().map(|listed| listed.host).collect())
    }

    /// One host with what is known beside it.
    pub fn host(&self, name: &HostName) -> Result<Listed, Error> {
        let (listed, unreadable) = self.entries()?;
        let mut listed = listed.into_iter();
        if let Some(found) = listed.find(|listed| listed.host.name == *name) {
            return Ok(found);
        }
        let mut unreadable = unreadable.iter();
        Err(unreadable
            .find(|row| row.name == name.as_str())
            .map_or_else(|| Error::NameUnknown(name.to_string()), Error::from))
    }

    /// All hosts with what is known beside them, but for those that are left out.
    pub fn listed(&self) -> Result<Vec<Listed>, Error> {
        Ok(self.entries()?.0)
    }

    /// All hosts with what is known beside them, and those that are left out.
    pub fn entries(&self) -> Result<(Vec<Listed>, Vec<Unreadable>), Error> {
        entries(&self.connection).map_err(|source| self.failed("read mirrors from", source))
    }

    /// Changes what is said of a host; which fields are other than before. Nobody else changes it meanwhile.
    pub fn change_host(
        &mut self,
        name: &HostName,
        edit: impl FnOnce(NewHost) -> Result<NewHost, Unacceptable>,
    ) -> Result<Vec<&'static str>, Error> {
        let before = self.host(name)?.host;
        self.write("change a mirror in", |transaction| {
            let (listed, _) = entries(transaction)?;
            let mut now = listed.into_iter().map(|listed| listed.host);
            let old = now.find(|host| host.id == before.id);
            let old = old.ok_or_else(|| Error::NameUnknown(name.to_string()))?;
            let new = edit(NewHost::from(&old)).map_err(|source| Error::Unacceptable {
                name: name.clone(),
                source,
            })?;
            Ok(change(transaction, &old, &new)?)
        })
    }

    /// Takes a host out of service, or, without a reason, back into it as far as `by` may say.
    pub fn set_switch(
        &mut self,
        name: &HostName,
        by: By,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let query = match by {
            By::Admin => "UPDATE host SET disabled = ?2 WHERE name = ?1",
            By::Site => "UPDATE host SET disabled_by_site = ?2 WHERE name = ?1",
        };
        self.write("change a mirror in", |transaction| {
            match transaction.execute(query, params![name.as_str(), reason])? {
                0 => Err(Error::NameUnknown(name.to_string()).into()),
                _ => Ok(()),
            }
        })
    }

    /// As [`Database::set_switch`], by an administrator.
    pub fn set_disabled(&mut self, name: &HostName, reason: Option<&str>) -> Result<(), Error> {
        self.set_switch(name, By::Admin, reason)
    }

    /// Forgets a host and all that was found out about it.
    pub fn remove_host(&mut self, name: &HostName) -> Result<(), Error> {
        self.write("remove a mirror from", |transaction| {
            if remove(transaction, name.as_str())? {
                Ok(())
            } else {
                Err(Error::NameUnknown(name.to_string()).into())
            }
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
