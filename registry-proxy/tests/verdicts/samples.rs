//! Bytes that are read of a mirror, whole or in pieces.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use oci_mirror::tree::TreePath;
use registry_proxy::crawler::Depth;
use registry_proxy::crawler::check::{Answer, NO_RANGES};
use registry_proxy::crawler::identity::Identity;
use registry_proxy::crawler::odds;
use registry_proxy::db::Verdict;

use super::{BIG, MIB, Scene, mirror, verdict, with_pieces};
use crate::bench::{BLOBS, Bench, large_layer, path};
use crate::hostile_mirror::{Fault, HostileMirror};

#[tokio::test]
async fn a_large_blob_is_verified_by_a_piece_and_small_ones_by_all_their_bytes() {
    let (bench, layer) = with_pieces();
    let hostile = bench.mirror("m").await;
    let scene = Scene::new(&bench);
    let mut mirror = mirror();
    let found = scene.sample_with(&mut mirror).await;
    assert_eq!(
        (&found.failure, found.evidence.len()),
        (&None, 0),
        "{found:?}"
    );
    assert_eq!(found.verdicts.len(), scene.present.len());
    for (id, verdict) in &found.verdicts {
        let expected = if *id == scene.id(&layer) {
            Verdict::Sampled
        } else {
            Verdict::Read
        };
        assert_eq!(*verdict, expected);
    }
    assert_eq!(found.sampled.blobs, BLOBS + 3);
    let small = bench.bytes() - BIG as u64;
    assert!(
        [MIB, 5].contains(&(mirror.bytes - small)),
        "{}",
        mirror.bytes
    );
    let parts = hostile.take_asked();
    let parts = parts
        .iter()
        .filter(|asked| !asked.field("range").is_empty());
    assert_eq!(parts.count(), 1);
}

#[tokio::test]
async fn what_is_no_part_of_the_file_is_told_as_it_is() {
    for (fault, expected, why) in [
        (Fault::NoRanges, Verdict::Unknown, NO_RANGES),
        (Fault::OtherContentRange, Verdict::Unknown, "Content-Range"),
        (Fault::Multipart, Verdict::Unknown, "without Content-Range"),
        (
            Fault::OtherPart,
            Verdict::Damaged,
            "a piece with the digest",
        ),
        (Fault::OnlyHead, Verdict::Damaged, "a piece with the digest"),
        (Fault::Longer, Verdict::Damaged, "Content-Range"),
        (Fault::EndlessPart, Verdict::Damaged, "more than"),
        (Fault::Encoded("br"), Verdict::Damaged, "Content-Encoding"),
        (Fault::Status(404), Verdict::Missing, ""),
        (Fault::Status(416), Verdict::Unknown, "416"),
        (Fault::Truncated, Verdict::Unknown, "body"),
        (Fault::HugeHeader, Verdict::Unknown, "too large"),
        (Fault::Close, Verdict::Unknown, "connection"),
    ] {
        let (bench, layer) = with_pieces();
        let hostile = bench.mirror("m").await;
        hostile.fail(path(&layer), fault.clone());
        let found = Scene::of(&bench, &layer).sample().await;
        assert_eq!(verdict(&found), expected, "{fault:?}: {found:?}");
        let said = match expected {
            Verdict::Damaged => {
                assert_eq!(found.failure, None, "{fault:?}");
                assert_eq!(found.sampled.blobs, 1, "{fault:?}");
                found.evidence[0].found.clone()
            }
            Verdict::Unknown => {
                assert!(found.evidence.is_empty(), "{fault:?}");
                assert_eq!(found.sampled.blobs, 0, "{fault:?}");
                found.failure.unwrap()
            }
            _ => String::new(),
        };
        assert!(said.contains(why), "{fault:?}: {said}");
        // What came beyond is what fits into the buffers on the way.
        assert!(hostile.sent() < 32 << 20, "{fault:?}: {}", hostile.sent());
    }
}

