//! Crawls recorded one after the other, and what is known then.

mod private;

use jiff::civil::Date;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Algorithm;
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::writer::Image;
use tempfile::TempDir;

use super::super::hosts::tests::new_host;
use super::*;
use crate::crawler::identity::Identity;

/// A catalog of one manifest and its config.
fn catalog(root: &std::path::Path) -> Catalog {
    let writer = TreeWriter::open(root).unwrap();
    let config = Algorithm::Sha256.digest(b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
    );
    let digest = Algorithm::Sha256.digest(manifest.as_bytes());
    writer.stage_bytes(config, b"{}").unwrap();
    writer.stage_bytes(digest, manifest.as_bytes()).unwrap();
    let root = Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64);
    let image = Image {
        repo: "a".parse().unwrap(),
        tag: "1".parse().ok(),
        root,
        reach: vec![config, digest],
        tag_referrers: None,
    };
    writer.publish(&[image]).unwrap();
    writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    Catalog::load(writer.tree(), None).unwrap()
}

fn crawl(outcome: Outcome) -> Crawl {
    Crawl::new(Timestamp::UNIX_EPOCH, outcome)
}

fn finished(scope: Scope, verdicts: Vec<(BlobId, Verdict)>, evidence: Vec<Evidence>) -> Crawl {
    crawl(Outcome::Finished {
        scope,
        verdicts,
        evidence,
    })
}

#[test]
fn a_host_passes_through_its_states() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(&dir.path().join("tree"));
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let new = new_host("m", "https://m.example/t");
    let id = database.add_host(&new).unwrap();
    let health = |database: &Database| database.host(&new.name).unwrap().host.health;
    let held = |database: &Database| {
        let hosts = database.hosts().unwrap();
        let presence = database.presence(&catalog, &hosts).unwrap();
        (0..2)
            .map(|blob| !presence.of(BlobId(blob)).is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(held(&database), [false, false]);

    let both = vec![(BlobId(0), Verdict::Read), (BlobId(1), Verdict::Read)];
    database
        .record_crawl(id, &finished(Scope::Whole, both.clone(), vec![]), &catalog)
        .unwrap();
    assert_eq!(
        (health(&database), held(&database)),
        (Health::Healthy, vec![true, true])
    );
    assert_eq!(
        database.known(id, &catalog).unwrap().read,
        [Some(Date::constant(1970, 1, 1)); 2]
    );

    let failed = crawl(Outcome::Failed("refused".to_owned()));
    let recorded = database.record_crawl(id, &failed, &catalog).unwrap();
    let failing = Health::Failing {
        crawls: 1,
        reason: "refused".to_owned(),
    };
    assert_eq!(health(&database), failing);
    let recorded = recorded.unwrap();
    assert_eq!(recorded.name, new.name);
    assert_eq!(
        (recorded.before, recorded.after),
        (Health::Healthy, failing)
    );

    let lost = vec![
        (BlobId(0), Verdict::Confirmed),
        (BlobId(1), Verdict::Missing),
    ];
    database
        .record_crawl(id, &finished(Scope::Whole, lost, vec![]), &catalog)
        .unwrap();
    assert_eq!(
        (health(&database), held(&database)),
        (Health::Healthy, vec![true, false])
    );

    let digest = catalog.blob(BlobId(1)).digest;
    let evidence = Evidence {
        digest,
        url: "https://m/x".to_owned(),
        expected: "sense".to_owned(),
        found: "nonsense".to_owned(),
        identity: Identity::Crawler,
    };
    let damaged = vec![(BlobId(0), Verdict::Read), (BlobId(1), Verdict::Damaged)];
    database
        .record_crawl(
            id,
            &finished(Scope::Whole, damaged, vec![evidence.clone()]),
            &catalog,
        )
        .unwrap();
    assert!(matches!(health(&database), Health::Quarantined { .. }));
    assert_eq!(database.evidence(&new.name).unwrap()[0].1, evidence);

    database
        .record_crawl(id, &finished(Scope::Part, both.clone(), vec![]), &catalog)
        .unwrap();
    assert!(
        matches!(health(&database), Health::Quarantined { .. }),
        "only a whole crawl clears it"
    );
    database
        .record_crawl(id, &finished(Scope::Whole, both, vec![]), &catalog)
        .unwrap();
    assert_eq!(health(&database), Health::Healthy);

    database.remove_host(&new.name).unwrap();
    assert_eq!(database.record_crawl(id, &failed, &catalog).unwrap(), None);
}

/// A database with one mirror of the tree.
fn with_mirror() -> (TempDir, Catalog, Database, HostId) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(&dir.path().join("tree"));
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let id = database
        .add_host(&new_host("m", "https://m.example/t"))
        .unwrap();
    (dir, catalog, database, id)
}

