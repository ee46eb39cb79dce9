//! Hosts that are entered, changed and removed, and rows that were edited by hand.

use oci_mirror::size::ByteSize;

use super::*;
use crate::network::{Bandwidth, Health, Kind, NewSite, Switch, Visibility};

/// A host with every field set.
pub(crate) fn new_host(name: &str, url: &str) -> NewHost {
    NewHost {
        country: "DE".parse().ok(),
        coordinates: "49.4,8.7".parse().ok(),
        bandwidth: Bandwidth::from_mbit(1000).unwrap(),
        netblocks: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ],
        asns: vec!["AS64496".parse().unwrap()],
        peer_asns: vec!["AS64497".parse().unwrap()],
        visibility: Visibility::Private,
        repositories: vec!["fedora/*".parse().unwrap(), "a".parse().unwrap()],
        allowed_countries: vec!["DE".parse().unwrap()],
        denied_countries: vec!["FR".parse().unwrap()],
        site: "s".parse().ok(),
        kind: Kind::Cdn,
        max_blob_size: Some(ByteSize(1 << 30)),
        excluded_repositories: vec!["fedora/eln".parse().unwrap()],
        ..NewHost::new(name.parse().unwrap(), vec![url.parse().unwrap()])
    }
}

#[test]
fn what_is_entered_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let new = new_host("m", "https://m.example/t");
    let id = database.add_host(&new).unwrap();
    let listed = database.host(&new.name).unwrap();
    assert_eq!(
        listed,
        Listed {
            host: Host::new(id, new),
            crawled_at: None,
            checked_in_at: None,
        }
    );
}

#[test]
fn names_are_taken_once_and_unknown_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let host = new_host("m", "https://m.example/t");
    database.add_host(&host).unwrap();
    assert!(matches!(database.add_host(&host), Err(Error::NameTaken(name)) if name == "m"));
    let other = "other".parse().unwrap();
    assert!(matches!(
        database.set_disabled(&other, None),
        Err(Error::NameUnknown(_))
    ));
    assert!(matches!(
        database.remove_host(&other),
        Err(Error::NameUnknown(_))
    ));
    database
        .set_disabled(&host.name, Some("moving house"))
        .unwrap();
    let reason = Switch::from(Some("moving house".to_owned()));
    assert_eq!(database.host(&host.name).unwrap().host.admin, reason);
    database.remove_host(&host.name).unwrap();
    assert!(database.hosts().unwrap().is_empty());
}

#[test]
fn a_row_edited_by_hand_costs_its_host_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    for (edit, field) in [
        ("UPDATE url SET url = 'javascript:x' WHERE host = ?1", "URL"),
        (
            "UPDATE url SET url = CAST(x'ff' AS TEXT) WHERE host = ?1",
            "URL",
        ),
        (
            "UPDATE host SET country = 'Germany' WHERE id = ?1",
            "country",
        ),
        ("UPDATE host SET latitude = 1000 WHERE id = ?1", "place"),
        (
            "UPDATE host SET bandwidth = 1 << 40, name = 'a b' WHERE id = ?1",
            "name",
        ),
        (
            "UPDATE host SET failed_crawls = -1 WHERE id = ?1",
            "number of failed crawls",
        ),
        ("UPDATE host SET crawled_at = 'soon' WHERE id = ?1", "time"),
        (
            "UPDATE netblock SET cidr = 'x' WHERE host = ?1 AND cidr LIKE '1%'",
            "netblock",
        ),
        (
            "UPDATE asn SET asn = -1 WHERE host = ?1 AND peer",
            "AS number",
        ),
        (
            "UPDATE served_country SET country = '' WHERE host = ?1 AND allowed",
            "country",
        ),
        (
            "UPDATE repository SET glob = 'X' WHERE host = ?1 AND excluded",
            "repository pattern",
        ),
    ] {
        let bad = database
            .add_host(&new_host("bad", "https://bad.example"))
            .unwrap();
        let good = database
            .add_host(&new_host("good", "https://good.example"))
            .unwrap();
        let changed = database.connection.execute(edit, [bad.0]).unwrap();
        assert_eq!(changed, 1, "{edit}");
        let hosts = database.hosts().unwrap();
        assert_eq!(hosts.iter().map(|host| host.id).collect::<Vec<_>>(), [good]);
        let (_, unreadable) = database.entries().unwrap();
        assert_eq!((unreadable.len(), unreadable[0].field), (1, field));
        if field != "name" {
            let error = database
                .host(&"bad".parse().unwrap())
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("mirror bad") && error.contains(field),
                "{error}"
            );
        }
        database.connection.execute("DELETE FROM host", ()).unwrap();
    }
}

#[test]
fn only_a_name_that_is_there_is_called_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    database
        .connection
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON netblock BEGIN SELECT raise(ABORT, 'no'); END",
        )
        .unwrap();
    let error = database
        .add_host(&new_host("m", "https://m.example"))
        .unwrap_err();
    assert!(matches!(error, Error::Sql { .. }), "{error}");
    assert!(database.hosts().unwrap().is_empty() && database.sites().unwrap().is_empty());
}

