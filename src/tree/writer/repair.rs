//! Replacing what is damaged: new files take the names of the wrong ones, which are never edited, since
//! the repositories' links share their inode.
//!
//! Unlike publishing, nothing here trusts what has a name already. The order is the same all the same:
//! content is durable before it gets its name, and the canonical name comes before the links. Killed
//! between the two, a link of the wrong content is left, which the next check finds.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::disk::remember;
use super::{Error, TreeWriter, lock};
use crate::digest::Digest;
use crate::tree::blob_hash::BlobHasher;
use crate::tree::index::OCI_LAYOUT;
use crate::tree::path::{RepoDir, TreePath};
use crate::tree::pieces::count_for;

/// How much is read at once.
const BUFFER: usize = 1 << 20;

impl TreeWriter {
    /// Gives staged content its name whatever has it now, and then the links of `repos`.
    pub fn replace_blob(&self, digest: &Digest, repos: &[RepoDir]) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        self.write_held(digest)?;
        let files: Vec<_> = {
            let staged = lock(&self.staged);
            let paths = staged
                .get(digest)
                .into_iter()
                .flat_map(super::Staged::paths);
            paths.map(Path::to_owned).collect()
        };
        self.mark_dirty()?;
        self.sync_files(&files)?;
        let mut touched = BTreeSet::new();
        self.place(*digest, &mut touched)?;
        self.sync_directories(&touched)?;
        self.relink_all(digest, repos)
    }

    /// Makes the links of `repos` links to the tree's own file, which the caller knows to be good.
    pub fn relink(&self, digest: &Digest, repos: &[RepoDir]) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        self.mark_dirty()?;
        self.relink_all(digest, repos)
    }

    /// Stages the content that a repository's link still has; fails if that is wrong too.
    pub fn stage_link(&self, repo: &RepoDir, digest: &Digest) -> Result<(), Error> {
        let path = TreePath::Link(repo.clone(), *digest);
        let file = self.tree.open_file(&path)?;
        let shown = path.under(self.tree.root());
        let metadata = file.metadata();
        let size = metadata
            .map_err(|source| Error::write(&shown, source))?
            .len();
        let mut blob = self.stage(*digest, size)?;
        each_chunk(file, &shown, |bytes| blob.write(bytes))?;
        blob.finish()
    }

    /// Writes the piece hashes of a blob anew; refuses to if the blob is damaged.
    pub fn restore_pieces(&self, digest: &Digest) -> Result<(), Error> {
        let blob = TreePath::Blob(*digest);
        let file = self.tree.open_file(&blob)?;
        let path = blob.under(self.tree.root());
        let metadata = file.metadata();
        let size = metadata
            .map_err(|source| Error::write(&path, source))?
            .len();
        if count_for(size) == 0 {
            return Ok(());
        }
        let mut hasher = BlobHasher::new(digest.algorithm(), size);
        each_chunk(file, &path, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        let (found, pieces) = hasher.finish();
        if found != *digest {
            return Err(Error::Digest {
                expected: *digest,
                found,
            });
        }
        match pieces {
            Some(pieces) => self.replace_small(&TreePath::Pieces(*digest), &pieces.to_bytes()),
            None => Ok(()),
        }
    }

    /// Writes the `oci-layout` of a repository anew.
    pub fn restore_layout(&self, repo: &RepoDir) -> Result<(), Error> {
        self.replace_small(&TreePath::Layout(repo.clone()), OCI_LAYOUT)
    }

    fn replace_small(&self, path: &TreePath, bytes: &[u8]) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        self.mark_dirty()?;
        let mut touched = BTreeSet::new();
        self.make_parents(&path.under(self.tree.root()), &mut touched)?;
        self.replace(path, bytes)?;
        self.sync_directories(&touched)
    }

    fn relink_all(&self, digest: &Digest, repos: &[RepoDir]) -> Result<(), Error> {
        let blob = TreePath::Blob(*digest).under(self.tree.root());
        let identity = |path: &Path| {
            let metadata = fs::symlink_metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let mut touched = BTreeSet::new();
        for repo in repos {
            let link = TreePath::Link(repo.clone(), *digest).under(self.tree.root());
            if identity(&link).is_some() && identity(&link) == identity(&blob) {
                continue;
            }
            self.make_parents(&link, &mut touched)?;
            self.replace_link(&blob, &link)?;
            remember(&link, &mut touched);
        }
        self.sync_directories(&touched)
    }
}

