//! The directory with the files, and how they are replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{self as unix, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use oci_mirror::digest::Digest;
use oci_mirror::tree::{RepoDir, TreePath};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::links::Links;

const MANIFESTS: &str = "_manifests";
const TAGS: &str = "_tags";
const MADE: &str = "_made";
const PING: &str = "_v2";

/// What a name has before it gets its place; no tag begins so.
const NEW: &str = ".new";

/// The files beside a tree, held by one writer at a time.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    /// The way from the directory to the tree.
    to_tree: PathBuf,
    /// Whose directories are.
    owner: Option<Owner>,
    /// Held as long as it is open.
    _lock: File,
}

impl Files {
    /// Opens the directory, making it if it is not there, and waits until nobody else writes it.
    pub(super) fn open(tree: &Path, directory: &Path) -> anyhow::Result<Self> {
        let shown = directory.display();
        let tree =
            fs::canonicalize(tree).with_context(|| format!("cannot open {}", tree.display()))?;
        let owner = Owner::of(&fs::metadata(&tree)?);
        make_directory(directory, owner).with_context(|| format!("cannot make {shown}"))?;
        let directory =
            fs::canonicalize(directory).with_context(|| format!("cannot open {shown}"))?;
        if directory.starts_with(&tree) || tree.starts_with(&directory) {
            bail!(
                "{shown} must be beside the tree {}, neither in it nor around it",
                tree.display()
            );
        }
        let lock = File::open(&directory).with_context(|| format!("cannot open {shown}"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {shown}"))?;
        let files = Self {
            owner: Owner::of(&lock.metadata()?),
            to_tree: way(&directory, &tree),
            directory,
            _lock: lock,
        };
        let ping = files.directory.join(PING);
        if fs::read(&ping).ok().as_deref() != Some(b"{}") {
            write(&ping, b"{}", &files.directory)?;
        }
        Ok(files)
    }

    /// What the files made from an index say they were made from.
    pub(super) fn stamp(&self, index: &Digest) -> String {
        format!("1 {index} {}\n", self.to_tree.display())
    }

    /// Whether the files of a repository were made from what the stamp says.
    pub(super) fn is_made_from(&self, repo: &RepoDir, stamp: &str) -> bool {
        fs::read_to_string(self.of(repo).join(MADE)).is_ok_and(|made| made == stamp)
    }

    /// Makes the files of a repository what they are to be: what is new comes before what is old goes.
    pub(super) fn replace(
        &self,
        repo: &RepoDir,
        links: &Links,
        stamp: Option<&str>,
    ) -> anyhow::Result<()> {
        let top = self.of(repo);
        let manifests = top.join(MANIFESTS);
        make_directory(&manifests, self.owner)
            .with_context(|| format!("cannot make {}", manifests.display()))?;
        // A run that is cut short must not leave the word for files that are not those any more.
        remove_file(&top.join(MADE))?;
        let mut present = names(&manifests)?;
        let up = std::iter::repeat_n("..", repo.name().components().count() + 1);
        let up: PathBuf = up.collect();
        for (name, digest) in &links.names {
            let target = up
                .join(&self.to_tree)
                .join(TreePath::Blob(*digest).to_string());
            if present.remove(name) != Some(target.clone()) {
                link(&target, &manifests.join(name), &manifests)?;
            }
        }
        let tags: Vec<&str> = links
            .tags
            .iter()
            .map(oci_mirror::reference::Tag::as_str)
            .collect();
        let tags = serde_json::json!({"name": repo.name().as_str(), "tags": tags});
        write(&top.join(TAGS), tags.to_string().as_bytes(), &manifests)?;
        for name in present.keys() {
            remove_file(&manifests.join(name))?;
        }
        match stamp {
            Some(stamp) => write(&top.join(MADE), stamp.as_bytes(), &manifests),
            None => Ok(()),
        }
    }

    /// The repositories there are files of.
    pub(super) fn repositories(&self) -> anyhow::Result<BTreeSet<RepoDir>> {
        let mut found = BTreeSet::new();
        let mut pending = vec![String::new()];
        while let Some(parent) = pending.pop() {
            let path = self.directory.join(&parent);
            for entry in
                fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?
            {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if name == MANIFESTS {
                    found.extend(parent.parse::<RepoDir>());
                }
                let child = match parent.as_str() {
                    "" => name,
                    parent => format!("{parent}/{name}"),
                };
                if child.parse::<RepoDir>().is_ok() && entry.file_type()?.is_dir() {
                    pending.push(child);
                }
            }
        }
        Ok(found)
    }

    /// Removes the files of a repository, and the directories that are empty then.
    pub(super) fn remove(&self, repo: &RepoDir) -> anyhow::Result<()> {
        let top = self.of(repo);
        remove_file(&top.join(MADE))?;
        remove_file(&top.join(TAGS))?;
        let manifests = top.join(MANIFESTS);
        for name in names(&manifests)?.keys() {
            remove_file(&manifests.join(name))?;
        }
        let below = |directory: &&Path| *directory != self.directory;
        for directory in manifests.ancestors().take_while(below) {
            match fs::remove_dir(directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => break,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot remove {}", directory.display()));
                }
            }
        }
        Ok(())
    }

    fn of(&self, repo: &RepoDir) -> PathBuf {
        self.directory.join(repo.name().as_str())
    }
}

/// The way from one directory to another, of which neither is in the other.
fn way(from: &Path, to: &Path) -> PathBuf {
    let common = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(common).map(|_| "..");
    let mut way: PathBuf = up.collect();
    way.extend(to.components().skip(common));
    way
}

/// What there is for manifests, with what each name points at; nothing for what is no link.
fn names(manifests: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let failed = || format!("cannot list {}", manifests.display());
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(manifests).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.insert(name, fs::read_link(entry.path()).unwrap_or_default());
        }
    }
    Ok(found)
}