#[tokio::test]
async fn a_tarpit_is_left_in_time_at_the_head_in_the_body_and_in_a_piece() {
    let faults = [Fault::Silent, Fault::Stall, Fault::Trickle];
    let cases = faults
        .into_iter()
        .flat_map(|fault| [(fault.clone(), true), (fault, false)]);
    let began = Instant::now();
    let trying = cases.map(|(fault, big)| async move {
        let (bench, piece) = with_pieces();
        let layer = if big { piece } else { large_layer() };
        let hostile = bench.mirror("m").await;
        hostile.fail(path(&layer), fault.clone());
        let found = Scene::of(&bench, &layer).sample().await;
        assert_eq!(verdict(&found), Verdict::Unknown, "{fault:?}: {found:?}");
        assert!(found.failure.is_some());
    });
    join_all(trying).await;
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn damage_in_one_piece_is_found_by_reading_that_piece() {
    let (bench, layer) = with_pieces();
    let hostile = bench.mirror("m").await;
    hostile.fail(path(&layer), Fault::FlippedAt(1 << 20));
    let mut mirror = mirror();
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let scene = Scene {
            seed,
            ..Scene::of(&bench, &layer)
        };
        let found = scene.sample_with(&mut mirror).await;
        if verdict(&found) == Verdict::Damaged {
            let expected = &found.evidence[0].expected;
            let said = format!(
                "1048576 bytes that are piece 2 of 4 of {BIG} bytes with the digest {layer}"
            );
            assert_eq!(*expected, said);
            seen.insert("damaged");
        } else {
            assert_eq!(verdict(&found), Verdict::Sampled);
            seen.insert("right");
        }
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[tokio::test]
async fn a_file_without_end_is_read_little_further_than_it_may_be() {
    let bench = Bench::new();
    let hostile = bench.mirror("m").await;
    hostile.fail_everywhere(Fault::Endless);
    let url = format!("{}/{}", hostile.url(), TreePath::State);
    let answer = mirror().fetch(&url, 64 << 10).await;
    assert!(matches!(answer, Err(Answer::Damaged(_))), "{answer:?}");
    assert!(hostile.sent() < 32 << 20, "{}", hostile.sent());
    hostile.heal();
    let state = mirror().fetch(&url, 64 << 10).await.unwrap();
    let there = std::fs::read(bench.tree().join(TreePath::State.to_string())).unwrap();
    assert_eq!(state, there);
    let answer = mirror()
        .fetch(&format!("{}/nothing", hostile.url()), 10)
        .await;
    assert_eq!(answer, Err(Answer::Missing));
}

#[tokio::test]
async fn five_redirects_are_followed_and_six_are_not() {
    let (bench, layer) = with_pieces();
    let hostile = bench.mirror("m").await;
    for (first, expected) in [(2, Verdict::Sampled), (1, Verdict::Unknown)] {
        hostile.heal();
        hostile.fail(path(&layer), Fault::Redirect(format!("/{first}")));
        for hop in first..5 {
            hostile.fail(format!("/{hop}"), Fault::Redirect(format!("/{}", hop + 1)));
        }
        // The same file by another path would redirect again: it is served by another mirror.
        let other = HostileMirror::start(&bench.tree()).await;
        hostile.fail(
            "/5",
            Fault::Redirect(format!("{}{}", other.url(), path(&layer))),
        );
        let mut mirror = mirror();
        let found = Scene::of(&bench, &layer).sample_with(&mut mirror).await;
        assert_eq!(verdict(&found), expected, "{found:?}");
        assert_eq!(mirror.cost().requests, 6, "each is a request");
        if expected == Verdict::Unknown {
            assert_eq!(found.failure.as_deref(), Some("too many redirects"));
        }
    }
}

#[tokio::test]
async fn a_mirror_that_finds_everything_with_the_right_length_is_found_out() {
    let bench = Bench::new();
    let hostile = bench.mirror("m").await;
    hostile.fail_everywhere(Fault::OnlyHead);
    let layer = large_layer();
    let answer = mirror()
        .look(
            &format!("{}{}", hostile.url(), path(&layer)),
            bench.size(&layer),
            &layer,
            u64::MAX,
        )
        .await;
    assert_eq!(answer, Answer::There, "that is all that looking tells");
    let found = Scene::new(&bench).sample().await;
    assert!(found.verdicts.iter().all(|told| told.1 == Verdict::Damaged));
    assert_eq!(found.evidence.len() as u64, BLOBS);
}

#[tokio::test]
async fn a_mirror_that_is_right_for_the_crawler_and_wrong_for_browsers_is_found_out() {
    let bench = Bench::new();
    let hostile = bench.mirror("m").await;
    hostile.fail_everywhere(Fault::FlippedForBrowsers);
    for depth in [Depth::Full, Depth::Incremental] {
        let scene = Scene {
            depth,
            ..Scene::new(&bench)
        };
        let found = scene.sample().await;
        assert!(!found.evidence.is_empty(), "{depth:?}: {found:?}");
        let as_browser =
            |piece: &&registry_proxy::db::Evidence| piece.identity == Identity::Browser;
        assert!(found.evidence.iter().all(|piece| as_browser(&piece)));
    }
    // A blob that was wrong is right only if it is for everybody.
    let layer = large_layer();
    let mut scene = Scene::of(&bench, &layer);
    let id = scene.id(&layer);
    scene.first = vec![id];
    scene.known.damaged.insert(id.0);
    assert_eq!(verdict(&scene.sample().await), Verdict::Damaged);
    hostile.heal();
    hostile.take_asked();
    assert_eq!(verdict(&scene.sample().await), Verdict::Read);
    let agents: BTreeSet<String> = hostile
        .take_asked()
        .iter()
        .map(|asked| asked.field("user-agent").to_owned())
        .collect();
    assert_eq!(agents.len(), 2, "{agents:?}");
}

#[tokio::test]
async fn what_was_damaged_and_still_is_is_all_that_is_asked_for() {
    let bench = Bench::new();
    let hostile = bench.mirror("m").await;
    let layer = large_layer();
    hostile.fail(path(&layer), Fault::FlippedByte);
    let mut scene = Scene::new(&bench);
    let id = scene.id(&layer);
    scene.first = vec![id];
    scene.known.damaged.insert(id.0);
    scene.budget = 0;
    assert_eq!(verdict(&scene.sample().await), Verdict::Damaged);
    assert_eq!(hostile.take_asked().len(), 1);
}

#[tokio::test]
async fn a_blob_without_hashes_of_its_pieces_is_read_whole() {
    let (bench, layer) = with_pieces();
    let _hostile = bench.mirror("m").await;
    let pieces = bench.tree().join(TreePath::Pieces(layer).to_string());
    for content in [None, Some(&b"cut"[..])] {
        std::fs::remove_file(&pieces).ok();
        if let Some(content) = content {
            std::fs::write(&pieces, content).unwrap();
        }
        let found = Scene::of(&bench, &layer).sample().await;
        assert_eq!(verdict(&found), Verdict::Read, "{content:?}: {found:?}");
    }
}

#[tokio::test]
async fn no_more_is_read_than_may_be() {
    let (bench, _) = with_pieces();
    let _hostile = bench.mirror("m").await;
    for budget in [0, 1000, 100_000, 500_000] {
        for seed in 0..5 {
            let scene = Scene {
                budget,
                seed,
                ..Scene::new(&bench)
            };
            let mut mirror = mirror();
            let found = scene.sample_with(&mut mirror).await;
            assert!(!found.verdicts.is_empty(), "at least one is read");
            assert!(
                mirror.bytes <= budget || found.verdicts.len() == 1,
                "{} of {budget}",
                mirror.bytes
            );
        }
    }
}

#[tokio::test]
async fn times_of_another_century_and_a_clock_gone_wrong_say_nothing() {
    let (bench, _) = with_pieces();
    let hostile = bench.mirror("m").await;
    hostile.fail_everywhere(Fault::AbsurdTimes);
    let found = Scene::new(&bench).sample().await;
    assert_eq!(found.sampled.blobs, BLOBS + 3, "{found:?}");
    assert!(found.evidence.is_empty());
}

/// Right today, wrong tomorrow: one blob in a hundred, and each time a tenth of them is sampled.
#[tokio::test]
async fn damage_that_comes_later_is_found_as_soon_as_the_odds_say() {
    let bench = Bench::new();
    let layers: Vec<String> = (0..90).map(|number| format!("layer {number:04}")).collect();
    let layers: Vec<&[u8]> = layers.iter().map(String::as_bytes).collect();
    bench.publish("many", &layers);
    let hostile = bench.mirror("m").await;
    let mut scene = Scene::new(&bench);
    assert_eq!(scene.present.len(), 100);
    // All of it was read once, and was right.
    scene.known.verified = scene.present.iter().map(|id| id.0).collect();
    assert!(scene.sample().await.evidence.is_empty());
    // Large ones do not fit, and so are not among those sampled.
    let tiny = |id: &oci_mirror::tree::catalog::BlobId| scene.catalog.blob(*id).size == 10;
    let tiny: Vec<_> = scene.present.iter().copied().filter(tiny).collect();
    assert_eq!(tiny.len(), 90);
    scene.present = tiny;
    scene.budget = 9 * 10;
    let mut mirror = mirror();
    let mut crawls = 0;
    let mut expected = 0.0;
    for trial in 0..20 {
        let wrong = scene
            .catalog
            .blob(scene.present[usize::try_from(trial).unwrap() * 4])
            .digest;
        hostile.heal();
        hostile.fail(path(&wrong), Fault::FlippedByte);
        let mut undetected = 0.0;
        for turn in 0.. {
            scene.seed = trial * 1000 + turn;
            let found = scene.sample_with(&mut mirror).await;
            crawls += 1;
            undetected += found.sampled.undetected;
            expected += odds::detected(found.sampled.undetected);
            if !found.evidence.is_empty() {
                assert_eq!(found.evidence[0].digest, wrong);
                break;
            }
            assert!(
                odds::detected(undetected) < 0.9999,
                "trial {trial}: not found"
            );
        }
    }
    // Twenty were found in as many crawls as let one expect about twenty.
    assert!(
        (10.0..40.0).contains(&expected),
        "{expected} in {crawls} crawls"
    );
}
