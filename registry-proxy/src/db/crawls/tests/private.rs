//! Private mirrors, which are crawled and say themselves what they have.

use super::*;
use crate::db::{CheckIn, Way};
use crate::network::{NewHost, Visibility};

/// Long after now: a check-in is never older than when it is written.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(100_000_000_000 + second).unwrap()
}

fn new_private() -> NewHost {
    NewHost {
        visibility: Visibility::Private,
        ..new_host("m", "https://m.example/t")
    }
}

/// Has the host say something of both blobs.
fn check_in(
    database: &mut Database,
    (id, at): (HostId, Timestamp),
    [first, second]: [Verdict; 2],
    catalog: &Catalog,
) {
    let entry = CheckIn {
        at,
        way: Way::Report,
        serial: Some(3),
        state: Some(Algorithm::Sha256.digest(b"its own")),
        repositories: None,
        carried: None,
        blobs: 1,
        damaged: None,
    };
    let verdicts = vec![(BlobId(0), first), (BlobId(1), second)];
    let recorded = database.check_in(id, &entry, verdicts, catalog).unwrap();
    assert!(recorded.is_some());
}

fn evidence(catalog: &Catalog) -> Evidence {
    Evidence {
        digest: catalog.blob(BlobId(1)).digest,
        url: "https://m/x".to_owned(),
        expected: "sense".to_owned(),
        found: "nonsense".to_owned(),
        identity: Identity::Crawler,
    }
}

#[test]
fn of_a_crawl_in_which_a_mirror_has_spoken_nothing_counts_but_damage() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(&dir.path().join("tree"));
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let new = new_private();
    let id = database.add_host(&new).unwrap();
    check_in(
        &mut database,
        (id, at(10)),
        [Verdict::Confirmed; 2],
        &catalog,
    );
    let before = database.known(id, &catalog).unwrap();
    let verdicts = vec![(BlobId(0), Verdict::Missing), (BlobId(1), Verdict::Damaged)];
    let found = Crawl {
        began: at(5),
        at: at(20),
        state: Some(TreeState {
            digest: Algorithm::Sha256.digest(b"older"),
            serial: Some(2),
        }),
        ..finished(Scope::Whole, verdicts, vec![evidence(&catalog)])
    };
    let recorded = database.record_crawl(id, &found, &catalog).unwrap();
    assert!(matches!(
        recorded.unwrap().after,
        Health::Quarantined { .. }
    ));
    let known = database.known(id, &catalog).unwrap();
    assert_eq!(known.verified, [0].into());
    assert_eq!(known.damaged, [1].into());
    assert!(known.missing.is_empty());
    assert_eq!((known.state, known.finished_at), (before.state, None));

    // Whoever began afterwards knows better.
    let found = Crawl {
        began: at(11),
        ..found
    };
    database.record_crawl(id, &found, &catalog).unwrap();
    let known = database.known(id, &catalog).unwrap();
    assert_eq!(known.missing, [0].into());
    assert_eq!(known.finished_at, Some(at(20)));
}

#[test]
fn what_was_read_before_a_mirror_fell_silent_does_not_end_its_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(&dir.path().join("tree"));
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let new = new_private();
    let id = database.add_host(&new).unwrap();
    let is_quarantined = |database: &Database| {
        let health = database.host(&new.name).unwrap().host.health;
        matches!(health, Health::Quarantined { .. })
    };
    let damaged = vec![(BlobId(0), Verdict::Read), (BlobId(1), Verdict::Damaged)];
    // With the first number, all that it has was read; with the second, whatever was read is enough.
    for (hour, samples) in [(1_i64, 20), (2, 690)] {
        let at = |second| at(3600 * hour + second);
        let found = finished(Scope::Whole, damaged.clone(), vec![evidence(&catalog)]);
        database.record_crawl(id, &found, &catalog).unwrap();
        let looked = [Verdict::Read, Verdict::Damaged];
        check_in(&mut database, (id, at(0)), looked, &catalog);
        let query = "UPDATE host SET clean_samples = ?1";
        database.connection.execute(query, [samples]).unwrap();

        let silent = database.expire_check_ins(at(1)).unwrap();
        assert_eq!(silent, [new.name.to_string()]);
        let without = [Verdict::Confirmed, Verdict::Missing];
        check_in(&mut database, (id, at(2)), without, &catalog);
        assert!(is_quarantined(&database), "{samples}");
        let looked = [Verdict::Read, Verdict::Missing];
        check_in(&mut database, (id, at(3)), looked, &catalog);
        assert!(!is_quarantined(&database), "{samples}");
    }
}