#[test]
fn a_blob_is_offered_once_bytes_of_it_were_read() {
    let (_dir, catalog, mut database, id) = with_mirror();
    for (verdict, verified) in [
        (Verdict::Present, false),
        (Verdict::Sampled, true),
        (Verdict::Confirmed, true),
        (Verdict::Unknown, false),
    ] {
        let found = finished(Scope::Whole, vec![(BlobId(1), verdict)], vec![]);
        database.record_crawl(id, &found, &catalog).unwrap();
        let known = database.known(id, &catalog).unwrap();
        assert_eq!(known.verified.contains(1), verified, "{verdict:?}");
        assert!(known.missing.is_empty() && known.damaged.is_empty());
        assert_eq!(known.read, [None; 2]);
    }
}

#[test]
fn a_part_crawl_leaves_the_rest_and_the_revision_grows_with_each_change_only() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(&dir.path().join("tree"));
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let hosts = ["one", "other"].map(|name| {
        let new = new_host(name, &format!("https://{name}.example/t"));
        database.add_host(&new).unwrap()
    });
    let revision = |database: &Database, host: HostId| -> i64 {
        let query = "SELECT revision FROM presence WHERE host = ?1";
        let revision = database
            .connection
            .query_row(query, [host.0], |row| row.get(0));
        revision.unwrap()
    };
    let both = vec![(BlobId(0), Verdict::Read), (BlobId(1), Verdict::Sampled)];
    let whole = finished(Scope::Whole, both, vec![]);
    let nothing = finished(Scope::Part, vec![], vec![]);
    let again = finished(Scope::Part, vec![(BlobId(1), Verdict::Confirmed)], vec![]);
    let gone = finished(Scope::Part, vec![(BlobId(1), Verdict::Missing)], vec![]);
    for (host, crawl, verified, expected) in [
        (0, &whole, 2, 1),
        (1, &whole, 2, 2),
        (0, &nothing, 2, 1),
        (0, &again, 2, 1),
        (0, &gone, 1, 3),
        (0, &nothing, 1, 3),
        (0, &whole, 2, 4),
    ] {
        database.record_crawl(hosts[host], crawl, &catalog).unwrap();
        assert_eq!(database.verified_count(hosts[host]).unwrap(), verified);
        assert_eq!(revision(&database, hosts[host]), expected, "{crawl:?}");
    }
    assert_eq!(database.known(hosts[0], &catalog).unwrap().missing.len(), 0);
}

