//! Whether what a configuration asks for can be had, as far as that can be told without starting.
//!
//! Everything that is wrong is said, not only the first of it.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use oci_mirror::error_chain::chain;
use oci_mirror::http::server::ListenAddress;
use oci_mirror::http::server::tls::Tls;
use oci_mirror::tree::{Tree, TreePath};

use crate::authorities;
use crate::config::{Config, Spoken};
use crate::db::Database;
use crate::geo::{Geo, Sources};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// With this the front end does not start, or does not do what it shall.
    Wrong(String),
    /// It works, but hardly as it was meant.
    Odd(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(what) => write!(f, "error: {what}"),
            Self::Odd(what) => write!(f, "warning: {what}"),
        }
    }
}

/// Checks all that a configuration names. Blocks.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = addresses(config);
    findings.extend(connections(config));
    findings.extend(tree(&config.tree));
    findings.extend(database(&config.database));
    findings.extend(geo(config));
    for path in (config.crawler.authorities.iter()).chain(&config.notify.authorities) {
        let read = authorities::read(&[path]);
        findings.extend(read.err().map(|error| Finding::Wrong(chain(&error))));
    }
    if let Some(tls) = &config.tls
        && let Err(error) = Tls::load(&tls.files())
    {
        findings.push(Finding::Wrong(chain(&error)));
    }
    if config.proxy_protocol && config.trusted_proxies.is_empty() {
        let has_unix = |address: &ListenAddress| matches!(address, ListenAddress::Unix(_));
        if !config.listen.iter().any(has_unix) {
            let what =
                "proxy-protocol is on, but no proxy is trusted: nobody's header will be read";
            findings.push(Finding::Odd(what.to_owned()));
        }
    }
    findings
}

/// What is wrong with each of the geographic files.
fn geo(config: &Config) -> impl Iterator<Item = Finding> {
    let databases = config.geoip.iter().map(|path| Sources {
        databases: vec![path.clone()],
        ..Sources::default()
    });
    let prefixes = config.asn_prefixes.iter().map(|path| Sources {
        prefixes: vec![path.clone()],
        ..Sources::default()
    });
    let errors = databases.chain(prefixes);
    errors.filter_map(|source| {
        let error = Geo::open(&source).err()?;
        Some(Finding::Wrong(chain(&error)))
    })
}

fn addresses(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let listeners = config.listeners();
    let mut seen = HashSet::new();
    for (address, _) in &listeners {
        let port_is_chosen = matches!(address, ListenAddress::Tcp(address) if address.port() == 0);
        if !port_is_chosen && !seen.insert(address) {
            findings.push(Finding::Wrong(format!("{address} is listened on twice")));
        }
        if let ListenAddress::Unix(path) = address {
            let directory = path.parent().unwrap_or(Path::new("/"));
            if !directory.is_dir() {
                let what = format!(
                    "there is no directory {} for {address}",
                    directory.display()
                );
                findings.push(Finding::Wrong(what));
            }
        }
    }
    let tcp = || {
        listeners.iter().filter_map(|(address, _)| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        })
    };
    for every in tcp().filter(|address| address.ip().is_unspecified() && address.port() != 0) {
        for other in tcp().filter(|other| *other != every && includes(every, *other)) {
            findings.push(Finding::Wrong(format!(
                "{every} already listens on {other}: name one of them"
            )));
        }
    }
    let no_tls =
        config.tls.is_some() && !listeners.iter().any(|(_, spoken)| *spoken == Spoken::Tls);
    if no_tls {
        let what = "there is a section [tls], but no address to speak it on";
        findings.push(Finding::Wrong(what.to_owned()));
    }
    findings
}

/// Each listener holds a place for the connection it waits for: were there no more places than listeners, an open
/// connection at one could keep another from taking any.
fn connections(config: &Config) -> Option<Finding> {
    let (most, listeners) = (config.limits.connections.get(), config.listeners().len());
    (most <= listeners).then(|| {
        Finding::Wrong(format!(
            "limits.connections is {most}, but there are {listeners} addresses to listen on, and each of them takes \
             one: it must be more"
        ))
    })
}

/// Whether listening on every address takes another with it; every IPv6 address is every IPv4 one too.
fn includes(every: SocketAddr, other: SocketAddr) -> bool {
    every.port() == other.port()
        && match every.ip() {
            IpAddr::V6(_) => true,
            IpAddr::V4(_) => other.is_ipv4(),
        }
}

