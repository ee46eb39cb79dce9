//! The repositories' own names for what they reach.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use tracing::warn;

use super::disk::{remember, rename, temporary_file_in};
use super::{Error, Image, TreeWriter};
use crate::digest::Digest;
use crate::tree::index::OCI_LAYOUT;
use crate::tree::path::TreePath;

impl TreeWriter {
    /// Whether the repository has all its names for the image, so that nothing new is to be noted.
    pub(super) fn is_linked(&self, image: &Image) -> bool {
        let exists = |path: TreePath| path.under(self.tree.root()).exists();
        exists(TreePath::Layout(image.repo.clone()))
            && image
                .reach
                .iter()
                .all(|digest| exists(TreePath::Link(image.repo.clone(), *digest)))
    }

    /// Step 3: the repository's own names for what the image reaches.
    ///
    /// What was placed just now replaces a link of the same name: that is what is left of content that
    /// was found damaged.
    pub(super) fn link(
        &self,
        image: &Image,
        placed: &HashSet<Digest>,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
        let layout = TreePath::Layout(image.repo.clone());
        let layout_path = layout.under(self.tree.root());
        if !layout_path.exists() {
            self.make_parents(&layout_path, touched)?;
            self.replace(&layout, OCI_LAYOUT)?;
        }
        for digest in &image.reach {
            let link = TreePath::Link(image.repo.clone(), *digest).under(self.tree.root());
            let blob = TreePath::Blob(*digest).under(self.tree.root());
            match fs::hard_link(&blob, &link) {
                Ok(()) => remember(&link, touched),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if placed.contains(digest) {
                        self.replace_link(&blob, &link)?;
                    }
                    // The name may be from a run that did not get to make it durable.
                    remember(&link, touched);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !blob.exists() {
                        return Err(Error::NotStaged {
                            digest: *digest,
                            repo: image.repo.clone(),
                        });
                    }
                    self.make_parents(&link, touched)?;
                    self.link_or_copy(&blob, &link)?;
                }
                Err(_) => {
                    remember(&link, touched);
                    self.link_or_copy(&blob, &link)?;
                }
            }
        }
        Ok(())
    }

    /// Puts a link to `blob` in the place of whatever has the name `link`.
    pub(super) fn replace_link(&self, blob: &Path, link: &Path) -> Result<(), Error> {
        let beside = self.beside(link)?;
        let spare = temporary_file_in(beside.path())?.into_temp_path();
        fs::remove_file(&spare).map_err(|source| Error::write(link, source))?;
        self.link_or_copy(blob, &spare)?;
        rename(&spare, link).map(|_| ())
    }

    /// A hardlink, or a verified-by-construction copy where the file system allows no further link.
    pub(super) fn link_or_copy(&self, blob: &Path, link: &Path) -> Result<(), Error> {
        let error = match fs::hard_link(blob, link) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => error,
        };
        let errno = rustix::io::Errno::from_io_error(&error);
        if !matches!(
            errno,
            Some(rustix::io::Errno::MLINK | rustix::io::Errno::XDEV | rustix::io::Errno::PERM)
        ) {
            return Err(Error::write(link, error));
        }
        if !self.copies_announced.swap(true, Ordering::Relaxed) {
            warn!(path = %link.display(), %error, "cannot hardlink, keeping copies instead");
        }
        self.copy(blob, link)
    }
}