#[test]
fn a_host_that_moved_is_looked_at_as_if_it_were_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let new = new_host("m", "https://m.example");
    let id = database.add_host(&new).unwrap();
    let other = database
        .add_host(&new_host("n", "https://n.example"))
        .unwrap();
    database
        .connection
        .execute_batch(
            "INSERT INTO presence (host, verified, missing, damaged, revision) VALUES (1, x'01', x'02', x'03', 4), (2, x'01', x'', x'', 9);
             INSERT INTO reading VALUES (1, '2026-01-01', x'');
             INSERT INTO evidence (host, digest, url, found, seen_at) VALUES (1, 'd', 'u', 'f', '2026-01-01T00:00:00Z');
             INSERT INTO repository_health VALUES (1, 'fedora/x', 4, 'gone', 1, 0, 1, 0, 0, '');
             UPDATE host SET crawled_at = '2026-01-01T00:00:00Z', finished_at = crawled_at, state_digest = 'd', quarantine = 'damaged'",
        )
        .unwrap();
    let host = database.host(&new.name).unwrap().host;
    assert_eq!(host.failing_repositories.len(), 1);
    assert_eq!(
        host.repository_failure(&"fedora/x".parse().unwrap()),
        Some("gone")
    );
    let faster = |host: NewHost| {
        Ok(NewHost {
            bandwidth: Bandwidth::default(),
            ..host
        })
    };
    assert_eq!(
        database.change_host(&new.name, faster).unwrap(),
        ["bandwidth"]
    );
    assert!(database.host(&new.name).unwrap().crawled_at.is_some());
    assert!(database.change_host(&new.name, faster).unwrap().is_empty());
    let moved = |host: NewHost| {
        let urls = vec!["https://elsewhere.example".parse().unwrap()];
        Ok(NewHost { urls, ..host })
    };
    assert_eq!(database.change_host(&new.name, moved).unwrap(), ["urls"]);
    let listed = database.host(&new.name).unwrap();
    assert_eq!((listed.host.id, listed.crawled_at), (id, None));
    assert_eq!(
        listed.host.health,
        Health::Quarantined {
            reason: "damaged".into()
        }
    );
    assert!(listed.host.failing_repositories.is_empty());
    let look = |query: &str| -> i64 {
        database
            .connection
            .query_row(query, (), |row| row.get(0))
            .unwrap()
    };
    assert_eq!(look("SELECT count(*) FROM reading"), 0);
    assert_eq!(look("SELECT count(*) FROM evidence"), 1);
    assert_eq!(look("SELECT revision FROM presence WHERE host = 1"), 10);
    assert_eq!(
        look("SELECT length(verified) + length(missing) FROM presence WHERE host = 1"),
        0
    );
    assert_eq!(
        look("SELECT length(verified) FROM presence WHERE host = 2"),
        1
    );
    assert!(
        database
            .listed()
            .unwrap()
            .iter()
            .any(|listed| listed.host.id == other && listed.crawled_at.is_some())
    );
}

#[test]
fn what_cannot_be_a_mirror_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let new = NewHost {
        kind: Kind::Server,
        ..new_host("m", "https://m.example")
    };
    database.add_host(&new).unwrap();
    let before = database.host(&new.name).unwrap();
    let cdn = |host: NewHost| {
        NewHost {
            kind: Kind::Cdn,
            ..host
        }
        .accepted()
    };
    let error = database.change_host(&new.name, cdn).unwrap_err();
    assert!(matches!(error, Error::Unacceptable { .. }));
    assert_eq!(database.host(&new.name).unwrap(), before);
}

#[test]
fn a_site_that_came_with_a_host_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let host = |name: &str, site: Option<&str>| NewHost {
        site: site.map(|site| site.parse().unwrap()),
        ..new_host(name, "https://m.example")
    };
    let names = |database: &Database| -> Vec<String> {
        let sites = database.sites().unwrap().into_iter();
        sites.map(|site| site.name.to_string()).collect()
    };
    database.add_host(&host("a", None)).unwrap();
    database.add_host(&host("b", Some("s"))).unwrap();
    database.add_host(&host("c", Some("s"))).unwrap();
    database
        .add_site(&NewSite {
            url: "https://t.example".parse().ok(),
            ..NewSite::new("t".parse().unwrap())
        })
        .unwrap();
    assert_eq!(names(&database), ["a", "s", "t"]);
    database.remove_host(&"b".parse().unwrap()).unwrap();
    assert_eq!(names(&database), ["a", "s", "t"]);
    database.remove_host(&"a".parse().unwrap()).unwrap();
    let to_t = |host: NewHost| {
        Ok(NewHost {
            site: "t".parse().ok(),
            ..host
        })
    };
    database.change_host(&"c".parse().unwrap(), to_t).unwrap();
    assert_eq!(names(&database), ["t"]);
    database.remove_host(&"c".parse().unwrap()).unwrap();
    assert_eq!(names(&database), ["t"], "somebody said something of it");
}
