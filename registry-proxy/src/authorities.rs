//! Certificate authorities that are trusted beside the system's: those of a closed network.

use std::io;
use std::path::{Path, PathBuf};

use reqwest::Certificate;

/// Reads files of certificates in PEM, each of which must hold one at least. Blocks.
pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Certificate>, Error> {
    let mut authorities = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let bytes = std::fs::read(path).map_err(|source| Error::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let found = Certificate::from_pem_bundle(&bytes).map_err(|source| Error::Other {
            path: path.to_owned(),
            source,
        })?;
        if found.is_empty() {
            return Err(Error::Empty {
                path: path.to_owned(),
            });
        }
        authorities.extend(found);
    }
    Ok(authorities)
}

/// Why authorities cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read the certificate authorities in {}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} does not hold certificates", .path.display())]
    Other {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: reqwest::Error,
    },
    /// A file holds none.
    #[error("{} holds no certificate", .path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_authority_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authority.pem");
        let read = || read(&[&path]);
        assert!(matches!(read(), Err(Error::Unreadable { .. })));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(matches!(read(), Err(Error::Empty { .. })));
        let nonsense = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, nonsense).unwrap();
        assert!(matches!(read(), Err(Error::Other { .. })));
    }
}
