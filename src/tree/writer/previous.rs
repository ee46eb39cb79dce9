//! The file list in place, asked about one path after the other.

use std::cmp::Ordering;
use std::fs::File;
use std::io::BufReader;

use crate::digest::Algorithm;
use crate::tree::list::{Entry, ListPath, Reader, Record, Sum};
use crate::tree::path::TreePath;
use crate::tree::reader::{Error, Tree};
use crate::tree::state::ListRef;

/// The list that the state in place names.
///
/// Lists are sorted, and so are the questions, so the answers cost two readings and no memory. A list
/// that is not what the state says is not believed: sums are taken over from it.
pub(super) struct Previous {
    entries: Cursor<Entry>,
    sums: Cursor<Sum>,
}

impl Previous {
    /// Opens the list, unless it is not there or not the one that is meant.
    pub(super) fn open(tree: &Tree, list: &ListRef) -> Result<Option<Self>, Error> {
        let path = TreePath::List(list.module.clone());
        let opened = || match tree.open_file(&path) {
            Err(error) if error.is_not_found() => Ok(None),
            file => file.map(Some),
        };
        let (Some(bytes), Some(entries), Some(sums)) = (opened()?, opened()?, opened()?) else {
            return Ok(None);
        };
        let digest = Algorithm::Sha256
            .digest_of(bytes)
            .map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?;
        if digest != list.digest {
            return Ok(None);
        }
        let entries = records(entries).filter_map(|record| match record {
            Record::Entry(entry) => Some((entry.path.clone(), entry)),
            Record::Sum(..) => None,
        });
        let sums = records(sums).filter_map(|record| match record {
            Record::Sum(path, sum) => Some((path, sum)),
            Record::Entry(_) => None,
        });
        Ok(Some(Self {
            entries: Cursor::new(entries),
            sums: Cursor::new(sums),
        }))
    }

    /// What the list says about `path`; paths must be asked for in their order.
    pub(super) fn at(&mut self, path: &ListPath) -> (Option<Entry>, Option<Sum>) {
        (self.entries.seek(path), self.sums.seek(path))
    }
}

/// Records by their path, of which only the next one is in memory.
struct Cursor<T> {
    next: Option<(ListPath, T)>,
    rest: Box<dyn Iterator<Item = (ListPath, T)>>,
}

impl<T> Cursor<T> {
    fn new(records: impl Iterator<Item = (ListPath, T)> + 'static) -> Self {
        let mut rest = Box::new(records);
        Self {
            next: rest.next(),
            rest,
        }
    }

    fn seek(&mut self, path: &ListPath) -> Option<T> {
        loop {
            match self.next.as_ref()?.0.cmp(path) {
                Ordering::Less => self.next = self.rest.next(),
                Ordering::Equal => {
                    let found = self.next.take();
                    self.next = self.rest.next();
                    return found.map(|(_, record)| record);
                }
                Ordering::Greater => return None,
            }
        }
    }
}

/// The records of a list whose digest is right: what could not be read of it is only not known.
fn records(file: File) -> impl Iterator<Item = Record> {
    Reader::new(BufReader::new(file)).map_while(Result::ok)
}
