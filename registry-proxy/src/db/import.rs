//! Taking over a whole network from a file, and giving it out again.
//!
//! A file is taken over in one transaction: all of it or nothing, whatever happens meanwhile. What is there
//! already keeps its number and all that crawls found out, and what is said again is not written again.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};
use serde::Serialize;

use super::hosts::{self, Unreadable};
use super::{Database, Error, Failure, accounts, sites};
use crate::network::{Account, Host, Import, NewHost, NewSite, Reason, Site, Switch};

/// What becomes of that which a file does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruning {
    /// It stays.
    Keep,
    /// It is removed.
    Prune,
}

/// Whether something is done, or only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It is done.
    Done,
    /// It is undone at the end.
    Undone,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Imported {
    /// To sites.
    pub sites: Tally,
    /// To accounts.
    pub accounts: Tally,
    /// To mirrors.
    pub mirrors: Tally,
}

/// What an import did to things of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// Those that were not there.
    pub added: Vec<String>,
    /// Those that were, and are other now.
    pub changed: Vec<Changed>,
    /// How many are as they were.
    pub unchanged: usize,
    /// Those that are gone.
    pub removed: Vec<String>,
}

/// Something that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// Which of its fields.
    pub fields: Vec<&'static str>,
}

impl Tally {
    fn note(&mut self, name: &str, fields: Vec<&'static str>) {
        if fields.is_empty() {
            self.unchanged += 1;
        } else {
            self.changed.push(Changed {
                name: name.to_owned(),
                fields,
            });
        }
    }
}

impl Database {
    /// Takes over what a file says.
    pub fn import(
        &mut self,
        import: &Import,
        pruning: Pruning,
        trial: Trial,
        now: Timestamp,
    ) -> Result<Imported, Error> {
        self.transact("import into", trial, |transaction| {
            let mut imported = Imported::default();
            let before = site_names(transaction)?;
            take_sites(transaction, import.sites(), &mut imported.sites)?;
            take_mirrors(transaction, import.mirrors(), &mut imported.mirrors)?;
            take_accounts(transaction, import.accounts(), now, &mut imported.accounts)?;
            // One that its last host has left may be gone.
            for site in import.sites() {
                sites::ensure(transaction, &site.name)?;
            }
            if pruning == Pruning::Prune {
                prune(transaction, import, &mut imported)?;
            }
            // A host brings its site with it.
            let after = site_names(transaction)?;
            imported.sites.added = after.difference(&before).cloned().collect();
            imported.sites.removed = before.difference(&after).cloned().collect();
            Ok(imported)
        })
    }

    /// All that was entered: what [`Database::import`] takes over.
    pub fn export(&mut self) -> Result<Import, Error> {
        // One transaction: all of it is of one moment.
        self.transact("export from", Trial::Undone, |transaction| {
            let (listed, unreadable) = hosts::entries(transaction)?;
            // A file that lacks a host would remove it where it is pruned.
            if let Some(row) = unreadable.first() {
                return Err(Error::from(row).into());
            }
            let mirrors = listed.iter().map(|listed| NewHost::from(&listed.host));
            Ok(Import::of(
                sites::all(transaction)?
                    .into_iter()
                    .map(NewSite::from)
                    .collect(),
                accounts::all(transaction)?,
                mirrors.collect(),
            ))
        })
    }
}

impl From<Site> for NewSite {
    fn from(site: Site) -> Self {
        let reason = |switch: &Switch| switch.reason().map(Reason::clipped);
        Self {
            disabled: reason(&site.admin),
            disabled_by_site: reason(&site.own),
            name: site.name,
            url: site.url,
        }
    }
}

fn site_names(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare_cached("SELECT name FROM site")?;
    let names = statement.query_map((), |row| hosts::text(row, 0))?;
    names.filter_map(Result::transpose).collect()
}

fn take_sites(
    transaction: &Transaction<'_>,
    wanted: &[NewSite],
    tally: &mut Tally,
) -> Result<(), Failure> {
    let known = sites::all(transaction)?;
    let known: HashMap<_, _> = known.iter().map(|site| (&site.name, site)).collect();
    for site in wanted {
        match known.get(&site.name) {
            None => sites::insert(transaction, site)?,
            Some(old) => tally.note(site.name.as_str(), sites::change(transaction, old, site)?),
        }
    }
    Ok(())
}

