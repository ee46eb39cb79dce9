//! Writing a list, hashed on the way.

use std::io::{self, Write};

use super::{Entry, ListPath, Sum, VERSION};
use crate::digest::{Algorithm, Digest, Hasher};

/// Writes a list line by line: entries first, then sums, each sorted by the caller.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    hasher: Hasher,
    section: Section,
}

#[derive(Debug, PartialEq, Eq)]
enum Section {
    Files,
    Sums,
}

impl<W: Write> Writer<W> {
    /// Begins a list.
    pub fn new(to: W) -> io::Result<Self> {
        let mut writer = Self {
            to,
            hasher: Algorithm::Sha256.hasher(),
            section: Section::Files,
        };
        writer.put(&format!("[Version]\n{VERSION}\n\n[Files]\n"))?;
        Ok(writer)
    }

    /// Writes the next file or directory.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        if self.section != Section::Files {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a list has its files before its sums",
            ));
        }
        self.put(&format!("{entry}\n"))
    }

    /// Writes the SHA-256 of a file that was listed.
    pub fn sum(&mut self, path: &ListPath, sum: &Sum) -> io::Result<()> {
        self.begin_sums()?;
        self.put(&format!("{}\t{path}\n", Digest::Sha256(*sum).hex()))
    }

    /// Ends the list; returns what it was written to, and the digest of its bytes.
    pub fn finish(mut self) -> io::Result<(W, Digest)> {
        self.begin_sums()?;
        self.put("\n[End]\n")?;
        self.to.flush()?;
        Ok((self.to, self.hasher.finish()))
    }

    fn begin_sums(&mut self) -> io::Result<()> {
        if self.section == Section::Sums {
            return Ok(());
        }
        self.section = Section::Sums;
        self.put("\n[Checksums SHA256]\n")
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        self.hasher.update(text.as_bytes());
        self.to.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::list::{Access, Kind};

    #[test]
    fn a_list_has_the_shape_that_clients_read() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        let path: ListPath = "repos/a/index.json".parse().unwrap();
        let entry = Entry {
            time: 1_767_700_953,
            kind: Kind::File,
            access: Access::Public,
            size: 282,
            path: path.clone(),
        };
        writer.entry(&entry).unwrap();
        writer.sum(&path, &[0xab; 32]).unwrap();
        assert!(writer.entry(&entry).is_err());
        let (bytes, digest) = writer.finish().unwrap();
        let expected = format!(
            "[Version]\n3\n\n[Files]\n1767700953\tf\t282\trepos/a/index.json\n\n\
             [Checksums SHA256]\n{}\trepos/a/index.json\n\n[End]\n",
            "ab".repeat(32)
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        assert_eq!(digest, Algorithm::Sha256.digest(expected.as_bytes()));
    }
}
