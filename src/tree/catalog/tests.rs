//! Claims about catalogs, on trees as the writer makes them.

use super::*;
use crate::descriptor::Descriptor;
use crate::digest::Algorithm;
use crate::media_type::MediaType;
use crate::tree::TreePath;
use crate::tree::writer::{Image, TreeWriter};

/// Publishes an image of one layer and returns its manifest's descriptor.
fn publish(writer: &TreeWriter, name: &str, tag: &str, layer: &[u8]) -> Descriptor {
    let config = b"{}";
    let (config_digest, layer_digest) = (
        Algorithm::Sha256.digest(config),
        Algorithm::Sha256.digest(layer),
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
        layer.len()
    );
    let digest = Algorithm::Sha256.digest(manifest.as_bytes());
    writer.stage_bytes(config_digest, config).unwrap();
    writer.stage_bytes(layer_digest, layer).unwrap();
    writer.stage_bytes(digest, manifest.as_bytes()).unwrap();
    let root = Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64);
    let image = Image {
        repo: name.parse().unwrap(),
        tag: Some(tag.parse().unwrap()),
        root: root.clone(),
        reach: vec![config_digest, layer_digest, digest],
        tag_referrers: None,
    };
    writer.publish(&[image]).unwrap();
    root
}

#[test]
fn blobs_belong_to_the_repositories_that_reach_them() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let one = publish(&writer, "a", "1", b"one");
    publish(&writer, "b", "1", b"two");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let catalog = Catalog::load(writer.tree(), None).unwrap();
    let (a, b) = (&"a".parse().unwrap(), &"b".parse().unwrap());
    let (a, b) = (
        catalog.repository(a).unwrap(),
        catalog.repository(b).unwrap(),
    );
    let layer = Algorithm::Sha256.digest(b"one");
    assert!(catalog.member(a, &layer).is_some() && catalog.member(b, &layer).is_none());
    let id = catalog.manifest_id(a, &"1".parse().unwrap()).unwrap();
    let (blob, manifest) = (
        catalog.blob(id),
        catalog.blob(id).manifest.as_ref().unwrap(),
    );
    assert_eq!(
        (blob.digest, &manifest.media_type),
        (one.digest, &MediaType::OCI_MANIFEST)
    );
    assert_eq!(catalog.blobs().len(), 5);
    assert_eq!(catalog.repositories_after("a").count(), 1);
}

#[test]
fn what_a_tag_has_left_is_known_by_digest_until_its_link_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let old = publish(&writer, "a", "1", b"old");
    let layer = Algorithm::Sha256.digest(b"old");
    publish(&writer, "b", "1", b"other");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let before = Catalog::load(writer.tree(), None).unwrap();
    let new = publish(&writer, "a", "1", b"new");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let holds = |catalog: &Catalog, name: &str, digest: Digest| {
        let repository = catalog.repository(&name.parse().unwrap()).unwrap();
        let manifest = catalog.manifest_id(repository, &Reference::Digest(digest));
        let tag = repository.tag(&"1".parse().unwrap()).unwrap();
        assert!(name != "a" || catalog.blob(tag).digest == new.digest);
        let as_blob = catalog.member(repository, &digest).is_some();
        (as_blob, manifest.is_some())
    };
    for previous in [None, Some(&before)] {
        let catalog = Catalog::load(writer.tree(), previous).unwrap();
        assert_eq!(holds(&catalog, "a", old.digest), (true, true));
        assert_eq!(holds(&catalog, "a", layer), (true, false));
        assert_eq!(holds(&catalog, "b", old.digest), (false, false));
    }
    let link = TreePath::Link("a".parse().unwrap(), old.digest);
    std::fs::remove_file(link.under(dir.path())).unwrap();
    let catalog = Catalog::load(writer.tree(), Some(&before)).unwrap();
    assert_eq!(holds(&catalog, "a", old.digest), (false, false));
}

#[test]
fn what_another_repository_declares_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let root = publish(&writer, "victim", "1", b"layer");
    let reach = vec![root.digest];
    let root = Descriptor {
        media_type: MediaType::DOCKER_MANIFEST,
        ..root
    };
    let evil = Image {
        repo: "evil".parse().unwrap(),
        tag: "1".parse().ok(),
        root,
        reach,
        tag_referrers: None,
    };
    writer.publish(&[evil]).unwrap();
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let catalog = Catalog::load(writer.tree(), None).unwrap();
    for (name, expected) in [
        ("evil", MediaType::DOCKER_MANIFEST),
        ("victim", MediaType::OCI_MANIFEST),
    ] {
        let repository = catalog.repository(&name.parse().unwrap()).unwrap();
        let id = catalog
            .manifest_id(repository, &"1".parse().unwrap())
            .unwrap();
        let entry = catalog.blob(id).manifest.as_ref().unwrap();
        assert_eq!(*repository.media_type(id, entry), expected, "{name}");
    }
}

