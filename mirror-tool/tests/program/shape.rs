//! Images of a shape that nobody builds by accident.

use std::time::Duration;

use http::Response;
use mirror_tool::verify;
use oci_mirror::digest::Algorithm;
use oci_mirror::media_type::MediaType;

use crate::bench::{Bench, only};
use crate::fake_registry::descriptor;
use crate::selection::{at, image_of, run, set, tags};

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_too_deep_by_its_longest_way_down() {
    let bench = Bench::new().await;
    let mut chain = vec![bench.registry.image("a", None, &[b"layer"])];
    for _ in 0..20 {
        let last = chain[chain.len() - 1];
        chain.push(bench.registry.index("a", None, &[(last, "")]));
    }
    // Each of them is at depth one too.
    for (tag, reversed) in [("1", false), ("2", true)] {
        let mut children: Vec<_> = chain.iter().map(|digest| (*digest, "")).collect();
        if reversed {
            children.reverse();
        }
        bench.registry.index("a", Some(tag), &children);
    }
    let report = bench.export(&["/a"]).await;
    assert_eq!(report.totals.failed, 2, "{report:#?}");
    for image in report.failures() {
        let error = image.error.as_deref().unwrap();
        assert!(error.contains("nested more than"), "{error}");
    }
    let verified = verify::run(&bench.tree()).unwrap();
    assert_eq!(verified.damage, [], "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_a_layer_too_is_exported_with_all_it_has() {
    let bench = Bench::new().await;
    let inner = bench.registry.image("a", None, &[b"inner"]);
    let content = bench.registry.content(&inner);
    let outer = bench.registry.image("a", None, &[&content]);
    let children = [(outer, "linux/amd64"), (inner, "linux/arm64")];
    bench.registry.index("a", Some("1"), &children);
    bench.sound(&bench.export(&["/a"]).await);
    assert!(bench.holds(Algorithm::Sha256.digest(b"inner")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_gigabytes_of_manifests_is_refused_before_they_are_fetched() {
    let bench = Bench::new().await;
    let children: Vec<_> = (0..100_u8)
        .map(|n| {
            let digest = Algorithm::Sha256.digest(&[n]);
            descriptor(MediaType::OCI_MANIFEST.as_str(), &digest, 4 << 20)
        })
        .collect();
    let content = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        MediaType::OCI_INDEX,
        children.join(",")
    );
    let index = MediaType::OCI_INDEX;
    bench.registry.manifest("a", Some("1"), &index, content);
    let report = bench.export(&["/a:1"]).await;
    let error = only(&report).error.clone().unwrap();
    assert!(error.contains("bytes of manifests"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_an_index_that_repeats_itself_is_known_in_time() {
    let bench = Bench::new().await;
    let mut below = image_of(&bench, "a", "0", "2026-06-01T00:00:00Z");
    bench.registry.untag("a", "0");
    for depth in 0..6 {
        let tag = (depth == 5).then_some("1");
        below = bench.registry.index("a", tag, &vec![(below, ""); 300]);
    }
    let mut options = at(bench.options(&["/a"]));
    options.orders[0].selection.min_age = Some(Duration::from_secs(60));
    let report = tokio::time::timeout(Duration::from_secs(60), run(options)).await;
    bench.sound(&report.unwrap());
    assert_eq!(tags(&bench, "a"), set(&["1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_that_belong_to_each_other_end() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"layer"]);
    let others: Vec<_> = (0..40_u8)
        .map(|number| bench.registry.image("a", None, &[&[number]]))
        .collect();
    let entries: Vec<_> = others
        .iter()
        .map(|digest| {
            let size = bench.registry.content(digest).len();
            descriptor(MediaType::OCI_MANIFEST.as_str(), digest, size)
        })
        .collect();
    let list = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entries.join(",")
    );
    // Whatever is asked for, all of them belong to it.
    bench.registry.answer_with(move |path, _| {
        let list = list.clone();
        path.contains("/referrers/")
            .then(|| Response::new(list.into()))
    });
    let report = bench.export(&["/a:1"]).await;
    bench.sound(&report);
    assert_eq!(report.totals.exported, 41, "{:?}", report.totals);
    assert!(bench.holds(image));
    assert_eq!(
        bench.registry.count("GET", &format!("/referrers/{image}")),
        1
    );
}
