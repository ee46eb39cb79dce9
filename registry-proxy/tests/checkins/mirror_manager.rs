//! Check-ins as with MirrorManager.

use crate::hall::{Hall, private};

#[tokio::test]
async fn what_was_there_to_be_synced_counts_at_the_next_call() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let directories = ["", "repos/alpine/blobs/sha256"];
    let first = hall.called("m", &token, &directories).await;
    assert!(
        first.contains("containers: directories updated: 2"),
        "{first}"
    );
    assert!(first.contains("from the next time on"), "{first}");
    assert!(hall.held("m").is_empty());

    // What comes to the tree meanwhile it may have or not.
    let alpine = hall.bench.blobs_of("alpine");
    hall.bench.publish("later", &[b"later"]);
    hall.catch_up().await;
    let more = [
        "repos/alpine/blobs/sha256",
        "containers/repos/later/blobs/sha256",
    ];
    let second = hall.called("m", &token, &more).await;
    assert!(second.contains("checked in successful"), "{second}");
    assert_eq!(hall.held("m"), alpine);
    hall.called("m", &token, &more).await;
    let later = hall.bench.blobs_of("later");
    assert_eq!(hall.held("m"), alpine.union(&later).copied().collect());
    // Another part of it, told by itself, says nothing of these.
    let other = hall.called("m", &token, &["blobs"]).await;
    assert!(!other.contains("next time"), "{other}");
    assert_eq!(hall.held("m"), alpine.union(&later).copied().collect());
}

#[tokio::test]
async fn parts_are_told_one_by_one() {
    let hall = Hall::open().await;
    let token = hall.enter(&private("m"));
    let [debian, alpine] = ["debian/base", "alpine"].map(|name| hall.bench.blobs_of(name));
    let parts = [
        "repos/debian/base/blobs/sha256",
        "repos/alpine/blobs/sha256",
    ];
    for part in parts {
        hall.called("m", &token, &[part]).await;
        let turn = hall.bench.database().turns().unwrap().remove(0);
        assert!(!turn.checks_in(), "nothing is known by it yet");
    }
    hall.called("m", &token, &parts[..1]).await;
    assert_eq!(hall.held("m"), debian);
    hall.called("m", &token, &parts[1..]).await;
    assert_eq!(hall.held("m"), debian.union(&alpine).copied().collect());
}