#[test]
fn only_a_crawl_that_went_through_counts_as_one_and_history_has_an_end() {
    let (_dir, catalog, mut database, id) = with_mirror();
    let state = TreeState {
        digest: Algorithm::Sha256.digest(b"state"),
        serial: Some(7),
    };
    let through = Crawl {
        state: Some(state),
        ..finished(Scope::Part, vec![], vec![])
    };
    let cut_off = Crawl {
        is_complete: false,
        at: Timestamp::MAX,
        state: None,
        ..through.clone()
    };
    let failed = crawl(Outcome::Failed("refused".to_owned()));
    database.record_crawl(id, &failed, &catalog).unwrap();
    assert_eq!(database.known(id, &catalog).unwrap().finished_at, None);
    for crawl in [&through, &cut_off, &failed] {
        database.record_crawl(id, crawl, &catalog).unwrap();
        let known = database.known(id, &catalog).unwrap();
        assert_eq!(known.finished_at, Some(Timestamp::UNIX_EPOCH));
        assert_eq!(known.state, Some(state.digest));
    }
    for _ in 0..210 {
        database.record_crawl(id, &failed, &catalog).unwrap();
    }
    let query = "SELECT count(*), max(id) FROM crawl";
    let counts = database.connection.query_row(query, (), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    });
    assert_eq!(counts.unwrap(), (200, 214));
}

#[test]
fn a_host_that_has_lost_what_was_damaged_has_mended_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(&dir.path().join("tree"));
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let new = new_host("m", "https://m.example/t");
    let id = database.add_host(&new).unwrap();
    let told = |first, second| vec![(BlobId(0), first), (BlobId(1), second)];
    let evidence = Evidence {
        digest: catalog.blob(BlobId(1)).digest,
        url: "https://m/x".to_owned(),
        expected: "sense".to_owned(),
        found: "nonsense".to_owned(),
        identity: Identity::Crawler,
    };
    let damaged = told(Verdict::Read, Verdict::Damaged);
    let gone = told(Verdict::Missing, Verdict::Missing);
    let mended = told(Verdict::Read, Verdict::Read);
    for (verdicts, evidence, is_quarantined) in [
        (damaged, vec![evidence], true),
        (gone, vec![], true),
        (mended, vec![], false),
    ] {
        let crawl = finished(Scope::Whole, verdicts, evidence);
        database.record_crawl(id, &crawl, &catalog).unwrap();
        let health = database.host(&new.name).unwrap().host.health;
        assert_eq!(
            matches!(health, Health::Quarantined { .. }),
            is_quarantined,
            "{health:?}"
        );
    }
}

#[test]
fn what_comes_back_was_not_read() {
    let (_dir, catalog, mut database, id) = with_mirror();
    let day = Some(Date::constant(1970, 1, 1));
    for (scope, verdict, read) in [
        (Scope::Part, Verdict::Read, day),
        (Scope::Part, Verdict::Confirmed, day),
        (Scope::Part, Verdict::Unknown, None),
        (Scope::Part, Verdict::Sampled, None),
        (Scope::Part, Verdict::Read, day),
        (Scope::Part, Verdict::Missing, None),
        (Scope::Part, Verdict::Sampled, None),
        (Scope::Whole, Verdict::Read, day),
    ] {
        let both = vec![(BlobId(0), Verdict::Read), (BlobId(1), verdict)];
        let found = finished(scope, both, vec![]);
        database.record_crawl(id, &found, &catalog).unwrap();
        let known = database.known(id, &catalog).unwrap();
        assert_eq!(known.read, [day, read], "{verdict:?}");
    }
}

#[test]
fn what_was_found_at_another_server_is_not_held_of_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(&dir.path().join("tree"));
    let mut database = Database::open(&dir.path().join("x.db")).unwrap();
    let new = new_host("m", "https://m.example/t");
    let id = database.add_host(&new).unwrap();
    for (base, is_recorded) in [
        ("https://old.example/t", false),
        ("https://m.example/t", true),
    ] {
        let crawl = Crawl {
            base: base.parse().ok(),
            ..finished(Scope::Whole, vec![(BlobId(0), Verdict::Read)], vec![])
        };
        let recorded = database.record_crawl(id, &crawl, &catalog).unwrap();
        assert_eq!(recorded.is_some(), is_recorded, "{base}");
        let known = database.known(id, &catalog).unwrap();
        assert_eq!(known.verified.contains(0), is_recorded, "{base}");
    }
}
