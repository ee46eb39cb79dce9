//! Whether a file is what it should be.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci_mirror::digest::Digest;
use oci_mirror::tree::blob_hash::BlobHasher;
use oci_mirror::tree::pieces::Pieces;
use oci_mirror::tree::{TreePath, writer};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Staging, failed};
use crate::sync::{Proof, Wanted};

/// How much is read at once.
const BUFFER: u64 = 128 << 10;

/// What is known of a file that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The hashes of its pieces, if it is a blob that has any.
    pub pieces: Option<Pieces>,
}

/// Which file was read, and in which state: whoever puts another one in its place, or writes to it, changes this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sync) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&fs::Metadata> for Identity {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Why a fetched file is not what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// It is a link, a device, or has further names.
    #[error("it is no file of its own")]
    NotAFile,
    /// It has another length than the list says.
    #[error("it has {is} bytes, and the list says {should}")]
    Size {
        /// The length by the list.
        should: u64,
        /// Its length; of one that is longer, as much as was looked at.
        is: u64,
    },
    /// Its content is another.
    #[error("its content is {is}, not {should}")]
    Digest {
        /// The digest it should have.
        should: Digest,
        /// The digest it has.
        is: Digest,
    },
    /// Nothing says what its content should be.
    #[error("nothing says what its content should be")]
    Unproven,
    /// Our own disk: it says nothing of the file.
    #[error(transparent)]
    Disk(writer::Error),
}

impl Wanted {
    /// The digest that its content must have.
    pub fn digest(&self) -> Option<Digest> {
        match (&self.proof, &self.path) {
            (Proof::Sum(sum), _) => Some(Digest::Sha256(*sum)),
            (Proof::Name, TreePath::Blob(digest) | TreePath::Link(_, digest)) => Some(*digest),
            (
                Proof::Name,
                TreePath::Pieces(_)
                | TreePath::Layout(_)
                | TreePath::Index(_)
                | TreePath::State
                | TreePath::List(_)
                | TreePath::DirectorySizes,
            ) => None,
        }
    }
}

/// Length and content of a file, compared with what was wanted while its bytes come by.
#[derive(Debug)]
pub(in crate::sync) struct Comparison {
    should: Digest,
    size: u64,
    /// How many bytes have come by.
    seen: u64,
    hasher: BlobHasher,
}

impl Comparison {
    pub(in crate::sync) fn new(wanted: &Wanted) -> Result<Self, Wrong> {
        let should = wanted.digest().ok_or(Wrong::Unproven)?;
        // Only of a blob does anybody want the pieces.
        let size = match wanted.path {
            TreePath::Blob(_) => wanted.size,
            _ => 0,
        };
        Ok(Self {
            should,
            size: wanted.size,
            seen: 0,
            hasher: BlobHasher::new(should.algorithm(), size),
        })
    }

    /// How many bytes have come by.
    pub(in crate::sync) fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes the next bytes; more than there may be are wrong at once.
    pub(in crate::sync) fn update(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(Wrong::Size {
                should: self.size,
                is: self.seen,
            });
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Whether that was all of it, and right.
    pub(in crate::sync) fn finish(self) -> Result<Verified, Wrong> {
        if self.seen != self.size {
            return Err(Wrong::Size {
                should: self.size,
                is: self.seen,
            });
        }
        let (is, pieces) = self.hasher.finish();
        if is != self.should {
            let should = self.should;
            return Err(Wrong::Digest { should, is });
        }
        Ok(Verified { pieces })
    }
}

impl Staging {
    /// Whether a file is there and right; one that is not is removed.
    pub fn verify(&self, wanted: &Wanted) -> Result<Verified, Wrong> {
        self.verify_one(wanted).map(|(verified, _)| verified)
    }

