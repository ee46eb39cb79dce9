//! Trees that others have made, changed or damaged.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_wrong_when_a_tree_was_taken_over_is_never_trusted() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    let mirror = master.mirror("m");
    for (path, content) in content(&master.tree()) {
        let path = mirror.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for path in [
        blob(&mirror, digest(b"b")),
        link(&mirror, "b", digest(b"b")),
    ] {
        fs::write(path, b"x").unwrap();
    }
    // It is gone over there, and comes back in its grace.
    master.remove("b", |_| true);
    let options = Options {
        accept_shrink: true,
        ..master.options("m", &[&master.url()])
    };
    assert_outcome(&run(options).await, Outcome::Followed);
    assert_sound(&mirror);
    master.publish(&[("b", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_here_is_not_called_a_lie_and_is_mended() {
    let master = Master::new();
    let manifests = master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let mirror = master.mirror("m");
    let manifest = blob(&mirror, manifests[0]);
    let length = fs::metadata(&manifest).unwrap().len();
    fs::write(&manifest, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
    master.publish(&[("a", "2", &[b"c"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    // A manifest that is lost.
    fs::remove_file(&manifest).unwrap();
    master.publish(&[("a", "3", &[b"d"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_here_is_undone() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"]), ("b", "1", &[b"b"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let mirror = master.mirror("m");
    let check = || Options {
        check: true,
        ..master.options("m", &[&master.url()])
    };
    fs::remove_file(blob(&mirror, digest(b"a"))).unwrap();
    fs::remove_file(link(&mirror, "b", digest(b"b"))).unwrap();
    fs::write(mirror.join("repos/b/index.json"), b"{}").unwrap();
    fs::write(mirror.join("repos/a/oci-layout"), b"").unwrap();
    let report = run(check()).await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let a = digest(b"a");
    assert_eq!(inode(blob(&mirror, a)), inode(link(&mirror, "a", a)));

    // What changes the state is seen without being asked to look.
    let writer = TreeWriter::open(&mirror).unwrap();
    writer.retain(&"b".parse().unwrap(), |_| false).unwrap();
    writer.finish(Timestamp::now()).unwrap();
    drop(writer);
    let options = prune::Options {
        tree: mirror.clone(),
        grace: Duration::ZERO,
        dry_run: false,
        now: None,
    };
    prune::run(&options).unwrap();
    assert!(!mirror.join("repos/b").exists());
    assert_outcome(&master.sync().await, Outcome::Followed);
    assert_eq!(content(&mirror), content(&master.tree()));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_what_is_right_changes_nothing() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    let mirror = master.mirror("m");
    let files = || -> BTreeMap<_, _> {
        let all = snapshot(&mirror).into_iter();
        let is_of_tree = |path: &PathBuf| !path.starts_with(mirror.join(".~tmp~"));
        all.filter(|(path, _)| is_of_tree(path)).collect()
    };
    let before = files();
    let check = Options {
        check: true,
        ..master.options("m", &[&master.url()])
    };
    assert_outcome(&run(check).await, Outcome::Unchanged);
    assert_eq!(files(), before);
    // As a run leaves it that was killed after its state.
    let mark = mirror.join(".~tmp~/dirty");
    fs::write(&mark, "").unwrap();
    assert_outcome(&master.sync().await, Outcome::Unchanged);
    assert!(!mark.exists());
    assert_eq!(files(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_others_made_is_read_once() {
    let master = Master::new();
    let large = noise(1, 2 * MIB);
    master.publish(&[("a", "1", &[b"a", &large]), ("b", "1", &[b"b"])]);
    // As rsync without -H would have made it, with some bytes gone bad.
    let mirror = master.mirror("m");
    for (path, content) in content(&master.tree()) {
        let path = mirror.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(blob(&mirror, digest(b"a")), b"x").unwrap();
    fs::write(link(&mirror, "b", digest(b"b")), b"y").unwrap();
    let report = master.sync().await;
    assert_outcome(&report, Outcome::Followed);
    assert_eq!((report.files, report.bytes), (1, 1));
    assert_eq!(content(&mirror), content(&master.tree()));
    assert_sound(&mirror);
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let large = digest(&large);
    assert_eq!(
        inode(blob(&mirror, large)),
        inode(link(&mirror, "a", large))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_a_mirror_is_told_that_it_does_not_last() {
    let master = Master::new();
    master.publish(&[("a", "1", &[b"a"])]);
    assert_outcome(&master.sync().await, Outcome::Followed);
    for (tree, is_told) in [(master.mirror("m"), true), (master.tree(), false)] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_mirror-tool"))
            .args(["prune", "--dry-run", "--tree"])
            .arg(tree)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let warning = format!("this tree follows {}", master.url());
        assert_eq!(said.contains(&warning), is_told, "{said}");
    }
}
