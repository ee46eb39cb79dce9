//! How files come: over HTTP, over rsync, from a disk; broken off, resumed, wrong and missing.

mod daemon;
mod over_http;
mod over_rsync;
mod server;

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mirror_tool::sync::progress::Progress;
use mirror_tool::sync::staging::{Staging, Wrong};
use mirror_tool::sync::upstream::{Error, Fetched, Upstream};
use mirror_tool::sync::{Filter, Options, Proof, Wanted};
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::pieces::PieceHasher;
use oci_mirror::tree::state::ListRef;
use oci_mirror::tree::{TreePath, TreeWriter};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::bench::{MIB, noise};

/// A tree that follows, and what it may follow.
struct Place {
    dir: TempDir,
    writer: TreeWriter,
    staging: Staging,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        Self {
            dir,
            writer,
            staging,
        }
    }

    /// The same again, as after a kill.
    fn again(&mut self) {
        self.staging = Staging::open(&self.writer).unwrap();
    }

    fn upstream(&self) -> PathBuf {
        self.dir.path().join("upstream")
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.upstream().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn write_all(&self, blobs: &[Vec<u8>]) {
        for blob in blobs {
            self.write(&path_of(blob), blob);
        }
    }

    async fn fetch(&self, from: &str, wanted: Vec<Wanted>) -> Result<Fetched, Error> {
        self.fetch_by(&options(from), wanted).await
    }

    async fn fetch_by(&self, options: &Options, wanted: Vec<Wanted>) -> Result<Fetched, Error> {
        let stop = CancellationToken::new();
        open(options)
            .fetch(wanted, &self.staging, &Progress::default(), &stop)
            .await
    }

    /// What staging has of a blob.
    fn has(&self, bytes: &[u8]) -> bool {
        let path = self.staging.path(&path_of(bytes).parse().unwrap());
        fs::read(path).is_ok_and(|found| found == bytes)
    }

    /// The files of staging, for whoever expects none.
    fn files(&self) -> Vec<PathBuf> {
        files_of(self.staging.root())
    }
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_of(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn options(from: &str) -> Options {
    Options {
        from: vec![from.parse().unwrap()],
        tree: PathBuf::new(),
        filter: Filter::default(),
        grace: Duration::ZERO,
        bandwidth: None,
        jobs: NonZeroUsize::new(4).unwrap(),
        retries: 3,
        accept_shrink: false,
        accept_older: false,
        check: false,
        max_entries: 1000,
        static_v2: None,
        report: None,
        tls_ca: None,
        dry_run: false,
        now: None,
        shutdown: CancellationToken::new(),
    }
}

fn open(options: &Options) -> Upstream {
    Upstream::open(&options.from[0], options).unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Algorithm::Sha256.digest(bytes)
}

fn path_of(blob: &[u8]) -> String {
    TreePath::Blob(digest(blob)).to_string()
}

fn blob(bytes: &[u8]) -> Wanted {
    Wanted {
        path: TreePath::Blob(digest(bytes)),
        size: bytes.len() as u64,
        proof: Proof::Name,
        time: 1_700_000_000,
    }
}

fn blobs(all: &[Vec<u8>]) -> Vec<Wanted> {
    all.iter().map(|bytes| blob(bytes)).collect()
}

/// A file that the list has a sum of.
fn summed(path: &str, bytes: &[u8]) -> Wanted {
    let Digest::Sha256(sum) = digest(bytes) else {
        unreachable!("it is one")
    };
    Wanted {
        path: path.parse().unwrap(),
        size: bytes.len() as u64,
        proof: Proof::Sum(sum),
        time: 1_700_000_000,
    }
}

fn list_of(bytes: &[u8]) -> ListRef {
    ListRef {
        module: "containers".parse().unwrap(),
        digest: digest(bytes),
    }
}

/// Small ones, and two that have pieces.
fn many() -> Vec<Vec<u8>> {
    let small = (0..40).map(|seed| noise(seed, 1000 + usize::try_from(seed).unwrap()));
    let large = [noise(100, 3 * MIB + 1), noise(101, MIB + 7)];
    small.chain(large).chain([Vec::new()]).collect()
}

fn pieces(blob: &[u8]) -> Vec<u8> {
    let mut hasher = PieceHasher::new(blob.len() as u64).unwrap();
    hasher.update(blob);
    hasher.finish().to_bytes()
}

#[track_caller]
fn all_there(place: &Place, all: &[Vec<u8>], fetched: &Fetched) {
    assert!(fetched.is_complete(), "{fetched:?}");
    for bytes in all {
        assert!(place.has(bytes), "{}", path_of(bytes));
        let path = place.staging.path(&path_of(bytes).parse().unwrap());
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        let pieces = (bytes.len() > MIB).then(|| pieces(bytes));
        assert_eq!(place.staging.pieces_of(&digest(bytes)), pieces);
        let path = TreePath::Pieces(digest(bytes)).under(place.staging.root());
        assert_eq!(fs::read(path).ok(), pieces);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_copied_and_read() {
    let place = Place::new();
    let all = many();
    place.write_all(&all);
    let (torn, gone) = (noise(7, 5000), noise(8, 5000));
    place.write(&path_of(&torn), &noise(9, 5000));
    place.write("state.json", b"{}");
    place.write("fullfiletimelist-containers", b"list");
    let from = format!("file://{}", place.upstream().display());
    let mut wanted = blobs(&all);
    wanted.extend([blob(&torn), blob(&gone)]);
    let fetched = place.fetch(&from, wanted).await.unwrap();
    assert_eq!(fetched.files, all.len() as u64);
    assert_eq!(fetched.missing, [blob(&gone).path]);
    let [(path, Wrong::Digest { .. })] = &fetched.wrong[..] else {
        panic!("{fetched:?}")
    };
    assert_eq!(*path, blob(&torn).path);
    assert!(!place.staging.path(path).exists());

    let upstream = open(&options(&from));
    assert_eq!(&upstream.state(&place.staging).await.unwrap()[..], b"{}");
    let list = upstream.list(&list_of(b"list"), None, &place.staging).await;
    assert_eq!(fs::read(list.unwrap()).unwrap(), b"list");
    let lie = upstream
        .list(&list_of(b"other"), None, &place.staging)
        .await;
    assert!(lie.unwrap_err().is_lie());
}

#[test]
fn what_earlier_runs_have_left_is_looked_through() {
    let mut place = Place::new();
    let (right, torn, begun) = (noise(1, MIB + 9), noise(2, 2000), noise(3, 3 * MIB));
    let unwanted = noise(4, 100);
    let path = |bytes: &[u8]| place.staging.path(&blob(bytes).path);
    let beside = |bytes: &[u8], name: &str| path(bytes).parent().unwrap().join(name);
    let name = |bytes: &[u8]| digest(bytes).hex().to_string();
    let partial = beside(&begun, ".~part~").join(name(&begun));
    let part = beside(&begun, &format!("{}.part", name(&begun)));
    let litter = [
        path(&unwanted),
        beside(&torn, &format!(".{}.Ab3dEf", name(&torn))),
        beside(&unwanted, ".~part~").join(name(&unwanted)),
        place.staging.root().join("nonsense"),
        TreePath::Pieces(digest(&right)).under(place.staging.root()),
    ];
    let files = [(path(&right), &right[..]), (path(&torn), &right[..2000])];
    let begun = begun[..MIB].to_vec();
    let kept = [(partial, &begun[..]), (part, &begun[..])];
    for (path, bytes) in files.into_iter().chain(kept.clone()) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    for path in &litter {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"litter").unwrap();
    }
    let link = place.staging.root().join("link");
    symlink("/etc/passwd", &link).unwrap();
    let wanted = [blob(&right), blob(&torn), blob(&noise(3, 3 * MIB))];

    let found = place.staging.adopt(&wanted).unwrap();
    assert_eq!(found, [wanted[0].path.clone()].into());
    assert_eq!(
        place.staging.pieces_of(&digest(&right)),
        Some(pieces(&right))
    );
    assert!(!place.staging.path(&wanted[1].path).exists());
    assert!(!link.is_symlink());
    for (path, _) in &kept {
        assert!(path.exists(), "{}", path.display());
    }
    for path in &litter[..4] {
        assert!(!path.exists(), "{}", path.display());
    }
    // A link in the place of a file is not followed.
    let path = place.staging.path(&wanted[1].path);
    symlink(place.staging.path(&wanted[0].path), &path).unwrap();
    assert!(matches!(
        place.staging.verify(&wanted[1]),
        Err(Wrong::NotAFile)
    ));
    assert!(!path.is_symlink());

    place.staging.clear().unwrap();
    assert_eq!(place.files(), Vec::<PathBuf>::new());
    place.again();
    assert_eq!(place.staging.pieces_of(&digest(&right)), None);
}