    /// The same, and which file it was that is right.
    pub(in crate::sync) fn verify_one(
        &self,
        wanted: &Wanted,
    ) -> Result<(Verified, Identity), Wrong> {
        let generation = self.generation();
        let result = self.read(wanted).and_then(|(verified, identity)| {
            self.keep_pieces(wanted, &verified).map_err(Wrong::Disk)?;
            Ok((verified, identity))
        });
        match &result {
            Ok(_) => self.note(&wanted.path, generation),
            Err(Wrong::Disk(_)) => {}
            Err(wrong) => {
                self.right().paths.remove(&wanted.path);
                if !matches!(wrong, Wrong::Missing) {
                    // Whatever it is: what stays is found wrong again.
                    let _ = discard(&self.path(&wanted.path));
                }
            }
        }
        result
    }

    /// Whether there is still the file under a path that was found right.
    pub(in crate::sync) fn is_still(&self, path: &TreePath, identity: Identity) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok_and(|found| Identity::from(&found) == identity)
    }

    /// Writes down the hashes of the pieces of a blob, if it has any.
    pub(in crate::sync) fn keep_pieces(
        &self,
        wanted: &Wanted,
        verified: &Verified,
    ) -> Result<(), writer::Error> {
        let (TreePath::Blob(digest), Some(pieces)) = (&wanted.path, &verified.pieces) else {
            return Ok(());
        };
        let path = self.path(&TreePath::Pieces(*digest));
        let file = self.create(&path)?;
        io::Write::write_all(&mut &file, &pieces.to_bytes())
            .and_then(|()| make_readable(&file, None))
            .map_err(|source| failed(&path, source))
    }

    fn read(&self, wanted: &Wanted) -> Result<(Verified, Identity), Wrong> {
        let disk = |source| Wrong::Disk(failed(&self.path(&wanted.path), source));
        let mut comparison = Comparison::new(wanted)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Nobody but rsync writes here, and it speaks with strangers.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let path = wanted.path.to_string();
        let opened =
            rustix::fs::openat2(&self.0.handle, path.as_str(), flags, Mode::empty(), resolve);
        let mut file = match opened {
            Ok(handle) => File::from(handle),
            Err(rustix::io::Errno::NOENT) => return Err(Wrong::Missing),
            // All files of ours can be read, and no socket can.
            Err(
                rustix::io::Errno::LOOP
                | rustix::io::Errno::NOTDIR
                | rustix::io::Errno::ACCESS
                | rustix::io::Errno::NXIO,
            ) => return Err(Wrong::NotAFile),
            Err(errno) => return Err(disk(errno.into())),
        };
        let metadata = file.metadata().map_err(disk)?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(Wrong::NotAFile);
        }
        if metadata.len() != wanted.size {
            return Err(Wrong::Size {
                should: wanted.size,
                is: metadata.len(),
            });
        }
        let length = usize::try_from(wanted.size.clamp(1, BUFFER)).unwrap_or(1);
        let mut buffer = vec![0; length];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => comparison.update(&buffer[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(disk(error)),
            }
        }
        let verified = comparison.finish()?;
        make_readable(&file, None).map_err(disk)?;
        let identity = Identity::from(&file.metadata().map_err(disk)?);
        Ok((verified, identity))
    }
}

/// Removes whatever there is, a directory with all that is in it, whatever its permissions.
pub(in crate::sync) fn discard(path: &Path) -> io::Result<()> {
    let is_gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    match fs::symlink_metadata(path) {
        Err(error) => is_gone(Err(error)),
        Ok(metadata) if metadata.is_dir() => {
            make_passable(path, &metadata)?;
            for entry in fs::read_dir(path)? {
                discard(&entry?.path())?;
            }
            is_gone(fs::remove_dir(path))
        }
        Ok(_) => is_gone(fs::remove_file(path)),
    }
}

/// Sees to it that we may look into a directory of ours and remove what is there.
pub(super) fn make_passable(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.mode() & 0o700 == 0o700 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Gives a file the permissions and the time it is going to have under its name.
pub(in crate::sync) fn make_readable(file: &File, time: Option<i64>) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.mode() & 0o7777 != 0o644 {
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    match time.and_then(|time| u64::try_from(time).ok()) {
        Some(time) => file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(time)),
        None => Ok(()),
    }
}
