//! Accounts: who looks after which sites.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::hosts::text;
use super::{Database, Error, Failure, is_taken, sites};
use crate::network::account::Email;
use crate::network::{Account, AccountName, SiteName};

impl Database {
    /// Enters an account; the sites must be there.
    pub fn add_account(&mut self, account: &Account, now: Timestamp) -> Result<(), Error> {
        self.write("enter an account into", |transaction| {
            for site in &account.sites {
                known_site(transaction, site)?;
            }
            insert(transaction, account, now).map_err(|source| {
                if is_taken(&source) {
                    Error::AccountTaken(account.name.clone()).into()
                } else {
                    source.into()
                }
            })
        })
    }

    /// All accounts, by name.
    pub fn accounts(&self) -> Result<Vec<Account>, Error> {
        all(&self.connection).map_err(|failure| self.explained(failure, "read accounts from"))
    }

    /// One account.
    pub fn account(&self, name: &AccountName) -> Result<Account, Error> {
        let mut accounts = self.accounts()?.into_iter();
        let found = accounts.find(|account| account.name == *name);
        found.ok_or_else(|| Error::AccountUnknown(name.clone()))
    }

    /// Lets somebody look after a site.
    pub fn grant(&mut self, name: &AccountName, site: &SiteName) -> Result<(), Error> {
        self.write("change an account in", |transaction| {
            let (account, site) = (known(transaction, name)?, known_site(transaction, site)?);
            let query = "INSERT OR IGNORE INTO site_account (site, account) VALUES (?1, ?2)";
            transaction.execute(query, [site, account])?;
            Ok(())
        })
    }

    /// Ends that somebody looks after a site.
    pub fn revoke(&mut self, name: &AccountName, site: &SiteName) -> Result<(), Error> {
        self.write("change an account in", |transaction| {
            let (account, site) = (known(transaction, name)?, known_site(transaction, site)?);
            let query = "DELETE FROM site_account WHERE site = ?1 AND account = ?2";
            transaction.execute(query, [site, account])?;
            Ok(())
        })
    }

    /// Forgets an account; its sites stay.
    pub fn remove_account(&mut self, name: &AccountName) -> Result<(), Error> {
        self.write("remove an account from", |transaction| {
            let account = known(transaction, name)?;
            transaction.execute("DELETE FROM account WHERE id = ?1", [account])?;
            Ok(())
        })
    }
}

/// All accounts, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<Account>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT id, name, email FROM account ORDER BY name")?;
    let mut of = connection.prepare_cached(
        "SELECT name FROM site JOIN site_account ON site = id WHERE account = ?1 ORDER BY name",
    )?;
    let mut rows = statement.query(())?;
    let mut accounts = Vec::new();
    while let Some(row) = rows.next()? {
        let name = text(row, 1)?.unwrap_or_default();
        let malformed = |field| Error::Malformed {
            what: "account",
            name: name.clone(),
            field,
        };
        let id: i64 = row.get(0)?;
        let sites = of.query_map([id], |row| text(row, 0))?;
        let sites = sites.collect::<rusqlite::Result<Vec<_>>>()?;
        let sites = sites.iter().flatten().map(|name| name.parse());
        let email = text(row, 2)?.map(|email| email.parse()).transpose();
        accounts.push(Account {
            name: name.parse().map_err(|_| malformed("name"))?,
            email: email.map_err(|_| malformed("mail address"))?,
            sites: sites
                .collect::<Result<_, _>>()
                .map_err(|_| malformed("site"))?,
        });
    }
    Ok(accounts)
}

/// Enters an account, and its sites if they are not there.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    account: &Account,
    now: Timestamp,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO account (name, email, created_at) VALUES (?1, ?2, ?3)",
        params![
            account.name.as_str(),
            account.email.as_ref().map(Email::as_str),
            now.to_string()
        ],
    )?;
    put_at(transaction, transaction.last_insert_rowid(), account)
}

/// Changes an account where it differs, and tells in which fields it did.
pub(super) fn change(
    transaction: &Transaction<'_>,
    old: &Account,
    new: &Account,
) -> Result<Vec<&'static str>, Failure> {
    let mut changed = Vec::new();
    let id = known(transaction, &new.name)?;
    if old.email != new.email {
        let email = new.email.as_ref().map(Email::as_str);
        let query = "UPDATE account SET email = ?2 WHERE id = ?1";
        transaction.execute(query, params![id, email])?;
        changed.push("email");
    }
    if old.sites != new.sites {
        transaction.execute("DELETE FROM site_account WHERE account = ?1", [id])?;
        put_at(transaction, id, new)?;
        changed.push("sites");
    }
    Ok(changed)
}

fn put_at(transaction: &Transaction<'_>, id: i64, account: &Account) -> rusqlite::Result<()> {
    for site in &account.sites {
        let site = sites::ensure(transaction, site)?;
        let query = "INSERT OR IGNORE INTO site_account (site, account) VALUES (?1, ?2)";
        transaction.execute(query, [site, id])?;
    }
    Ok(())
}

fn known(transaction: &Transaction<'_>, name: &AccountName) -> Result<i64, Failure> {
    let query = "SELECT id FROM account WHERE name = ?1";
    let found = transaction.query_row(query, [name.as_str()], |row| row.get(0));
    let id = found.optional()?;
    Ok(id.ok_or_else(|| Error::AccountUnknown(name.clone()))?)
}

fn known_site(transaction: &Transaction<'_>, name: &SiteName) -> Result<i64, Failure> {
    let query = "SELECT id FROM site WHERE name = ?1";
    let found = transaction.query_row(query, [name.as_str()], |row| row.get(0));
    let id = found.optional()?;
    Ok(id.ok_or_else(|| Error::SiteUnknown(name.clone()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NewSite;

    #[test]
    fn several_look_after_several_sites() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let [a, b]: [SiteName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let account = |name: &str, sites: &[&SiteName]| Account {
            name: name.parse().unwrap(),
            email: "x@y.example".parse().ok(),
            sites: sites.iter().copied().cloned().collect(),
        };
        let (anna, ben) = (account("anna", &[&a]), account("ben", &[]));
        let now = Timestamp::UNIX_EPOCH;
        assert!(matches!(
            database.add_account(&anna, now),
            Err(Error::SiteUnknown(_))
        ));
        for site in [&a, &b] {
            database.add_site(&NewSite::new(site.clone())).unwrap();
        }
        database.add_account(&anna, now).unwrap();
        database.add_account(&ben, now).unwrap();
        assert!(matches!(
            database.add_account(&ben, now),
            Err(Error::AccountTaken(_))
        ));
        for site in [&a, &b, &b] {
            database.grant(&ben.name, site).unwrap();
        }
        assert_eq!(
            database.accounts().unwrap(),
            [anna.clone(), account("ben", &[&a, &b])]
        );
        assert_eq!(
            database.site(&a).unwrap().accounts,
            [anna.name.clone(), ben.name.clone()]
        );
        database.revoke(&ben.name, &a).unwrap();
        database.remove_account(&anna.name).unwrap();
        assert!(database.site(&a).unwrap().accounts.is_empty());
        assert_eq!(database.account(&ben.name).unwrap(), account("ben", &[&b]));
        assert!(matches!(
            database.grant(&anna.name, &b),
            Err(Error::AccountUnknown(_))
        ));
        database.remove_site(&b, crate::db::Mirrors::Kept).unwrap();
        assert!(database.account(&ben.name).unwrap().sites.is_empty());
    }
}
