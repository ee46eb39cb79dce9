//! What has left its source, what `--prune` takes out of a tree, and what it must leave there.

use std::collections::BTreeSet;
use std::time::Duration;

use mirror_tool::exit::Exit;
use mirror_tool::export::{Options, Report};
use oci_mirror::digest::Digest;
use oci_mirror::tree::Tree;
use regex::Regex;

use crate::bench::{Bench, snapshot};
use crate::fake_registry::Fault;
use crate::selection::{artifact, at, digest_tag, image_of, referrers, run, set, tags};

fn pruning(bench: &Bench) -> Options {
    let mut options = bench.options(&["/a"]);
    options.orders[0].prune = true;
    options
}

/// What `a` has without a tag.
fn untagged(bench: &Bench) -> BTreeSet<Digest> {
    let tree = Tree::open(&bench.tree()).unwrap();
    let index = tree.index(&"a".parse().unwrap()).unwrap();
    let entries = index.entries().iter();
    let untagged = entries.filter(|entry| entry.ref_name().is_none());
    untagged.map(|entry| entry.digest).collect()
}

fn errors(report: &Report) -> Vec<String> {
    let failures = report.failures();
    failures.filter_map(|image| image.error.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_by_digest_keeps_its_signatures() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    bench.registry.image("a", Some("1"), &[b"one"]);
    let image = bench.registry.image("a", None, &[b"by digest"]);
    let index = bench.registry.index("a", None, &[(image, "linux/amd64")]);
    let sbom = artifact(&bench, "a", None, "sbom", &image);
    let signature = artifact(&bench, "a", None, "signature", &sbom);
    let cosign = digest_tag(&index, ".sig");
    bench.registry.image("a", Some(&cosign), &[b"cosign"]);
    let by_digest = format!("/a@{index}");
    bench.sound(&bench.export(&["/a", &by_digest]).await);
    let mut options = pruning(&bench);
    options.orders[0].selection.tags = Some(Regex::new("^1$").unwrap());
    let report = run(options).await;
    bench.sound(&report);
    assert_eq!(report.removed, []);
    assert_eq!(referrers(&bench, "a", &image), [sbom].into());
    assert_eq!(referrers(&bench, "a", &sbom), [signature].into());
    assert_eq!(tags(&bench, "a"), set(&["1", &cosign]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_stays_because_the_next_is_too_young_keeps_its_signatures() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let old = image_of(&bench, "a", "1", "2026-06-01T00:00:00Z");
    let signature = artifact(&bench, "a", None, "signature", &old);
    let cosign = digest_tag(&old, ".sig");
    bench.registry.image("a", Some(&cosign), &[b"cosign"]);
    bench.sound(&bench.export(&["/a"]).await);
    image_of(&bench, "a", "1", "2026-06-15T11:30:00Z");
    let mut options = at(pruning(&bench));
    let selection = &mut options.orders[0].selection;
    selection.min_age = Some(Duration::from_secs(24 * 60 * 60));
    selection.tags = Some(Regex::new("^1$").unwrap());
    let report = run(options).await;
    bench.sound(&report);
    assert_eq!(report.totals.skipped, 1);
    assert_eq!(report.removed, []);
    assert_eq!(referrers(&bench, "a", &old), [signature].into());
    assert_eq!(tags(&bench, "a"), set(&["1", &cosign]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_no_longer_lists_referrers_does_not_say_that_they_are_gone() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    bench.registry.image("a", Some("1"), &[b"one"]);
    let image = bench.registry.image("a", Some("2"), &[b"two"]);
    let signature = artifact(&bench, "a", None, "signature", &image);
    bench.sound(&bench.export(&["/a"]).await);
    bench.registry.set_referrers(false);
    let report = run(pruning(&bench)).await;
    bench.sound(&report);
    assert_eq!(report.removed, []);
    assert_eq!(referrers(&bench, "a", &image), [signature].into());
    // With the image its signature goes all the same.
    bench.registry.untag("a", "2");
    let report = run(pruning(&bench)).await;
    bench.sound(&report);
    assert_eq!(report.removed.len(), 2, "{report:#?}");
    assert_eq!(untagged(&bench), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn most_signatures_do_not_leave_without_being_confirmed() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"one"]);
    let signatures: Vec<_> = (0..12)
        .map(|number| artifact(&bench, "a", None, &format!("s{number}"), &image))
        .collect();
    bench.sound(&bench.export(&["/a"]).await);
    for signature in &signatures {
        bench.registry.delete(signature);
    }
    let report = run(pruning(&bench)).await;
    assert_eq!(report.removed, []);
    let errors = errors(&report);
    assert!(errors[0].contains("12 of the 12"), "{errors:?}");
    let mut options = pruning(&bench);
    options.accept_shrink = true;
    let report = run(options).await;
    bench.sound(&report);
    assert_eq!(report.totals.removed, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_referrers_out_takes_those_of_wanted_images_away() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"one"]);
    let signature = artifact(&bench, "a", None, "signature", &image);
    bench.sound(&bench.export(&["/a"]).await);
    let mut options = pruning(&bench);
    options.orders[0].referrers = false;
    let report = run(options).await;
    bench.sound(&report);
    assert_eq!(untagged(&bench), BTreeSet::new());
    assert_eq!(report.removed[0].digest, signature);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_by_digest_stays_when_a_tag_that_was_there_first_moves() {
    let bench = Bench::new().await;
    let image = bench.registry.image("a", Some("1"), &[b"one"]);
    bench.sound(&bench.export(&["/a"]).await);
    let by_digest = format!("/a@{image}");
    bench.sound(&bench.export(&[&by_digest]).await);
    bench.registry.image("a", Some("1"), &[b"another"]);
    bench.sound(&run(pruning(&bench)).await);
    assert_eq!(untagged(&bench), [image].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_whose_age_cannot_be_read_is_not_taken_for_an_old_one() {
    let bench = Bench::new().await;
    for (tag, created) in [
        ("quiet", "2026-01-01T00:00:00Z"),
        ("loud", "2026-03-01T00:00:00Z"),
        ("calm", "2026-02-01T00:00:00Z"),
    ] {
        image_of(&bench, "a", tag, created);
    }
    let latest = || {
        let mut options = pruning(&bench);
        options.orders[0].selection.latest = Some(1.try_into().unwrap());
        options
    };
    bench.sound(&run(latest()).await);
    assert_eq!(tags(&bench, "a"), set(&["loud"]));
    let denied = Fault::Status(403, vec![]);
    bench.registry.fail("/v2/a/manifests/loud", denied);
    let report = run(latest()).await;
    assert_eq!(report.removed, []);
    assert_eq!(tags(&bench, "a"), set(&["calm", "loud"]));
    bench.registry.heal();
    bench.sound(&run(latest()).await);
    assert_eq!(tags(&bench, "a"), set(&["loud"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_asks_for_confirmation_when_the_real_one_does() {
    let bench = Bench::new().await;
    let image = |tag: &str| bench.registry.image("a", Some(tag), &[tag.as_bytes()]);
    for number in 0..12 {
        image(&number.to_string());
    }
    bench.sound(&bench.export(&["/a"]).await);
    for number in 0..10 {
        bench.registry.untag("a", &number.to_string());
    }
    for number in 20..40 {
        image(&number.to_string());
    }
    let mut dry = pruning(&bench);
    dry.dry_run = true;
    let dry = run(dry).await;
    let real = run(pruning(&bench)).await;
    assert_eq!(errors(&dry), errors(&real));
    assert_eq!(dry.removed, real.removed);
    assert!(errors(&real)[0].contains("10 of the 12"), "{real:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_the_source_leaves_the_tree() {
    let bench = Bench::new().await;
    let gone = bench.registry.image("a", Some("1"), &[b"one"]);
    bench.registry.image("a", Some("2"), &[b"two"]);
    let digest = bench.registry.image("a", None, &[b"by digest"]);
    let signature = digest_tag(&gone, ".sig");
    bench.registry.image("a", Some(&signature), &[b"signature"]);
    bench.registry.image("b", Some("1"), &[b"other"]);
    let by_digest = format!("/a@{digest}");
    bench.sound(&bench.export(&["/a", "/b", &by_digest]).await);

    bench.registry.untag("a", "1");
    let pruning = |dry_run| {
        let mut options = bench.options(&["/a"]);
        options.orders[0].prune = true;
        options.orders[0].selection.tags = Some(Regex::new(r"^\d").unwrap());
        options.dry_run = dry_run;
        options
    };
    let before = snapshot(&bench.tree());
    let dry = run(pruning(true)).await;
    assert!(before == snapshot(&bench.tree()), "a dry run wrote");
    let report = run(pruning(false)).await;
    bench.sound(&report);
    assert_eq!(dry.removed, report.removed);
    assert!(dry.dry_run && report.removed.iter().all(|it| it.bytes > 0));
    let removed: Vec<_> = report
        .removed
        .iter()
        .map(|removed| removed.tag.clone().unwrap())
        .collect();
    assert_eq!(removed, ["1", &signature]);
    assert_eq!(report.totals.removed, 2);
    assert_eq!(tags(&bench, "a"), set(&["2"]));
    assert_eq!(tags(&bench, "b"), set(&["1"]));
    assert!(bench.holds(gone), "content goes with `prune` only");
    let tree = Tree::open(&bench.tree()).unwrap();
    let entries = tree.index(&"a".parse().unwrap()).unwrap();
    assert!(entries.entries().iter().any(|entry| entry.digest == digest));

    let before = snapshot(&bench.tree());
    let report = run(pruning(false)).await;
    assert_eq!(report.removed, []);
    assert!(before == snapshot(&bench.tree()), "a file was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_has_left_the_source_leaves_with_it() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"one"]);
    let kept = artifact(&bench, "a", None, "kept", &image);
    let revoked = artifact(&bench, "a", None, "revoked", &image);
    bench.sound(&bench.export(&["/a"]).await);
    assert_eq!(referrers(&bench, "a", &image), [kept, revoked].into());
    bench.registry.delete(&revoked);
    let mut options = bench.options(&["/a"]);
    options.orders[0].prune = true;
    let report = run(options).await;
    bench.sound(&report);
    assert_eq!(report.removed.len(), 1, "{report:#?}");
    assert_eq!(referrers(&bench, "a", &image), [kept].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_in_trouble_removes_nothing() {
    let bench = Bench::new().await;
    for number in 0..30 {
        let tag = format!("{number}");
        bench.registry.image("a", Some(&tag), &[tag.as_bytes()]);
    }
    bench.sound(&bench.export(&["/a"]).await);
    let before = snapshot(&bench.tree());
    let pruning = |accept_shrink| {
        let mut options = bench.options(&["/a"]);
        options.orders[0].prune = true;
        options.accept_shrink = accept_shrink;
        options
    };
    for fault in [Fault::Status(500, vec![]), Fault::Status(404, vec![])] {
        bench.registry.fail("/v2/a/tags/list", fault);
        let report = run(pruning(true)).await;
        assert_eq!((report.exit(), report.removed), (Exit::Failed, vec![]));
    }
    bench.registry.heal();
    for number in 1..30 {
        bench.registry.untag("a", &number.to_string());
    }
    let report = run(pruning(false)).await;
    assert_eq!(report.removed, []);
    let error = report.failures().next().unwrap().error.clone().unwrap();
    assert!(error.contains("29 of the 30"), "{error}");
    bench.registry.untag("a", "0");
    let report = run(pruning(true)).await;
    assert_eq!((report.exit(), report.removed), (Exit::Failed, vec![]));
    assert!(before == snapshot(&bench.tree()), "a file was touched");

    bench.registry.image("a", Some("0"), &[b"0"]);
    let report = run(pruning(true)).await;
    bench.sound(&report);
    assert_eq!(report.totals.removed, 29);
    assert_eq!(tags(&bench, "a"), set(&["0"]));
}
