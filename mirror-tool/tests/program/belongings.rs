//! What comes along with an image: signatures, and whatever else is about it.

use std::fs;
use std::time::Duration;

use mirror_tool::exit::Exit;
use oci_mirror::digest::Algorithm;
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::TreePath;
use regex::Regex;

use crate::bench::{Bench, noise, snapshot};
use crate::fake_registry::{Fault, descriptor};
use crate::selection::{artifact, digest_tag, referrers, run, set, tags};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_referrers_api_lists_comes_along_and_so_does_what_comes_later() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let amd = bench.registry.image("a", None, &[b"amd"]);
    let index = bench
        .registry
        .index("a", Some("1"), &[(amd, "linux/amd64")]);
    let sbom = artifact(&bench, "a", None, "sbom", &index);
    let signature = artifact(&bench, "a", None, "signature", &sbom);
    let of_child = artifact(&bench, "a", None, "signature", &amd);
    let report = bench.export(&["/a:1"]).await;
    bench.sound(&report);
    assert_eq!(report.totals.exported, 4, "{report:#?}");
    assert_eq!(referrers(&bench, "a", &index), [sbom].into());
    assert_eq!(referrers(&bench, "a", &sbom), [signature].into());
    assert_eq!(referrers(&bench, "a", &amd), [of_child].into());
    let came = report
        .images
        .iter()
        .find(|image| image.digest == Some(signature))
        .unwrap();
    assert_eq!((came.subject, &came.tag), (Some(sbom), &None));

    let before = snapshot(&bench.tree());
    let report = bench.export(&["/a:1"]).await;
    assert_eq!(report.totals.unchanged, 4, "{report:#?}");
    assert!(before == snapshot(&bench.tree()), "a file was touched");

    let late = artifact(&bench, "a", None, "late", &index);
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert_eq!(report.totals.exported, 1, "{report:#?}");
    assert_eq!(referrers(&bench, "a", &index), [sbom, late].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_named_after_a_digest_come_along_whatever_the_filter() {
    let bench = Bench::new().await;
    let image = bench.registry.image("a", Some("1"), &[b"layer"]);
    let other = bench.registry.image("a", Some("2"), &[b"other"]);
    let signature = artifact(&bench, "a", None, "signature", &image);
    let index = bench.registry.index("a", None, &[(signature, "")]);
    let fallback = digest_tag(&image, "");
    bench.registry.tag("a", &fallback, &index);
    let cosign: Vec<String> = [".sig", ".att", ".sbom"]
        .iter()
        .map(|suffix| digest_tag(&image, suffix))
        .collect();
    for tag in &cosign {
        bench.registry.image("a", Some(tag), &[tag.as_bytes()]);
    }
    let unwanted = digest_tag(&other, ".sig");
    bench.registry.image("a", Some(&unwanted), &[b"unwanted"]);
    let filtered = || {
        let mut options = bench.options(&["/a"]);
        options.orders[0].selection.tags = Some(Regex::new("^1$").unwrap());
        options
    };
    let report = run(filtered()).await;
    bench.sound(&report);
    let mut expected = set(&["1", &fallback]);
    expected.extend(cosign.iter().cloned());
    assert_eq!(tags(&bench, "a"), expected);
    assert_eq!(referrers(&bench, "a", &image), [signature].into());

    // A source without the API is not asked for it again, as long as there is nothing new.
    bench.registry.take_log();
    let report = run(filtered()).await;
    assert_eq!(report.totals.unchanged, 5, "{report:#?}");
    let log = bench.registry.take_log();
    let heads = log.iter().filter(|line| line.starts_with("HEAD")).count();
    assert_eq!((log.len(), heads), (6, 5), "{log:#?}");

    // Without a filter everything comes; without referrers none of it.
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    expected.extend(set(&["2", &unwanted]));
    assert_eq!(tags(&bench, "a"), expected);
    let mut options = bench.options(&["/a"]);
    options.orders[0].referrers = false;
    options.orders[0].dest_name = Some("b".parse().unwrap());
    bench.sound(&run(options).await);
    assert_eq!(tags(&bench, "b"), set(&["1", "2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_list_tags_is_asked_for_signatures_by_name() {
    let bench = Bench::new().await;
    let image = bench.registry.image("a", Some("1"), &[b"layer"]);
    let signature = digest_tag(&image, ".sig");
    bench.registry.image("a", Some(&signature), &[b"signature"]);
    let denied = Fault::Status(403, vec![]);
    bench.registry.fail("/v2/a/tags/list", denied);
    let report = bench.export(&["/a:1"]).await;
    bench.sound(&report);
    assert_eq!(tags(&bench, "a"), set(&["1", &signature]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_cannot_be_had_is_told_and_the_image_is_exported() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"layer"]);
    let broken = artifact(&bench, "a", None, "signature", &image);
    let gone = Fault::Status(404, vec![]);
    bench
        .registry
        .fail(&format!("/v2/a/manifests/{broken}"), gone);
    let report = bench.export(&["/a:1"]).await;
    assert_eq!((report.totals.exported, report.totals.failed), (1, 1));
    assert_eq!(report.exit(), Exit::Partial);
    let failed = report.failures().next().unwrap();
    assert_eq!(failed.subject, Some(image));

    bench.registry.heal();
    let down = Fault::Status(403, vec![]);
    bench
        .registry
        .fail(&format!("/v2/a/referrers/{image}"), down);
    let report = bench.export(&["/a:1"]).await;
    assert_eq!((report.totals.unchanged, report.totals.failed), (1, 1));
    let failed = report.failures().next().unwrap();
    assert!(failed.source.contains("belongs to"), "{failed:#?}");
    bench.registry.heal();
    bench.sound(&bench.export(&["/a:1"]).await);
    assert_eq!(referrers(&bench, "a", &image), [broken].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrored_layout_brings_its_signatures_to_the_next_tree() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"layer"]);
    let signature = artifact(&bench, "a", None, "signature", &image);
    bench.sound(&bench.export(&["/a:1"]).await);
    let second = bench.dir.path().join("second");
    let source = format!("oci:{}:1", bench.tree().join("repos/a").display());
    let mut options = bench.options(&[&source]);
    options.tree = second.clone();
    options.orders[0].dest_name = Some("a".parse().unwrap());
    assert_eq!(run(options).await.totals.exported, 2);
    assert!(TreePath::Blob(signature).under(&second).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sha512_image_is_exported_with_its_signature() {
    let bench = Bench::new().await;
    let layer = noise(4, 2 << 20);
    let layer_digest = bench.registry.blob_as(Algorithm::Sha512, layer.clone());
    let config = bench.registry.blob_as(Algorithm::Sha512, "{}");
    let content = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        MediaType::OCI_MANIFEST,
        descriptor("application/vnd.oci.image.config.v1+json", &config, 2),
        descriptor(
            "application/vnd.oci.image.layer.v1.tar",
            &layer_digest,
            layer.len()
        ),
    );
    let manifest = MediaType::OCI_MANIFEST;
    let image = bench
        .registry
        .manifest_as(Algorithm::Sha512, "a", Some("1"), &manifest, content);
    // Cut to what a tag has room for, as the specification has it.
    let signature = digest_tag(&image, "")[..7 + 64].to_owned() + ".sig";
    bench.registry.image("a", Some(&signature), &[b"signature"]);
    let report = bench.export(&["/a:1"]).await;
    bench.sound(&report);
    assert_eq!(tags(&bench, "a"), set(&["1", &signature]));
    assert!(bench.tree().join("blobs/sha512").exists());
}

/// The first index that `a` gets.
fn first_index(bench: &Bench) -> tokio::task::JoinHandle<String> {
    let index = bench.tree().join("repos/a/index.json");
    tokio::task::spawn_blocking(move || {
        loop {
            if let Ok(text) = fs::read_to_string(&index) {
                return text;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_visible_no_later_than_their_image() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"layer"]);
    let signature = artifact(&bench, "a", None, "signature", &image);
    let slow = Fault::Slow(Duration::from_millis(300));
    bench
        .registry
        .fail(&format!("/v2/a/manifests/{signature}"), slow);
    let watch = first_index(&bench);
    bench.sound(&bench.export(&["/a:1"]).await);
    let first = watch.await.unwrap();
    assert!(first.contains(&signature.to_string()), "{first}");
    assert!(first.contains(&image.to_string()), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_visible_no_later_than_any_tag_of_their_image() {
    let bench = Bench::new().await;
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"layer"]);
    bench.registry.tag("a", "2", &image);
    let signature = artifact(&bench, "a", None, "signature", &image);
    // Longer than finished images wait for company.
    let slow = Fault::Slow(Duration::from_millis(1500));
    bench
        .registry
        .fail(&format!("/v2/a/manifests/{signature}"), slow);
    let watch = first_index(&bench);
    let report = bench.export(&["/a"]).await;
    bench.sound(&report);
    assert_eq!(report.totals.exported, 3, "{report:#?}");
    // Nor is the source asked twice what belongs to one manifest.
    let questions = format!("/referrers/{image}");
    assert_eq!(bench.registry.count("GET", &questions), 1);
    let first = watch.await.unwrap();
    assert!(first.contains(&signature.to_string()), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_registries_fill_a_repository_each_with_its_own_kind_of_signatures() {
    let (bench, other) = (Bench::new().await, Bench::new().await);
    bench.registry.set_referrers(true);
    let image = bench.registry.image("a", Some("1"), &[b"layer"]);
    // The same image under another tag, signed in the way of a registry without the API.
    other.registry.image("a", Some("1"), &[b"layer"]);
    other.registry.tag("a", "2", &image);
    other.registry.untag("a", "1");
    let signature = digest_tag(&image, ".sig");
    for registry in [&bench.registry, &other.registry] {
        registry.image("a", Some(&signature), &[b"signature"]);
    }
    let second = format!("{}/a", other.registry.address);
    bench.sound(&bench.export(&["/a", &second]).await);
    assert_eq!(tags(&bench, "a"), set(&["1", "2", &signature]));
    let late = artifact(&bench, "a", None, "late", &image);
    bench.sound(&bench.export(&["/a", &second]).await);
    assert_eq!(referrers(&bench, "a", &image), [late].into());
}
