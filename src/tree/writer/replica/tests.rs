use super::*;
use crate::digest::Algorithm;
use crate::tree::writer::DIRTY;

struct Bench {
    dir: tempfile::TempDir,
    writer: TreeWriter,
    files: PathBuf,
    times: HashMap<TreePath, i64>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let files = writer.sync_directory().unwrap().join("files");
        Self {
            dir,
            writer,
            files,
            times: HashMap::new(),
        }
    }

    fn stage(&self, path: &TreePath, content: &[u8]) {
        let path = path.under(&self.files);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn blob(&self, content: &[u8]) -> Digest {
        let digest = Algorithm::Sha256.digest(content);
        self.stage(&TreePath::Blob(digest), content);
        digest
    }

    fn replica(&self) -> Replica<'_> {
        Replica {
            files: &self.files,
            blobs: &[],
            pieces: &[],
            links: &[],
            layouts: &[],
            indexes: &[],
            directories: &[],
            times: &self.times,
        }
    }

    fn metadata(&self, path: &TreePath) -> fs::Metadata {
        fs::metadata(path.under(self.dir.path())).unwrap()
    }
}

fn repo(name: &str) -> RepoDir {
    name.parse().unwrap()
}

#[test]
fn what_was_fetched_is_named_linked_and_readable() {
    let mut bench = Bench::new();
    let digest = bench.blob(b"layer");
    let index = TreePath::Index(repo("a/b"));
    bench.stage(&index, b"{}");
    bench.times.insert(index.clone(), 1_000_000_007);
    let links = [(repo("a/b"), digest), (repo("c"), digest)];
    let made = bench.writer.replicate(&Replica {
        blobs: &[digest],
        links: &links,
        layouts: &[repo("a/b"), repo("c")],
        indexes: &[repo("a/b")],
        directories: &["repos/empty/blobs".parse().unwrap()],
        ..bench.replica()
    });
    assert_eq!(made.unwrap(), 2);
    let blob = bench.metadata(&TreePath::Blob(digest));
    let link = bench.metadata(&TreePath::Link(repo("c"), digest));
    assert_eq!((blob.ino(), blob.nlink()), (link.ino(), 3));
    assert_eq!(blob.mode() & 0o777, 0o644);
    let index = bench.metadata(&index);
    assert_eq!(
        (index.mode() & 0o777, index.mtime()),
        (0o644, 1_000_000_007)
    );
    let layout = TreePath::Layout(repo("c")).under(bench.dir.path());
    assert_eq!(fs::read(layout).unwrap(), OCI_LAYOUT);
    let empty = fs::metadata(bench.dir.path().join("repos/empty/blobs")).unwrap();
    assert_eq!(empty.mode() & 0o777, 0o755);
    assert!(bench.writer.is_dirty());
}

#[test]
fn a_link_to_other_content_is_replaced_and_the_old_content_left_alone() {
    let bench = Bench::new();
    let digest = bench.blob(b"whole");
    let link = TreePath::Link(repo("a"), digest).under(bench.dir.path());
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    fs::write(&link, b"damag").unwrap();
    let mut reader = File::open(&link).unwrap();
    let replica = Replica {
        blobs: &[digest],
        links: &[(repo("a"), digest)],
        ..bench.replica()
    };
    assert_eq!(bench.writer.replicate(&replica).unwrap(), 1);
    assert_eq!(fs::read(&link).unwrap(), b"whole");
    let mut read = String::new();
    io::Read::read_to_string(&mut reader, &mut read).unwrap();
    assert_eq!(read, "damag");
    // Once more: it is the same file now.
    let again = Replica {
        blobs: &[],
        ..replica
    };
    assert_eq!(bench.writer.replicate(&again).unwrap(), 0);
}

#[test]
fn no_index_is_replaced_if_what_it_names_is_not_there() {
    let bench = Bench::new();
    let absent = Algorithm::Sha256.digest(b"absent");
    bench.stage(&TreePath::Index(repo("a")), b"{}");
    let replica = Replica {
        links: &[(repo("a"), absent)],
        indexes: &[repo("a")],
        ..bench.replica()
    };
    let error = bench.writer.replicate(&replica).unwrap_err();
    assert!(matches!(error, Error::NotStaged { .. }), "{error}");
    assert!(!TreePath::Index(repo("a")).under(bench.dir.path()).exists());
    assert!(bench.writer.is_dirty());
}

#[test]
fn the_state_comes_last_and_takes_the_mark_with_it() {
    let bench = Bench::new();
    let state = |module: &str| {
        let digest = Algorithm::Sha256.digest(b"list");
        format!(
            r#"{{"format":1,"serial":7,"created":"2026-01-01T00:00:00Z",
            "list":{{"name":"fullfiletimelist-{module}","digest":"{digest}"}},
            "totals":{{"repositories":0,"tags":0,"blobs":0,"bytes":0}}}}"#
        )
    };
    bench.writer.mark_stale().unwrap();
    for module in ["one", "other"] {
        let list = bench.dir.path().join(".~tmp~/sync/list.new");
        fs::write(&list, b"list").unwrap();
        bench
            .writer
            .conclude(&Conclusion {
                sizes: None,
                list: &list,
                state: state(module).as_bytes(),
                module: &module.parse().unwrap(),
            })
            .unwrap();
        assert!(!list.exists());
        let bytes = fs::read(bench.dir.path().join("state.json")).unwrap();
        assert_eq!(bytes, state(module).as_bytes());
        assert!(!bench.dir.path().join(".~tmp~").join(DIRTY).exists());
    }
    let names: BTreeSet<_> = fs::read_dir(bench.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    let expected = [".~tmp~", "fullfiletimelist-other", "state.json"];
    assert_eq!(names, expected.into_iter().map(Into::into).collect());
}

#[test]
fn what_is_removed_takes_directories_with_it_that_are_not_listed() {
    let bench = Bench::new();
    let (one, other) = (bench.blob(b"one"), bench.blob(b"other"));
    let links = [(repo("a"), one), (repo("b"), other)];
    let replica = Replica {
        blobs: &[one, other],
        links: &links,
        ..bench.replica()
    };
    bench.writer.replicate(&replica).unwrap();
    bench.writer.unmark_dirty().unwrap();
    let steps: Vec<Vec<TreePath>> = vec![
        links
            .iter()
            .map(|(repo, digest)| TreePath::Link(repo.clone(), *digest))
            .collect(),
        vec![TreePath::Blob(one), TreePath::Blob(other)],
    ];
    let listed = ["repos", "repos/b", "repos/b/blobs", "repos/b/blobs/sha256"];
    let listed = listed.into_iter().map(PathBuf::from).collect();
    for _ in 0..2 {
        bench.writer.remove_unlisted(&steps, &[], &listed).unwrap();
    }
    assert!(!bench.dir.path().join("repos/a").exists());
    assert!(bench.dir.path().join("repos/b/blobs/sha256").exists());
    assert!(!bench.dir.path().join("blobs").exists());
    assert!(!bench.writer.is_dirty());
}
