//! A network as a file: what `export` writes and `import` reads.
//!
//! The file is TOML with a table for each site, account and mirror. Whatever it says was written by people or
//! by programs of theirs: it is bounded, and what is wrong is told with the line where it stands.
//!
//! ```
//! use registry_proxy::network::Import;
//! let import: Import = "[[mirror]]\nname = 'm'\nurls = ['https://m.example']\n".parse().unwrap();
//! assert_eq!(import.mirrors()[0].name.as_str(), "m");
//! assert_eq!(import.to_string().parse(), Ok(import));
//! ```

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Spanned, Value};

use super::entry::MAX_ENTRIES;
use super::reason::is_hidden;
use super::{Account, NewHost, NewSite, Unacceptable};

/// Largest file read, in bytes.
pub const MAX_LEN: usize = 16 << 20;

/// The most sites, accounts or mirrors of a file.
pub const MAX_TABLES: usize = 100_000;

/// Sites, accounts and mirrors, each name once.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Import {
    #[serde(rename = "site", skip_serializing_if = "Vec::is_empty")]
    sites: Vec<NewSite>,
    #[serde(rename = "account", skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<Account>,
    #[serde(rename = "mirror", skip_serializing_if = "Vec::is_empty")]
    mirrors: Vec<NewHost>,
}

impl Import {
    /// What a database holds, which has each name once.
    pub(crate) fn of(sites: Vec<NewSite>, accounts: Vec<Account>, mirrors: Vec<NewHost>) -> Self {
        Self {
            sites,
            accounts,
            mirrors,
        }
    }

    /// The sites it defines.
    pub fn sites(&self) -> &[NewSite] {
        &self.sites
    }

    /// The accounts.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The mirrors.
    pub fn mirrors(&self) -> &[NewHost] {
        &self.mirrors
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tables(f, "site", &self.sites)?;
        write_tables(f, "account", &self.accounts)?;
        write_tables(f, "mirror", &self.mirrors)
    }
}

/// One table for each entry, the name first and each field in a line: lines are what people compare.
fn write_tables(f: &mut fmt::Formatter<'_>, kind: &str, entries: &[impl Serialize]) -> fmt::Result {
    for entry in entries {
        let Ok(Value::Table(fields)) = Value::try_from(entry) else {
            return Err(fmt::Error);
        };
        writeln!(f, "[[{kind}]]")?;
        let (name, others): (Vec<_>, Vec<_>) = fields.iter().partition(|(key, _)| *key == "name");
        for (key, value) in name.into_iter().chain(others) {
            write!(f, "{key} = ")?;
            write_value(f, value)?;
            writeln!(f)?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn write_value(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::String(text) => write_text(f, text),
        Value::Array(values) => {
            f.write_str("[")?;
            for (position, value) in values.iter().enumerate() {
                if position > 0 {
                    f.write_str(", ")?;
                }
                write_value(f, value)?;
            }
            f.write_str("]")
        }
        other => write!(f, "{other}"),
    }
}

/// A basic string in which nothing controls a terminal: what is written is looked at, too.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            hidden if is_hidden(hidden) => write!(f, "\\U{:08X}", u32::from(hidden))?,
            shown => f.write_char(shown)?,
        }
    }
    f.write_char('"')
}

/// A file before its tables are looked at one by one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    site: Vec<Spanned<Value>>,
    #[serde(default)]
    account: Vec<Spanned<Value>>,
    #[serde(default)]
    mirror: Vec<Spanned<Value>>,
}

impl FromStr for Import {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_LEN {
            return Err(Error::TooLong);
        }
        let tables: Tables = toml::from_str(text).map_err(|error| Error::Syntax {
            line: error.span().map_or(0, |span| line(text, span.start)),
            why: in_one_line(error.message()),
        })?;
        let mut sites = Entries::new("site", text);
        sites.read(tables.site, |site: &NewSite| site.name.as_str())?;
        let mut accounts = Entries::new("account", text);
        accounts.read(tables.account, |account: &Account| account.name.as_str())?;
        let mut mirrors = Entries::new("mirror", text);
        mirrors.read(tables.mirror, |host: &NewHost| host.name.as_str())?;
        Ok(Self {
            sites: sites.finish(Ok)?,
            accounts: accounts.finish(|mut account: Account| {
                account.sites.sort();
                account.sites.dedup();
                if account.sites.len() > MAX_ENTRIES {
                    return Err(Unacceptable::TooMany {
                        list: "sites",
                        most: MAX_ENTRIES,
                    });
                }
                Ok(account)
            })?,
            mirrors: mirrors.finish(NewHost::accepted)?,
        })
    }
}

/// The tables of one kind, with the line each begins at.
struct Entries<'a, T> {
    what: &'static str,
    text: &'a str,
    /// How far lines have been counted: offset, and line there.
    counted: (usize, usize),
    found: Vec<(usize, Box<str>, T)>,
}

impl<'a, T: DeserializeOwned> Entries<'a, T> {
    fn new(what: &'static str, text: &'a str) -> Self {
        Self {
            what,
            text,
            counted: (0, 1),
            found: Vec::new(),
        }
    }

