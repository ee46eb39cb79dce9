//! Whom a mirror follows: the next one, an older one, a part, another tree.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn next_upstream_when_down() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let nobody = "http://127.0.0.1:1/tree";
    let report = run(master.options("m", &[nobody, &master.url()])).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(report.from, Some(master.url()));
    assert_eq!(report.notes.len(), 1, "{report:?}");
    assert_sound(&master.mirror("m"));
    let report = run(master.options("m", &[nobody])).await;
    assert_outcome(&report, Outcome::Failed);
    assert!(report.error.unwrap().contains("127.0.0.1:1"));
    // One that lies is no better than one that is down.
    let liar = Master::new();
    liar.publish(&[("a", "1", &[b"lie"])]);
    liar.publish(&[("a", "2", &[b"2"])]);
    fs::write(blob(&liar.tree(), digest(b"lie")), b"eil").unwrap();
    let report = run(master.options("n", &[&liar.url(), &master.url()])).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(content(&master.mirror("n")), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn never_back_to_an_older_serial() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    let older = master.options("older", &[&master.url()]);
    assert_outcome(&run(older).await, Outcome::Followed);
    master.publish(&[("a", "2", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let older = format!("file://{}", master.mirror("older").display());
    let before = snapshot(&master.mirror("m"));
    let report = run(master.options("m", &[&older])).await;
    assert_outcome(&report, Outcome::Failed);
    assert!(report.error.unwrap().contains("is behind"));
    // No matter if another one is not.
    let report = run(master.options("m", &[&older, &master.url()])).await;
    assert_outcome(&report, Outcome::Unchanged);
    assert_eq!(snapshot(&master.mirror("m")), before);
    let options = Options {
        accept_older: true,
        ..master.options("m", &[&older])
    };
    assert_outcome(&run(options).await, Outcome::Followed);
    let state = Tree::open(&master.mirror("m")).unwrap().state().unwrap();
    assert_eq!(state.serial, 1);
    assert_sound(&master.mirror("m"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_part_of_the_same_is_not_followed() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    let part = Options {
        filter: Filter {
            only: vec!["a".parse().unwrap()],
            except: Vec::new(),
        },
        ..master.options("part", &[&master.url()])
    };
    assert_outcome(&run(part).await, Outcome::Followed);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let part = format!("file://{}", master.mirror("part").display());
    let before = content(&master.mirror("m"));
    // While the one that was followed is down.
    let url = master.url();
    let both = || master.options("m", &[&url, &part]);
    let aside = master.mirror("aside");
    fs::rename(master.tree(), &aside).unwrap();
    for (check, outcome) in [(false, Outcome::Unchanged), (true, Outcome::Failed)] {
        let report = run(Options { check, ..both() }).await;
        assert_outcome(&report, outcome);
        assert_eq!(content(&master.mirror("m")), before);
    }
    fs::rename(&aside, master.tree()).unwrap();
    // One that stood in for it does not keep it out.
    let mut stood_in = master.options("n", &[&part]);
    assert_outcome(&run(stood_in.clone()).await, Outcome::Followed);
    stood_in.from = both().from;
    assert_outcome(&run(stood_in).await, Outcome::Followed);
    assert_eq!(content(&master.mirror("n")), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_matches_nothing_has_to_be_meant() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let before = content(&master.mirror("m"));
    let options = |accept_shrink| Options {
        filter: Filter {
            only: vec!["nobody*".parse().unwrap()],
            except: Vec::new(),
        },
        accept_shrink,
        ..master.options("m", &[&master.url()])
    };
    assert_outcome(&run(options(false)).await, Outcome::Refused);
    assert_eq!(content(&master.mirror("m")), before);
    assert_outcome(&run(options(true)).await, Outcome::Followed);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tree_is_not_taken_over_unasked() {
    let (master, other) = (Master::new(), Master::new());
    master.publish(&[("a", "1", &[b"a"])]);
    other.publish(&[("b", "1", &[b"b"]), ("c", "1", &[b"c"])]);
    let incoming = other.tree().join("upload/incoming");
    fs::create_dir_all(&incoming).unwrap();
    let before = content(&other.tree());
    let options = |accept_shrink| Options {
        tree: other.tree(),
        accept_shrink,
        ..master.options("m", &[&master.url()])
    };
    let report = run(options(false)).await;
    assert_outcome(&report, Outcome::Refused);
    let error = report.error.unwrap();
    assert!(error.contains("holds another tree"), "{error}");
    assert_eq!(content(&other.tree()), before);
    assert_outcome(&run(options(true)).await, Outcome::Followed);
    // What is no directory of a tree is left alone.
    assert!(incoming.exists());
}