fn take_mirrors(
    transaction: &Transaction<'_>,
    wanted: &[NewHost],
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (listed, unreadable) = hosts::entries(transaction)?;
    let known: HashMap<&str, &Host> = listed
        .iter()
        .map(|listed| (listed.host.name.as_str(), &listed.host))
        .collect();
    let broken: HashMap<&str, &Unreadable> =
        unreadable.iter().map(|row| (&*row.name, row)).collect();
    for host in wanted {
        let name = host.name.as_str();
        if let Some(old) = known.get(name) {
            tally.note(name, hosts::change(transaction, old, host)?);
        } else if let Some(row) = broken.get(name) {
            hosts::rewrite(transaction, row.id, host)?;
            tally.note(name, vec![row.field]);
        } else {
            hosts::insert(transaction, host)?;
            tally.added.push(name.to_owned());
        }
    }
    Ok(())
}

fn take_accounts(
    transaction: &Transaction<'_>,
    wanted: &[Account],
    now: Timestamp,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let known = accounts::all(transaction)?;
    let known: HashMap<_, _> = known
        .iter()
        .map(|account| (&account.name, account))
        .collect();
    for account in wanted {
        let name = account.name.as_str();
        match known.get(&account.name) {
            None => {
                accounts::insert(transaction, account, now)?;
                tally.added.push(name.to_owned());
            }
            Some(old) => tally.note(name, accounts::change(transaction, old, account)?),
        }
    }
    Ok(())
}

/// Removes what the file does not name; a site stays as long as somebody in the file is at it.
fn prune(
    transaction: &Transaction<'_>,
    import: &Import,
    imported: &mut Imported,
) -> Result<(), Failure> {
    let named: HashSet<&str> = import
        .mirrors()
        .iter()
        .map(|host| host.name.as_str())
        .collect();
    for name in names(transaction, "SELECT name FROM host ORDER BY id")? {
        if !named.contains(&*name) && hosts::remove(transaction, &name)? {
            imported.mirrors.removed.push(name);
        }
    }
    let accounts = import.accounts().iter();
    let named: HashSet<&str> = accounts.map(|account| account.name.as_str()).collect();
    for name in names(transaction, "SELECT name FROM account ORDER BY id")? {
        if !named.contains(&*name) {
            transaction.execute("DELETE FROM account WHERE name = ?1", [&name])?;
            imported.accounts.removed.push(name);
        }
    }
    let named: HashSet<&str> = import
        .sites()
        .iter()
        .map(|site| site.name.as_str())
        .collect();
    let deserted =
        "SELECT name FROM site WHERE NOT EXISTS (SELECT 1 FROM host WHERE site = site.id)
                    AND NOT EXISTS (SELECT 1 FROM site_account WHERE site_account.site = site.id)";
    for name in names(transaction, deserted)? {
        if !named.contains(&*name) {
            transaction.execute("DELETE FROM site WHERE name = ?1", [&name])?;
        }
    }
    Ok(())
}