    fn read(
        &mut self,
        tables: Vec<Spanned<Value>>,
        name_of: impl Fn(&T) -> &str,
    ) -> Result<(), Error> {
        if tables.len() > MAX_TABLES {
            return Err(Error::TooMany { what: self.what });
        }
        let mut names = HashSet::new();
        for table in tables {
            let line = self.line(table.span().start);
            let value = table.into_inner();
            let title = value.get("name").and_then(Value::as_str);
            let title: Box<str> = Excerpt(title.unwrap_or_default()).into();
            let wrong = |why: String| Error::Entry {
                what: self.what,
                line,
                name: title.clone(),
                why: in_one_line(&why),
            };
            let entry: T = value
                .try_into()
                .map_err(|error: toml::de::Error| wrong(error.to_string()))?;
            let name: Box<str> = name_of(&entry).into();
            if !names.insert(name.clone()) {
                return Err(wrong("it is there twice".to_owned()));
            }
            self.found.push((line, name, entry));
        }
        Ok(())
    }

    fn finish<U>(self, accept: impl Fn(T) -> Result<U, Unacceptable>) -> Result<Vec<U>, Error> {
        let what = self.what;
        let accepted = self.found.into_iter().map(|(line, name, entry)| {
            accept(entry).map_err(|why| Error::Entry {
                what,
                line,
                name: Excerpt(&name).into(),
                why: why.to_string().into(),
            })
        });
        accepted.collect()
    }

    /// The line of an offset. Tables come in their order, so no line is counted twice.
    fn line(&mut self, offset: usize) -> usize {
        let (from, lines) = self.counted;
        let Some(between) = self.text.get(from..offset) else {
            return line(self.text, offset);
        };
        let lines = lines + between.matches('\n').count();
        self.counted = (offset, lines);
        lines
    }
}