/// Reads a file to its end, a piece of memory at a time.
fn each_chunk(
    mut file: File,
    path: &Path,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::write(path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    /// A tree with one blob that two repositories link.
    fn bench(content: &[u8]) -> (tempfile::TempDir, TreeWriter, Digest, Vec<RepoDir>) {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let digest = Algorithm::Sha256.digest(content);
        let repos: Vec<RepoDir> = vec!["a".parse().unwrap(), "b/c".parse().unwrap()];
        writer.stage_bytes(digest, content).unwrap();
        writer.replace_blob(&digest, &repos).unwrap();
        (dir, writer, digest, repos)
    }

    #[track_caller]
    fn sound(dir: &Path, digest: &Digest, repos: &[RepoDir], content: &[u8]) {
        let blob = TreePath::Blob(*digest).under(dir);
        for repo in repos {
            let link = TreePath::Link(repo.clone(), *digest).under(dir);
            assert!(fs::read(&link).unwrap() == content);
            assert_eq!(
                fs::metadata(&link).unwrap().ino(),
                fs::metadata(&blob).unwrap().ino()
            );
        }
    }

    #[test]
    fn wrong_content_of_the_right_length_is_replaced_under_every_name() {
        let (dir, writer, digest, repos) = bench(b"right");
        let blob = TreePath::Blob(digest).under(dir.path());
        let wrong = fs::File::open(&blob).unwrap();
        fs::write(&blob, b"wrong").unwrap();
        writer.stage_bytes(digest, b"right").unwrap();
        writer.replace_blob(&digest, &repos).unwrap();
        sound(dir.path(), &digest, &repos, b"right");
        // Whoever reads the old file goes on reading the old file.
        assert_eq!(wrong.metadata().unwrap().nlink(), 0);
        assert_eq!(writer.holds(&digest).unwrap(), Some(5));
    }

    #[test]
    fn a_link_of_its_own_gives_back_what_the_tree_lost() {
        let (dir, writer, digest, repos) = bench(b"right");
        fs::remove_file(TreePath::Blob(digest).under(dir.path())).unwrap();
        writer.stage_link(&repos[1], &digest).unwrap();
        writer.replace_blob(&digest, &repos).unwrap();
        sound(dir.path(), &digest, &repos, b"right");

        let link = TreePath::Link(repos[0].clone(), digest).under(dir.path());
        fs::write(link, b"wrong").unwrap();
        let error = writer.stage_link(&repos[0], &digest).unwrap_err();
        assert!(error.is_wrong_content(), "{error}");
    }

    #[test]
    fn missing_links_and_pieces_come_back() {
        let content = vec![7; 3 << 20];
        let (dir, writer, digest, repos) = bench(&content);
        let pieces = TreePath::Pieces(digest).under(dir.path());
        let before = fs::read(&pieces).unwrap();
        fs::remove_dir_all(dir.path().join("pieces")).unwrap();
        fs::remove_dir_all(dir.path().join("repos")).unwrap();
        writer.restore_pieces(&digest).unwrap();
        writer.relink(&digest, &repos).unwrap();
        writer.restore_layout(&repos[0]).unwrap();
        assert!(fs::read(&pieces).unwrap() == before);
        sound(dir.path(), &digest, &repos, &content);
        assert!(
            TreePath::Layout(repos[0].clone())
                .under(dir.path())
                .exists()
        );
    }

    #[test]
    fn no_pieces_are_made_of_wrong_content() {
        let (dir, writer, digest, _) = bench(&vec![7; 2 << 20]);
        fs::write(TreePath::Blob(digest).under(dir.path()), vec![8; 2 << 20]).unwrap();
        let error = writer.restore_pieces(&digest).unwrap_err();
        assert!(error.is_wrong_content(), "{error}");
    }
}