fn names(connection: &Connection, query: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(query)?;
    let names = statement.query_map((), |row| row.get(0))?;
    names.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::import::tests::network;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("x.db")).unwrap();
        (dir, database)
    }

    fn import(database: &mut Database, text: &str, pruning: Pruning) -> Imported {
        let import = text.parse().unwrap();
        database.import(&import, pruning, Trial::Done, NOW).unwrap()
    }

    fn is_idle(imported: &Imported) -> bool {
        [&imported.sites, &imported.accounts, &imported.mirrors]
            .iter()
            .all(|tally| {
                tally.added.is_empty() && tally.changed.is_empty() && tally.removed.is_empty()
            })
    }

    #[test]
    fn what_is_there_keeps_its_number_and_its_switches() {
        let (_dir, mut database) = open();
        let file = "[[mirror]]\nname = 'm'\nurls = ['https://m.example']\nsite = 's'\n\
                    [[mirror]]\nname = 'n'\nurls = ['https://n.example']\n\
                    [[account]]\nname = 'anna'\nsites = ['s', 't']\n";
        let first = import(&mut database, file, Pruning::Keep);
        assert_eq!(first.mirrors.added, ["m", "n"]);
        assert_eq!(first.sites.added, ["n", "s", "t"]);
        let name = "m".parse().unwrap();
        let id = database.host(&name).unwrap().host.id;
        database.set_disabled(&name, Some("moving")).unwrap();
        assert!(is_idle(&import(&mut database, file, Pruning::Prune)));
        let other = file.replace("site = 's'", "country = 'DE'\nnetblocks = ['192.0.2.0/24']");
        let second = import(&mut database, &other, Pruning::Keep);
        let fields = vec!["country", "netblocks"];
        let changed = [Changed {
            name: "m".into(),
            fields,
        }];
        assert_eq!(
            second.mirrors,
            Tally {
                changed: changed.into(),
                unchanged: 1,
                ..Tally::default()
            }
        );
        let host = database.host(&name).unwrap().host;
        assert_eq!(
            (host.id, host.site.as_str(), host.admin.reason()),
            (id, "s", Some("moving"))
        );
        let third = import(
            &mut database,
            "[[mirror]]\nname = 'n'\nurls = ['https://n.example']\n",
            Pruning::Prune,
        );
        assert_eq!(third.mirrors.removed, ["m"]);
        assert_eq!(third.accounts.removed, ["anna"]);
        assert_eq!(third.sites.removed, ["s", "t"]);
    }

    #[test]
    fn a_trial_changes_nothing() {
        let (_dir, mut database) = open();
        let file: Import = "[[mirror]]\nname = 'm'\nurls = ['https://m.example']\n"
            .parse()
            .unwrap();
        let tried = database
            .import(&file, Pruning::Keep, Trial::Undone, NOW)
            .unwrap();
        assert!(database.hosts().unwrap().is_empty() && database.sites().unwrap().is_empty());
        assert_eq!(
            tried,
            database
                .import(&file, Pruning::Keep, Trial::Done, NOW)
                .unwrap()
        );
    }

    #[test]
    fn what_fails_in_the_middle_leaves_nothing() {
        let (_dir, mut database) = open();
        database
            .connection
            .execute_batch("CREATE TRIGGER refuse BEFORE INSERT ON host WHEN new.name = 'n' BEGIN SELECT raise(ABORT, 'no'); END")
            .unwrap();
        let file = "[[mirror]]\nname = 'm'\nurls = ['https://m.example']\n[[mirror]]\nname = 'n'\nurls = ['https://m.example']\n";
        let failed = database.import(&file.parse().unwrap(), Pruning::Keep, Trial::Done, NOW);
        assert!(matches!(failed, Err(Error::Sql { .. })));
        assert!(database.hosts().unwrap().is_empty() && database.sites().unwrap().is_empty());
    }

    #[test]
    fn a_row_nobody_can_read_is_written_anew_and_cannot_be_exported() {
        let (_dir, mut database) = open();
        let file = "[[mirror]]\nname = 'm'\nurls = ['https://m.example']\n";
        import(&mut database, file, Pruning::Keep);
        database
            .connection
            .execute("UPDATE url SET url = 'x'", ())
            .unwrap();
        assert!(matches!(
            database.export(),
            Err(Error::Malformed { field: "URL", .. })
        ));
        let imported = import(&mut database, file, Pruning::Keep);
        assert_eq!(imported.mirrors.changed[0].fields, ["URL"]);
        assert_eq!(database.hosts().unwrap().len(), 1);
        assert!(is_idle(&import(&mut database, file, Pruning::Keep)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn an_export_is_what_there_is(first in network(), second in network()) {
            let (dir, mut database) = open();
            database.import(&first, Pruning::Keep, Trial::Done, NOW).unwrap();
            database.import(&second, Pruning::Keep, Trial::Done, NOW).unwrap();
            let other = Database::open_existing(&dir.path().join("x.db")).unwrap();
            let version = other.data_version().unwrap();
            let export = database.export().unwrap();
            let again = database.import(&export, Pruning::Prune, Trial::Done, NOW).unwrap();
            prop_assert!(is_idle(&again), "{again:?}");
            let again = database.import(&second, Pruning::Keep, Trial::Done, NOW).unwrap();
            prop_assert!(is_idle(&again), "{again:?}");
            prop_assert_eq!(other.data_version().unwrap(), version, "nothing was written");
            let (_copied, mut copy) = open();
            copy.import(&export, Pruning::Keep, Trial::Done, NOW).unwrap();
            prop_assert_eq!(copy.export().unwrap().to_string(), export.to_string());
        }
    }
}