/// What the parser says, which quotes the file.
fn in_one_line(why: &str) -> Box<str> {
    let mut line = String::new();
    for character in why.trim_end().replace('\n', ", ").chars().take(MAX_WHY) {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.into()
}

/// How much of it is told, in characters.
const MAX_WHY: usize = 500;

fn line(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or_default();
    1 + before.matches('\n').count()
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is larger than any network.
    #[error("it has more than {} MiB", MAX_LEN >> 20)]
    TooLong,
    /// It is not TOML, or has tables that are unknown.
    #[error("line {line}: {why}")]
    Syntax {
        /// Where.
        line: usize,
        /// What is wrong there.
        why: Box<str>,
    },
    /// There are more tables than any network needs.
    #[error("it has more than {MAX_TABLES} tables of the kind {what}")]
    TooMany {
        /// Of what kind.
        what: &'static str,
    },
    /// One of its tables is wrong.
    #[error("line {line}: {what} {name}: {why}")]
    Entry {
        /// What it is about.
        what: &'static str,
        /// Where the table begins.
        line: usize,
        /// The name in it.
        name: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::{Kind, Reason};

    #[track_caller]
    fn wrong(text: &str) -> String {
        text.parse::<Import>().unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_name() {
        let good = "[[mirror]]\nname = 'a'\nurls = ['https://a.example']\n\n";
        for (rest, told) in [
            (
                "[[mirror]]\nname = 'b'\nurls = ['ftp://b.example']\n",
                "line 5: mirror `b`: ",
            ),
            (
                "[[mirror]]\nname = 'b'\nurls = []\n",
                "line 5: mirror `b`: it has no URL",
            ),
            (
                "[[mirror]]\nname = 'b'\nurls = ['https://b.example']\ncolour = 'red'\n",
                "unknown field `colour`",
            ),
            (
                "[[mirror]]\nname = 'a'\nurls = ['https://b.example']\n",
                "line 5: mirror `a`: it is there twice",
            ),
            (
                "[[mirror]]\nname = 'b'\nurls = ['https://b.example']\nkind = 'cdn'\nvisibility = 'private'\n",
                "a CDN cannot be private",
            ),
            (
                "[[mirror]]\nname = 'b'\nurls = ['https://b.example']\ncountry = 'Germany'\n",
                "in `country`",
            ),
            ("[[site]]\nname = 's'\nurl = 'x'\n", "line 5: site `s`: "),
            (
                "[[account]]\nname = 'x'\nemail = 'nobody'\n",
                "line 5: account `x`: ",
            ),
            (
                "[[mirror]]\nname = 'b'\nurls = ['https://b.example']\n\"a\\u001b[2J\" = 1\n",
                "a\\u{1b}[2J",
            ),
            ("[[mirrors]]\nname = 'b'\n", "line 5: "),
            ("name = = 1\n", "line 5: "),
            (
                "[[mirror]]\nurls = ['https://b.example']\n",
                "missing field `name`",
            ),
        ] {
            let error = wrong(&format!("{good}{rest}"));
            assert!(error.contains(told), "{error}");
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert_eq!(wrong(&" ".repeat(MAX_LEN + 1)), "it has more than 16 MiB");
        let nested = format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(wrong(&nested).starts_with("line 1: "));
        let many = format!("mirror = [{}]", "1,".repeat(MAX_TABLES + 1));
        assert!(
            wrong(&many).contains("more than 100000"),
            "{}",
            wrong(&many)
        );
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-c][a-z0-9.]{0,3}"
    }

    fn reason() -> impl Strategy<Value = Option<Reason>> {
        proptest::option::of(
            "\\PC{0,8}|[\\x00-\\x1f\\x7f-\\x9f\u{202e}'\"\\\\]{0,4}"
                .prop_map(|text| text.parse().unwrap()),
        )
    }

    prop_compose! {
        fn mirror()(
            name in name(),
            urls in prop::collection::vec("(http|https|rsync)://[a-z]{1,5}(/[a-z]{1,3})?", 1..4),
            country in prop::option::of("[A-Z]{2}"),
            place in prop::option::of((-90.0..90.0, -180.0..180.0)),
            bandwidth in 1_u64..1_000_000,
            netblocks in prop::collection::vec("10\\.[0-9]\\.0\\.0/(8|16|24)|2001:db8:[0-9]::/48", 0..4),
            asns in prop::collection::vec("AS[1-9]", 0..4),
            peers in prop::collection::vec("AS[1-9]", 0..4),
            (private, cdn) in (any::<bool>(), any::<bool>()),
            (globs, excluded) in (prop::collection::vec("[a-z*/]{1,5}", 0..4), prop::collection::vec("[a-z*/]{1,5}", 0..4)),
            (allowed, denied) in (prop::collection::vec("[A-M][A-Z]", 0..4), prop::collection::vec("[N-Z][A-Z]", 0..4)),
            site in prop::option::of(self::name()),
            size in prop::option::of(1..i64::MAX.unsigned_abs()),
            (disabled, disabled_by_site) in (reason(), reason()),
        ) -> NewHost {
            fn all<T: FromStr<Err: fmt::Debug>>(texts: &[String]) -> Vec<T> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            }
            let cdn = cdn && !private;
            NewHost {
                country: country.map(|country| country.parse().unwrap()),
                coordinates: place.and_then(|(latitude, longitude)| crate::geo::Coordinates::new(latitude, longitude)),
                bandwidth: crate::network::Bandwidth::from_mbit(bandwidth).unwrap(),
                netblocks: all(&netblocks),
                asns: all(&asns),
                peer_asns: all(&peers),
                visibility: if private { crate::network::Visibility::Private } else { crate::network::Visibility::Public },
                repositories: all(&globs),
                allowed_countries: all(&allowed),
                denied_countries: all(&denied),
                site: site.map(|site| site.parse().unwrap()),
                kind: if cdn { Kind::Cdn } else { Kind::Server },
                max_blob_size: size.map(oci_mirror::size::ByteSize),
                excluded_repositories: all(&excluded),
                disabled,
                disabled_by_site,
                ..NewHost::new(name.parse().unwrap(), all(&urls))
            }.accepted().unwrap()
        }
    }

    prop_compose! {
        fn site()(name in name(), url in prop::option::of("https://[a-z]{1,5}"), disabled in reason(), disabled_by_site in reason()) -> NewSite {
            NewSite {
                url: url.map(|url| url.parse().unwrap()),
                disabled,
                disabled_by_site,
                ..NewSite::new(name.parse().unwrap())
            }
        }
    }

    prop_compose! {
        fn account()(name in name(), email in prop::option::of("[a-z]{1,3}@[a-z]{1,3}"), sites in prop::collection::btree_set(self::name(), 0..3)) -> Account {
            let sites: std::collections::BTreeSet<crate::network::SiteName> = sites.iter().map(|site| site.parse().unwrap()).collect();
            Account {
                name: name.parse().unwrap(),
                email: email.map(|email| email.parse().unwrap()),
                sites: sites.into_iter().collect(),
            }
        }
    }

    prop_compose! {
        /// Any network.
        pub(crate) fn network()(
            mut sites in prop::collection::vec(site(), 0..4),
            mut accounts in prop::collection::vec(account(), 0..4),
            mut mirrors in prop::collection::vec(mirror(), 0..5),
        ) -> Import {
            sites.sort_by(|a, b| a.name.cmp(&b.name));
            sites.dedup_by(|a, b| a.name == b.name);
            accounts.sort_by(|a, b| a.name.cmp(&b.name));
            accounts.dedup_by(|a, b| a.name == b.name);
            mirrors.sort_by(|a, b| a.name.cmp(&b.name));
            mirrors.dedup_by(|a, b| a.name == b.name);
            Import::of(sites, accounts, mirrors)
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(import in network()) {
            let text = import.to_string();
            prop_assert!(!text.chars().any(|c| is_hidden(c) && c != '\n'));
            prop_assert_eq!(text.parse(), Ok(import), "{}", text);
        }

        #[test]
        fn nothing_makes_it_panic(text in "(\\[\\[(mirror|site|account)\\]\\]|name|urls|=|\\[|\\]|'https://a'|'a'|\n| |\"|\\PC){0,40}") {
            let _ = text.parse::<Import>();
        }
    }
}
