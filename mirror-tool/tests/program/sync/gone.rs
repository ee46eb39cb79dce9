//! What is gone over there: it has its grace here, then it goes, and nothing else does.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn gone_waits_for_the_grace() {
    let master = Master::new();
    let tags = ["1", "2", "3"];
    for tag in tags {
        master.publish(&[("a", tag, &[tag.as_bytes()]), ("b", tag, &[b"b"])]);
    }
    let options = || master.options("m", &[&master.url()]);
    let now = Timestamp::now();
    let at = |hours: i64| Options {
        now: Some(now + hours.hours()),
        ..options()
    };
    assert_outcome(&run(at(0)).await, Outcome::Followed);
    master.remove("a", |tag| tag == "1");
    let mirror = master.mirror("m");
    let report = run(at(1)).await;
    assert_outcome(&report, Outcome::Followed);
    assert!(report.kept > 0 && report.removed == 0, "{report:?}");
    assert!(blob(&mirror, digest(b"1")).exists());
    assert_sound(&mirror);
    // Another 23 hours.
    assert_outcome(&run(at(24)).await, Outcome::Unchanged);
    assert!(link(&mirror, "a", digest(b"1")).exists());
    let list = fs::read(mirror.join("state.json")).unwrap();
    let report = run(at(25)).await;
    assert_outcome(&report, Outcome::Unchanged);
    assert_eq!((report.removed, report.kept), (6, 0));
    assert!(!blob(&mirror, digest(b"1")).exists());
    assert_eq!(fs::read(mirror.join("state.json")).unwrap(), list);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_in_its_grace_is_not_fetched_again() {
    let master = Master::new();
    let large = noise(1, 100_000);
    master.publish(&[("a", "1", &[&large]), ("a", "2", &[b"2"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.remove("a", |tag| tag == "1");
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.publish(&[("a", "1", &[&large])]);
    let report = master.sync().await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(report.kept, 0);
    assert!(report.bytes < 10_000, "{report:?}");
    assert_sound(&master.mirror("m"));
    // Also not if all of it is looked at.
    let options = Options {
        check: true,
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options).await;
    assert_eq!((report.files, report.removed), (0, 0), "{report:?}");
    assert_eq!(content(&master.mirror("m")), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_gone_goes_with_all_its_files() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b/c", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.remove("b/c", |_| true);
    let mirror = master.mirror("m");
    let options = Options {
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(report.kept, 0);
    assert!(!mirror.join("repos/b").exists());
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_run_deletes_nothing() {
    let master = Master::new();
    for tag in ["1", "2"] {
        master.publish(&[("a", tag, &[tag.as_bytes()])]);
    }
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.remove("a", |tag| tag == "1");
    master.publish(&[("a", "3", &[b"three"])]);
    fs::write(blob(&master.tree(), digest(b"three")), b"eerht").unwrap();
    let mirror = master.mirror("m");
    let before = content(&mirror);
    let options = || Options {
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options()).await;
    assert_outcome(&report, Outcome::Refused);
    assert_eq!(report.exit(), Exit::Damage);
    assert_eq!(content(&mirror), before);
    assert_sound(&mirror);
    fs::write(blob(&master.tree(), digest(b"three")), b"three").unwrap();
    assert_outcome(&run(options()).await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_beside_is_said_and_done_next_time() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("a", "2", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    master.remove("a", |tag| tag == "1");
    let blocked = master.mirror("blocked");
    fs::write(&blocked, "").unwrap();
    let options = |directory: PathBuf| Options {
        static_v2: Some(directory),
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    for _ in 0..2 {
        let report = run(options(blocked.join("v2"))).await;
        assert_outcome(&report, Outcome::Partial);
        assert_eq!((report.exit(), report.removed), (Exit::Partial, 0));
        assert!(blob(&master.mirror("m"), digest(b"a")).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_lists_is_cleared_away() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    // As a run leaves it that was cut off on its way to another state, and one whose record is lost.
    let mirror = master.mirror("m");
    fs::create_dir_all(mirror.join("repos/x/y/blobs/sha256")).unwrap();
    fs::create_dir_all(mirror.join("pieces/sha256/00")).unwrap();
    let litter = digest(b"litter");
    fs::create_dir_all(blob(&mirror, litter).parent().unwrap()).unwrap();
    fs::write(blob(&mirror, litter), b"litter").unwrap();
    fs::write(mirror.join(".~tmp~/sync/gone"), "gone 1\n5 blo").unwrap();
    fs::write(mirror.join(".~tmp~/dirty"), "").unwrap();
    let report = master.sync().await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!((report.files, report.kept), (0, 1));
    assert_sound(&mirror);
    let options = Options {
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options).await;
    assert_outcome(&report, Outcome::Unchanged);
    assert_eq!(report.removed, 1);
    let paths = |root: &Path| {
        let output = std::process::Command::new("find")
            .args([".", "-path", "./.~tmp~", "-prune", "-o", "-print"])
            .current_dir(root)
            .output()
            .unwrap();
        let mut lines: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(paths(&mirror), paths(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_old_files_for_pulls_lead_to_stays_and_the_rest_goes() {
    let master = Master::new();
    for tag in ["1", "2"] {
        let own = |repo: &str| format!("{repo} {tag}").into_bytes();
        let (a, b) = (own("a"), own("b"));
        master.publish(&[("a", tag, &[&a, b"shared"]), ("b", tag, &[&b, b"shared"])]);
    }
    let options = || Options {
        static_v2: Some(master.mirror("m.v2")),
        grace: Duration::ZERO,
        ..master.options("m", &[&master.url()])
    };
    assert_outcome(&run(options()).await, Outcome::Followed);
    let (mirror, pulls) = (master.mirror("m"), master.mirror("m.v2"));
    for repo in ["a", "b"] {
        master.remove(repo, |tag| tag == "1");
    }
    // The files of `a` cannot be made anew.
    let made = pulls.join("a/_made");
    fs::remove_file(&made).unwrap();
    fs::create_dir(&made).unwrap();
    for outcome in [Outcome::Partial; 2] {
        let report = run(options()).await;
        assert_outcome(&report, outcome);
        assert_eq!(report.exit(), Exit::Partial);
        // A layer, a config and a manifest, each with its link.
        assert_eq!(report.kept, 6, "{report:?}");
        assert!(fs::read(pulls.join("a/_manifests/1.oim")).is_ok());
        let (a, b) = (digest(b"a 1"), digest(b"b 1"));
        assert!(blob(&mirror, a).exists() && link(&mirror, "a", a).exists());
        assert!(!blob(&mirror, b).exists() && !link(&mirror, "b", b).exists());
        assert!(!pulls.join("b/_manifests/1.oim").is_symlink());
        assert_sound(&mirror);
    }
    fs::remove_dir(&made).unwrap();
    let report = run(options()).await;
    assert_outcome(&report, Outcome::Unchanged);
    assert_eq!((report.removed, report.kept), (6, 0));
    assert!(!pulls.join("a/_manifests/1.oim").is_symlink());
    assert_eq!(content(&mirror), content(&master.tree()));
}
