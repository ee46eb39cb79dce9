//! A mirror that follows a tree by its file list, as quick-fedora-mirror does.
//!
//! Written from the description of that program's algorithm, not from our parser or writer of lists: a
//! list that only we can read would be worth nothing. It fetches the list, fetches in one rsync what is
//! new since the last good run, missing or of another size, and only then deletes what the list lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use support::process::{program, run};

/// A mirror of one module.
pub(crate) struct Follower {
    /// `rsync://HOST/MODULE`.
    source: String,
    module: String,
    directory: PathBuf,
    /// When the last good run began.
    last_time: u64,
}

/// What a run has done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The list is the one of the last run.
    Unchanged,
    /// These were named to rsync, and these deleted.
    Followed {
        transferred: BTreeSet<String>,
        deleted: BTreeSet<String>,
    },
}

/// What the `[Files]` of a list say.
struct List {
    files: BTreeMap<String, u64>,
    directories: BTreeSet<String>,
    /// Files and directories with a time at or after the last good run.
    new: BTreeSet<String>,
    checksums: BTreeMap<String, String>,
}

impl Follower {
    pub(crate) fn of(source: &str, module: &str, directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        Self {
            source: source.to_owned(),
            module: module.to_owned(),
            directory: directory.to_owned(),
            last_time: 0,
        }
    }

    /// Brings the mirror to what the source's list says.
    #[track_caller]
    pub(crate) fn follow(&mut self) -> Outcome {
        let began = now();
        let name = format!("fullfiletimelist-{}", self.module);
        let fetched = tempfile::tempdir().unwrap();
        self.rsync(&["-t", "--compress"], &[&name], fetched.path());
        let fetched = fetched.path().join(&name);
        let (text, kept) = (fs::read(&fetched).unwrap(), self.directory.join(&name));
        if fs::read(&kept).is_ok_and(|before| before == text) {
            return Outcome::Unchanged;
        }
        let list = List::read(&String::from_utf8(text).unwrap(), self.last_time);

        let (mut files, mut directories) = self.present();
        files.remove(&name);
        let is_stale = |(path, size): &(&String, &u64)| files.get(*path) != Some(size);
        let stale = list.files.iter().filter(is_stale).map(|(path, _)| path);
        let missing = list.directories.difference(&directories);
        let transferred: BTreeSet<String> = list
            .new
            .iter()
            .chain(stale)
            .chain(missing)
            .cloned()
            .collect();
        let names: Vec<&str> = transferred.iter().map(String::as_str).collect();
        // One transfer for all, or hardlinks would be lost between two.
        let directory = self.directory.clone();
        self.rsync(&["-aSH", "--delay-updates"], &names, &directory);

        files.retain(|path, _| !list.files.contains_key(path));
        directories.retain(|path| !list.directories.contains(path));
        for path in files.keys() {
            fs::remove_file(self.directory.join(path)).unwrap();
        }
        // The deepest first.
        for path in directories.iter().rev() {
            fs::remove_dir(self.directory.join(path)).unwrap();
        }
        for (path, checksum) in &list.checksums {
            let path = self.directory.join(path);
            let said = run(program("sha256sum").unwrap().arg(&path))
                .unwrap()
                .stdout;
            assert!(said.starts_with(checksum), "{}", path.display());
        }
        let mut kept_times = program("cp").unwrap();
        run(kept_times
            .arg("--preserve=timestamps")
            .args([&fetched, &kept]))
        .unwrap();
        self.last_time = began;
        let deleted = files.into_keys().chain(directories).collect();
        Outcome::Followed {
            transferred,
            deleted,
        }
    }

    #[track_caller]
    fn rsync(&self, options: &[&str], names: &[&str], directory: &Path) {
        let list = tempfile::NamedTempFile::new().unwrap();
        let mut text = String::new();
        for name in names {
            writeln!(text, "{name}").unwrap();
        }
        fs::write(list.path(), text).unwrap();
        let mut rsync = program("rsync").unwrap();
        rsync.args(options).arg("--files-from").arg(list.path());
        rsync.arg(format!("{}/", self.source)).arg(directory);
        run(&mut rsync).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// The files with their sizes, and the directories, that the mirror has.
    fn present(&self) -> (BTreeMap<String, u64>, BTreeSet<String>) {
        let (mut files, mut directories) = (BTreeMap::new(), BTreeSet::new());
        let mut pending = vec![String::new()];
        while let Some(parent) = pending.pop() {
            for entry in fs::read_dir(self.directory.join(&parent)).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                let path = match parent.as_str() {
                    "" => name,
                    parent => format!("{parent}/{name}"),
                };
                if entry.file_type().unwrap().is_dir() {
                    directories.insert(path.clone());
                    pending.push(path);
                } else {
                    files.insert(path, entry.metadata().unwrap().size());
                }
            }
        }
        (files, directories)
    }
}

impl List {
    #[track_caller]
    fn read(text: &str, last_time: u64) -> Self {
        let mut list = Self {
            files: BTreeMap::new(),
            directories: BTreeSet::new(),
            new: BTreeSet::new(),
            checksums: BTreeMap::new(),
        };
        let (mut section, mut version) = ("", None);
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.strip_suffix(']').unwrap();
                continue;
            }
            let fields: Vec<&str> = line.split('\t').collect();
            match (section, fields.as_slice()) {
                ("Version", [number]) => version = number.parse::<u32>().ok(),
                // Not for everybody: `-`, or `*` until it is released.
                ("Files", [_, kind, _, _]) if kind.ends_with(['-', '*']) => {}
                ("Files", [time, kind, size, path]) => {
                    let path = (*path).to_owned();
                    if time.parse::<u64>().unwrap() >= last_time {
                        list.new.insert(path.clone());
                    }
                    match *kind {
                        "f" => list.files.insert(path, size.parse().unwrap()).is_none(),
                        "d" => list.directories.insert(path),
                        kind => panic!("type {kind}: {line}"),
                    };
                }
                ("Checksums SHA256", [checksum, path]) => {
                    list.checksums
                        .insert((*path).to_owned(), (*checksum).to_owned());
                }
                // Sections to come are none of our business.
                ("Version" | "Files" | "Checksums SHA256", _) => panic!("{section}: {line:?}"),
                _ => {}
            }
        }
        let files = &list.files;
        list.checksums.retain(|path, _| files.contains_key(path));
        assert!(version.is_some_and(|version| version <= 3), "{version:?}");
        assert_eq!((section, text.ends_with('\n')), ("End", true), "it is torn");
        list
    }
}

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}