#[test]
fn a_tree_with_less_than_its_state_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish(&writer, "a", "1", b"one");
    publish(&writer, "b", "1", b"two");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert!(Catalog::load(writer.tree(), None).is_ok());
    std::fs::remove_dir_all(dir.path().join("repos/b")).unwrap();
    assert!(matches!(
        Catalog::load(writer.tree(), None),
        Err(Error::Torn { .. })
    ));
}

#[test]
fn one_damaged_manifest_costs_only_its_tag() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let bad = publish(&writer, "a", "1", b"one");
    publish(&writer, "a", "2", b"two");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    std::fs::write(TreePath::Blob(bad.digest).under(dir.path()), "nonsense").unwrap();
    assert!(matches!(
        Catalog::load(writer.tree(), None),
        Err(Error::Manifest { .. })
    ));
    let (catalog, damage) = Catalog::salvage(writer.tree()).unwrap();
    let repository = catalog.repository(&"a".parse().unwrap()).unwrap();
    let tags: Vec<_> = repository
        .tags()
        .iter()
        .map(|(tag, _)| tag.as_str())
        .collect();
    assert_eq!((tags, damage.len()), (vec!["2"], 1));

    // What comes later is taken up all the same, unless it is damaged as well.
    publish(&writer, "b", "1", b"three");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let later = Catalog::load(writer.tree(), Some(&catalog)).unwrap();
    assert!(later.repository(&"b".parse().unwrap()).is_some());
    let worse = publish(&writer, "c", "1", b"four");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    std::fs::write(TreePath::Blob(worse.digest).under(dir.path()), "nonsense").unwrap();
    assert!(Catalog::load(writer.tree(), Some(&later)).is_err());
}

#[test]
fn a_reload_reuses_parsed_manifests_even_without_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let one = publish(&writer, "a", "1", b"one");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let first = Catalog::load(writer.tree(), None).unwrap();
    std::fs::remove_file(TreePath::Blob(one.digest).under(dir.path())).unwrap();
    assert!(Catalog::load(writer.tree(), Some(&first)).is_ok());
    assert!(matches!(
        Catalog::load(writer.tree(), None),
        Err(Error::Incomplete { .. })
    ));
}

/// Waits until what was written could no longer change without its mark changing too.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2100));
}

#[test]
fn a_repository_that_has_not_changed_is_shared_and_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish(&writer, "a", "1", b"one");
    publish(&writer, "b", "1", b"two");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let early = Catalog::load(writer.tree(), None).unwrap();
    assert!(
        !early.is_current(writer.tree()).unwrap(),
        "it may have changed since"
    );
    settle();
    let first = Catalog::load(writer.tree(), Some(&early)).unwrap();
    assert!(first.holds_the_same_as(&early) && first.is_current(writer.tree()).unwrap());
    let moved = publish(&writer, "b", "1", b"three");
    assert!(
        !first.is_current(writer.tree()).unwrap(),
        "whatever the state says"
    );
    let second = Catalog::load(writer.tree(), Some(&first)).unwrap();
    let held = |catalog: &Catalog, name: &str| {
        Arc::clone(&catalog.repositories.sorted()[&name.parse::<RepoName>().unwrap()].repository)
    };
    assert!(Arc::ptr_eq(&held(&first, "a"), &held(&second, "a")));
    assert!(!Arc::ptr_eq(&held(&first, "b"), &held(&second, "b")));
    let tag = held(&second, "b").tag(&"1".parse().unwrap()).unwrap();
    assert_eq!(second.blob(tag).digest, moved.digest);
}

