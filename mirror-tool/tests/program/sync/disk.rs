//! A disk that is full, or that may not be written to.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_changes_nothing_and_what_had_its_grace_makes_room() {
    let master = Master::new();
    let small = Master::new();
    let disk = SmallDisk::mount(small.dir.path().to_owned(), "12m");
    for tag in ["1", "2"] {
        let large = noise(u64::from(tag.as_bytes()[0]), 5 * MIB);
        master.publish(&[("a", tag, &[&large])]);
    }
    let options = |hours: i64| Options {
        now: Some(Timestamp::now() + hours.hours()),
        ..small.options("m", &[&master.url()])
    };
    assert_outcome(&run(options(0)).await, Outcome::Followed);
    let mirror = small.mirror("m");
    master.remove("a", |tag| tag == "1");
    assert_outcome(&run(options(1)).await, Outcome::Followed);
    master.publish(&[("a", "3", &[&noise(3, 5 * MIB)])]);
    let before = content(&mirror);
    let report = run(options(2)).await;
    assert_outcome(&report, Outcome::Failed);
    assert_eq!(content(&mirror), before);
    let report = run(options(26)).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    drop(disk);
}