/// To whom root gives the directories it makes, so that whoever follows the tree can go on with them. Whoever
/// has a directory may replace all that is in it, so files and links stay as they are made.
#[derive(Debug, Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// The owner of something that is there; `None` unless this is root, as nobody else can give anything away.
    fn of(metadata: &fs::Metadata) -> Option<Self> {
        rustix::process::geteuid().is_root().then(|| Self {
            user: metadata.uid(),
            group: metadata.gid(),
        })
    }
}

/// Makes a directory with those above it. Everybody may read it: a server of another account hands it out.
fn make_directory(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match parent {
        parent if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent,
    };
    make_directory(parent, owner)?;
    // All by the parent that was opened: what is given away is what was made, whatever becomes of the path.
    let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) if path.is_dir() => return Ok(()),
        made => made?,
    }
    let made = rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let made = File::from(made);
    made.set_permissions(fs::Permissions::from_mode(0o755))?;
    match owner {
        Some(owner) => unix::fchown(&made, Some(owner.user), Some(owner.group)),
        None => Ok(()),
    }
}

fn link(target: &Path, path: &Path, beside: &Path) -> anyhow::Result<()> {
    let new = beside.join(NEW);
    remove_file(&new)?;
    unix::symlink(target, &new)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot link {}", path.display()))
}

fn write(path: &Path, bytes: &[u8], beside: &Path) -> anyhow::Result<()> {
    let new = beside.join(NEW);
    remove_file(&new)?;
    let write = || {
        let mut file = File::create_new(&new)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_goes_up_to_what_is_common() {
        for (from, to, expected) in [
            ("/srv/containers.v2", "/srv/containers", "../containers"),
            ("/var/lib/v2", "/srv/a/b", "../../../srv/a/b"),
        ] {
            assert_eq!(way(Path::new(from), Path::new(to)), Path::new(expected));
        }
    }
}