#[test]
fn numbers_go_on_until_there_are_more_holes_than_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish(&writer, "a", "1", b"one");
    let gone = publish(&writer, "b", "1", b"two");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let first = Catalog::load(writer.tree(), None).unwrap();
    publish(&writer, "a", "2", b"three");
    std::fs::remove_dir_all(dir.path().join("repos/b")).unwrap();
    let mut state = writer.tree().state().unwrap();
    state.totals = crate::tree::state::Totals::default();
    std::fs::write(TreePath::State.under(dir.path()), state.to_bytes()).unwrap();
    let mut second = Catalog::load(writer.tree(), Some(&first)).unwrap();
    assert!(second.goes_on_from(&first));
    assert_eq!((second.blobs().len(), second.blobs().in_use()), (7, 5));
    assert_eq!(second.id(&gone.digest), None);
    let members = |catalog: &Catalog| {
        let repository = catalog.repository(&"a".parse().unwrap()).unwrap();
        let members = repository.members();
        let mut digests: Vec<Digest> = members.map(|id| catalog.blob(id).digest).collect();
        digests.sort_unstable();
        let tags = repository.tags().iter();
        let tags: Vec<Digest> = tags.map(|(_, id)| catalog.blob(*id).digest).collect();
        (digests, tags)
    };
    let before = members(&second);
    second.renumber();
    assert!(!second.goes_on_from(&first));
    assert_eq!(
        (second.blobs().len(), members(&second)),
        (5, before.clone())
    );
    // What the manifests refer to has its new number too.
    let third = Catalog::load(writer.tree(), Some(&second)).unwrap();
    assert_eq!(members(&third), before);
}

#[test]
fn a_manifest_that_lingers_without_its_layers_refers_to_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let old = publish(&writer, "a", "1", b"old");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let first = Catalog::load(writer.tree(), None).unwrap();
    publish(&writer, "a", "1", b"new");
    let layer = Algorithm::Sha256.digest(b"old");
    let link = TreePath::Link("a".parse().unwrap(), layer);
    std::fs::remove_file(link.under(dir.path())).unwrap();
    let second = Catalog::load(writer.tree(), Some(&first)).unwrap();
    let in_a = |catalog: &Catalog, digest: &Digest| {
        let repository = catalog.repository(&"a".parse().unwrap()).unwrap();
        catalog.member(repository, digest).is_some()
    };
    assert!(in_a(&second, &old.digest) && !in_a(&second, &layer));
    // The tag comes back.
    publish(&writer, "a", "1", b"old");
    let third = Catalog::load(writer.tree(), Some(&second)).unwrap();
    assert!(in_a(&third, &layer));
    assert_eq!(third.blob(third.id(&layer).unwrap()).digest, layer);
}

#[test]
fn the_largest_manifests_leave_memory_first() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish(&writer, "a", "1", b"one");
    let long = publish(&writer, "a", "2", &[b'x'; 1000]);
    publish(&writer, "a", "3", b"two");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let whole = Catalog::load(writer.tree(), None).unwrap();
    let in_memory = |catalog: &Catalog| -> u64 {
        let manifests = catalog
            .blobs()
            .iter()
            .filter_map(|blob| blob.manifest.as_ref());
        manifests
            .filter_map(|it| Some(it.bytes.as_ref()?.len() as u64))
            .sum()
    };
    assert_eq!(in_memory(&whole), whole.manifest_bytes());
    for previous in [None, Some(&whole)] {
        let limit = whole.manifest_bytes() - 1;
        let (catalog, damage) = Loader::new(writer.tree(), previous, limit).load().unwrap();
        assert!(damage.is_empty());
        assert_eq!(in_memory(&catalog), catalog.manifest_bytes());
        if previous.is_none() {
            assert_eq!(catalog.manifest_bytes(), whole.manifest_bytes() - long.size);
            let id = catalog.id(&long.digest).unwrap();
            assert!(catalog.blob(id).manifest.as_ref().unwrap().bytes.is_none());
        }
    }
}

#[test]
fn half_written_documents_are_refused_and_the_last_catalog_is_still_whole() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    let root = publish(&writer, "a", "1", b"one");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let first = Catalog::load(writer.tree(), None).unwrap();
    for path in [TreePath::State, TreePath::Index("a".parse().unwrap())] {
        let path = path.under(dir.path());
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 3] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = Catalog::load(writer.tree(), Some(&first)).unwrap_err();
            assert!(
                matches!(error, Error::State { .. } | Error::Index { .. }),
                "{error}"
            );
        }
        std::fs::write(&path, whole).unwrap();
        Catalog::load(writer.tree(), Some(&first)).unwrap();
    }
    let tag = first.repository(&"a".parse().unwrap()).unwrap().tags()[0].1;
    assert_eq!(first.blob(tag).digest, root.digest);
}

#[test]
fn a_list_that_belongs_to_another_state_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let writer = TreeWriter::open(dir.path()).unwrap();
    publish(&writer, "a", "1", b"one");
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let state = writer.tree().state().unwrap();
    let list = TreePath::List(state.list.unwrap().module).under(dir.path());
    std::fs::write(&list, "half a list").unwrap();
    assert_eq!(Catalog::load(writer.tree(), None).unwrap().blobs().len(), 3);
    std::fs::remove_file(&list).unwrap();
    assert_eq!(Catalog::load(writer.tree(), None).unwrap().blobs().len(), 3);
}
