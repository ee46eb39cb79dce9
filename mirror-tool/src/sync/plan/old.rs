//! What the tree here consists of, read beside the list of another.

use std::io::BufRead;
use std::iter::Peekable;
use std::vec;

use oci_mirror::tree::list::{ListPath, Reader, Record, Sum};

use super::{Baseline, Held, Refusal};

/// What the tree here consists of, in the order of a list: first what there is, then the sums.
#[derive(Debug)]
pub(super) enum Old<R: BufRead> {
    Nothing,
    List {
        reader: Reader<R>,
        next: Option<Record>,
    },
    Found {
        held: Peekable<vec::IntoIter<Held>>,
        passed: Vec<(ListPath, Sum)>,
        /// How many of them have been passed.
        sums: usize,
    },
}

impl<R: BufRead> Old<R> {
    pub(super) fn new(tree: Baseline<R>) -> Result<Self, Refusal> {
        Ok(match tree {
            Baseline::Nothing => Self::Nothing,
            Baseline::List(list) => {
                let mut reader = Reader::new(list);
                let next = advance(&mut reader)?;
                Self::List { reader, next }
            }
            Baseline::Found(held) => Self::Found {
                held: held.into_iter().peekable(),
                passed: Vec::new(),
                sums: 0,
            },
        })
    }

    /// The next of what there is, if it stands before `end` or there.
    pub(super) fn entry(&mut self, end: Option<&ListPath>) -> Result<Option<Held>, Refusal> {
        let is_wanted = |path: &ListPath| end.is_none_or(|end| path <= end);
        match self {
            Self::Nothing => Ok(None),
            Self::List { reader, next } => match next.take() {
                Some(Record::Entry(entry)) if is_wanted(&entry.path) => {
                    *next = advance(reader)?;
                    Ok(Some(Held {
                        path: entry.path,
                        kind: entry.kind,
                        size: entry.size,
                        sum: None,
                    }))
                }
                other => {
                    *next = other;
                    Ok(None)
                }
            },
            Self::Found { held, passed, .. } => {
                let found = held.next_if(|held| is_wanted(&held.path));
                if let Some(Held {
                    path,
                    sum: Some(sum),
                    ..
                }) = &found
                {
                    passed.push((path.clone(), *sum));
                }
                Ok(found)
            }
        }
    }

    /// The sum of `path`, once all entries have been passed; paths must be asked for in their order.
    pub(super) fn sum(&mut self, path: &ListPath) -> Result<Option<Sum>, Refusal> {
        match self {
            Self::Nothing => Ok(None),
            Self::List { reader, next } => {
                while let Some(Record::Sum(at, sum)) = next {
                    if *at >= *path {
                        return Ok((*at == *path).then_some(*sum));
                    }
                    *next = advance(reader)?;
                }
                Ok(None)
            }
            Self::Found { passed, sums, .. } => {
                while let Some((at, sum)) = passed.get(*sums) {
                    if *at >= *path {
                        return Ok((*at == *path).then_some(*sum));
                    }
                    *sums += 1;
                }
                Ok(None)
            }
        }
    }
}

fn advance<R: BufRead>(reader: &mut Reader<R>) -> Result<Option<Record>, Refusal> {
    reader.next().transpose().map_err(Refusal::Here)
}
