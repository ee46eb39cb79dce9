//! What the tree here consists of, read beside the list of another.

use std::io::BufRead;
use std::iter::Peekable;
use std::vec;

use oci_mirror::tree::list::{Line, ListPath, Reader, Record, Sum};

use super::{Baseline, Held, Refusal};

/// What the tree here consists of, in the order of a list: first what there is, then the sums.
#[derive(Debug)]
pub(super) enum Old<R: BufRead> {
    Nothing,
    List {
        reader: Reader<R>,
        /// What its line says, if somebody had to know.
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
                reader.advance().map_err(Refusal::Here)?;
                Self::List { reader, next: None }
            }
            Baseline::Found(held) => Self::Found {
                held: held.into_iter().peekable(),
                passed: Vec::new(),
                sums: 0,
            },
        })
    }

    /// Passes the next line of a list here if the one over there says the same in the same words.
    pub(super) fn passes(&mut self, line: &Line<'_>) -> Result<bool, Refusal> {
        let Self::List { reader, next } = self else {
            return Ok(false);
        };
        let is_same = reader.line().is_some_and(|own| own.is_same(line));
        if is_same {
            go_on(reader, next)?;
        }
        Ok(is_same)
    }

    /// The next of what there is, if it stands before `end` or there.
    pub(super) fn entry(&mut self, end: Option<&ListPath>) -> Result<Option<Held>, Refusal> {
        let is_wanted = |path: &ListPath| end.is_none_or(|end| path <= end);
        match self {
            Self::Nothing => Ok(None),
            Self::List { reader, next } => match parsed(reader, next)? {
                Some(Record::Entry(entry)) if is_wanted(&entry.path) => {
                    let held = Held {
                        path: entry.path.clone(),
                        kind: entry.kind,
                        size: entry.size,
                        sum: None,
                    };
                    go_on(reader, next)?;
                    Ok(Some(held))
                }
                _ => Ok(None),
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
                while let Some(Record::Sum(at, sum)) = parsed(reader, next)? {
                    if *at >= *path {
                        return Ok((*at == *path).then_some(*sum));
                    }
                    go_on(reader, next)?;
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

/// Goes to the next line of a list.
fn go_on<R: BufRead>(reader: &mut Reader<R>, next: &mut Option<Record>) -> Result<(), Refusal> {
    *next = None;
    reader.advance().map(drop).map_err(Refusal::Here)
}

/// What the line of a list says; parsed once, however often it is asked for.
fn parsed<'a, R: BufRead>(
    reader: &Reader<R>,
    next: &'a mut Option<Record>,
) -> Result<Option<&'a Record>, Refusal> {
    if next.is_none() {
        let record = reader.line().map(|line| line.record());
        *next = record.transpose().map_err(Refusal::Here)?;
    }
    Ok(next.as_ref())
}