fn tree(path: &Path) -> Option<Finding> {
    let tree = match Tree::open(path) {
        Ok(tree) => tree,
        Err(error) => return Some(Finding::Wrong(chain(&error))),
    };
    match std::fs::symlink_metadata(TreePath::State.under(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Finding::Odd(format!(
            "{} is empty: nothing can be pulled until `mirror-tool export` has filled it",
            path.display()
        ))),
        _ => tree
            .state()
            .err()
            .map(|error| Finding::Wrong(chain(&error))),
    }
}

fn database(path: &Path) -> Option<Finding> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Finding::Odd(format!(
            "there is no database {}: every blob will be sent from the tree",
            path.display()
        ))),
        _ => Database::open_reader(path)
            .err()
            .map(|error| Finding::Wrong(chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn of_addresses(text: &str) -> Vec<String> {
        let config = Config::parse(text).unwrap();
        addresses(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_is_taken_once() {
        for (listen, expected) in [
            (
                r#"["127.0.0.1:1", "127.0.0.1:1"]"#,
                "error: 127.0.0.1:1 is listened on twice",
            ),
            (
                r#"["0.0.0.0:1", "[::]:1"]"#,
                "error: [::]:1 already listens on 0.0.0.0:1: name one of them",
            ),
            (
                r#"["0.0.0.0:1", "127.0.0.1:1"]"#,
                "error: 0.0.0.0:1 already listens on 127.0.0.1:1: name one of them",
            ),
            (
                r#"["unix:/no/such/s"]"#,
                "error: there is no directory /no/such for unix:/no/such/s",
            ),
        ] {
            assert_eq!(of_addresses(&format!("listen = {listen}")), [expected]);
        }
        for listen in [
            r#"["127.0.0.1:0", "127.0.0.1:0"]"#,
            r#"["0.0.0.0:1", "[::1]:1", "127.0.0.1:2"]"#,
            r#"["unix:/s"]"#,
        ] {
            assert_eq!(
                of_addresses(&format!("listen = {listen}")),
                [""; 0],
                "{listen}"
            );
        }
    }

    #[test]
    fn tls_needs_an_address_of_its_own_beside_unix_sockets() {
        let text = "listen = [\"unix:/s\"]\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
        assert_eq!(
            of_addresses(text),
            ["error: there is a section [tls], but no address to speak it on"]
        );
        assert_eq!(
            of_addresses(&format!("{text}listen = [\"[::]:443\"]")),
            [""; 0]
        );
    }

    #[test]
    fn there_are_more_connections_than_addresses() {
        for (most, is_enough) in [(1, false), (2, false), (3, true)] {
            let listen = r#"["127.0.0.1:0", "[::1]:0"]"#;
            let text = format!("listen = {listen}\n[limits]\nconnections = {most}\n");
            let finding = connections(&Config::parse(&text).unwrap());
            assert_eq!(finding.is_none(), is_enough, "{most} {finding:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("bad"), "bad").unwrap();
        std::fs::create_dir(path("tree")).unwrap();
        std::fs::write(path("tree/state.json"), "{").unwrap();
        let config = Config {
            listen: vec!["127.0.0.1:1".parse().unwrap(); 2],
            tree: path("tree"),
            database: path("bad"),
            geoip: vec![path("bad"), path("absent")],
            asn_prefixes: vec![path("bad"), path("absent")],
            tls: Some(crate::config::Tls {
                certificate: path("bad"),
                key: path("bad"),
                listen: None,
            }),
            crawler: crate::config::Crawler {
                authorities: vec![path("bad"), path("absent")],
                ..Default::default()
            },
            notify: crate::config::Notify {
                authorities: vec![path("absent")],
                ..Default::default()
            },
            ..Config::default()
        };
        let findings = check(&config);
        assert_eq!(findings.len(), 11, "{findings:#?}");
        assert!(
            findings
                .iter()
                .all(|finding| matches!(finding, Finding::Wrong(_)))
        );
    }

    #[test]
    fn an_empty_tree_and_no_database_are_odd_but_work() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            tree: dir.path().to_owned(),
            database: dir.path().join("mirrors.db"),
            ..Config::default()
        };
        let findings = check(&config);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(
            findings
                .iter()
                .all(|finding| matches!(finding, Finding::Odd(_)))
        );
    }
}
