//! Reading a list that somebody else wrote: strict, one line after the other.

use std::io::{self, BufRead, Read as _};
use std::str::FromStr;

use super::{Access, Entry, InvalidPath, Kind, ListPath, MAX_LINE, Record, Sum, VERSION};
use crate::digest::{Algorithm, Digest};
use crate::excerpt::Excerpt;

/// The records of a list, one after the other.
///
/// It ends without an error only at `[End]`: whoever got `None` has seen a whole list. After an error it
/// yields nothing more. How long a list may be is for the caller to say, who knows where it came from.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    line: String,
    number: u64,
    section: Section,
    versioned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// Before the first heading.
    Start,
    Version,
    Files,
    Sha256,
    /// Sums of other algorithms, and what later tools may add.
    Unknown,
    /// After `[End]`, or after an error.
    End,
}

/// A line of a list that says something of a file, as it stands there: nothing of it is checked yet.
///
/// Most lines of two lists of the same tree are the same, and need not be parsed to find that out.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    text: &'a str,
    section: Section,
    number: u64,
}

impl<'a> Line<'a> {
    /// What it says.
    pub fn record(&self) -> Result<Record, Error> {
        let record = match self.section {
            Section::Sha256 => sum(self.text).map(|(path, sum)| Record::Sum(path, sum)),
            _ => entry(self.text).map(Record::Entry),
        };
        record.map_err(|source| Error::Line {
            line: self.number,
            source,
        })
    }

    /// Whether another list says the same in these very words.
    pub fn is_same(&self, other: &Line<'_>) -> bool {
        self.section == other.section && self.text == other.text
    }

    /// The path of an entry; `None` for a sum.
    pub fn path_of_entry(&self) -> Option<&'a str> {
        let is_entry = self.section == Section::Files;
        self.text.splitn(4, '\t').nth(3).filter(|_| is_entry)
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads a list from `from`.
    pub fn new(from: R) -> Self {
        Self {
            from,
            line: String::new(),
            number: 0,
            section: Section::Start,
            versioned: false,
        }
    }

    /// Goes to the next line that says something; `false` at the end of a whole list. After an error that is the
    /// end, too.
    pub fn advance(&mut self) -> Result<bool, Error> {
        if self.section == Section::End {
            return Ok(false);
        }
        let found = self.find();
        if !matches!(found, Ok(true)) {
            self.section = Section::End;
        }
        found
    }

    /// The line that was found last; `None` before the first and after the last.
    pub fn line(&self) -> Option<Line<'_>> {
        matches!(self.section, Section::Files | Section::Sha256).then_some(Line {
            text: &self.line,
            section: self.section,
            number: self.number,
        })
    }

    fn find(&mut self) -> Result<bool, Error> {
        while self.section != Section::End {
            let number = self.number + 1;
            if !self.next_line(number)? {
                return Err(Error::Torn { line: number });
            }
            self.number = number;
            let line = self.line.as_str();
            if line.is_empty() {
                continue;
            }
            let at = |source| Error::Line {
                line: number,
                source,
            };
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                self.section = match name {
                    "Version" if !self.versioned => Section::Version,
                    "Version" => return Err(at(Problem::Heading(Excerpt(name).into()))),
                    _ if !self.versioned => return Err(at(Problem::NoVersion)),
                    "Files" => Section::Files,
                    "Checksums SHA256" => Section::Sha256,
                    "End" => Section::End,
                    _ => Section::Unknown,
                };
                continue;
            }
            match self.section {
                Section::Start => return Err(at(Problem::NoVersion)),
                Section::Version => {
                    self.versioned = !self.versioned && is_known(line);
                    if !self.versioned {
                        return Err(at(Problem::Version(Excerpt(line).into())));
                    }
                }
                Section::Files | Section::Sha256 => return Ok(true),
                Section::Unknown | Section::End => {}
            }
        }
        // Two lists in one file, or one that was written over a longer one.
        while self.next_line(self.number + 1)? {
            self.number += 1;
            if !self.line.is_empty() {
                return Err(Error::Line {
                    line: self.number,
                    source: Problem::AfterEnd,
                });
            }
        }
        Ok(false)
    }

    /// Reads the next line, without its end; `false` at the end of the file. A line that does not end is torn.
    fn next_line(&mut self, number: u64) -> Result<bool, Error> {
        let mut line = std::mem::take(&mut self.line).into_bytes();
        line.clear();
        let mut bounded = self.from.by_ref().take(MAX_LINE as u64 + 1);
        bounded
            .read_until(b'\n', &mut line)
            .map_err(|source| Error::Read {
                line: number,
                source,
            })?;
        let at = |source| Error::Line {
            line: number,
            source,
        };
        match line.pop() {
            None => return Ok(false),
            Some(b'\n') => {}
            Some(_) if line.len() >= MAX_LINE => return Err(at(Problem::TooLong)),
            Some(_) => return Err(Error::Torn { line: number }),
        }
        self.line = String::from_utf8(line).map_err(|_| at(Problem::NotText))?;
        Ok(true)
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.advance() {
            Ok(_) => self.line()?.record(),
            Err(error) => Err(error),
        };
        if record.is_err() {
            self.section = Section::End;
        }
        Some(record)
    }
}

/// A whole list in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileList {
    /// The files and directories, in the order of the list.
    pub entries: Vec<Entry>,
    /// The SHA-256 of some of them.
    pub sums: Vec<(ListPath, Sum)>,
}

impl FileList {
    /// Reads a whole list; needs memory for all of it.
    pub fn read(from: impl BufRead) -> Result<Self, Error> {
        let mut list = Self::default();
        for record in Reader::new(from) {
            match record? {
                Record::Entry(entry) => list.entries.push(entry),
                Record::Sum(path, sum) => list.sums.push((path, sum)),
            }
        }
        Ok(list)
    }
}

fn is_known(version: &str) -> bool {
    version
        .parse::<u32>()
        .is_ok_and(|version| (1..=VERSION).contains(&version))
}

fn entry(line: &str) -> Result<Entry, Problem> {
    let (time, rest) = column(line)?;
    let (kind, rest) = column(rest)?;
    let (size, path) = column(rest)?;
    let (kind, access) = kind_and_access(kind)?;
    Ok(Entry {
        time: number(time)?,
        kind,
        access,
        size: number(size)?,
        path: path.parse()?,
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, Problem> {
    // The standard parser would take a plus sign too.
    let digits = (!text.starts_with('+')).then_some(text);
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Problem::Number(Excerpt(text).into()))
}

fn kind_and_access(text: &str) -> Result<(Kind, Access), Problem> {
    let wrong = || Problem::Kind(Excerpt(text).into());
    let (kind, mark) = text.split_at_checked(1).ok_or_else(wrong)?;
    let kind = match kind {
        "f" => Kind::File,
        "d" => Kind::Directory,
        "l" => Kind::Link,
        _ => return Err(wrong()),
    };
    let access = match mark {
        "" => Access::Public,
        "-" => Access::Restricted,
        "*" => Access::Unreleased,
        _ => return Err(wrong()),
    };
    Ok((kind, access))
}

/// The first column of a line, and what follows it.
fn column(line: &str) -> Result<(&str, &str), Problem> {
    line.split_once('\t').ok_or(Problem::Columns)
}

fn sum(line: &str) -> Result<(ListPath, Sum), Problem> {
    let (hex, path) = column(line)?;
    match Digest::from_parts(Algorithm::Sha256, hex) {
        Ok(Digest::Sha256(sum)) => Ok((path.parse()?, sum)),
        _ => Err(Problem::Sum(Excerpt(hex).into())),
    }
}

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system's doing.
    #[error("cannot read line {line} of a file list")]
    Read {
        /// Which line, counted from one.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends before its `[End]`.
    #[error("the file list is torn: it ends at line {line}, before its [End]")]
    Torn {
        /// The line that should have gone on.
        line: u64,
    },
    /// A line is not what a list has.
    #[error("line {line} of the file list is wrong")]
    Line {
        /// Which line, counted from one.
        line: u64,
        /// What is wrong with it.
        source: Problem,
    },
}

/// What is wrong with a line of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No end within the longest line allowed.
    #[error("it is longer than {MAX_LINE} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotText,
    /// The list does not begin with its version.
    #[error("a list begins with its [Version]")]
    NoVersion,
    /// A version this program does not know.
    #[error("{0} is not a version up to {VERSION}")]
    Version(Box<str>),
    /// A section that may be there only once.
    #[error("there is a second section {0}")]
    Heading(Box<str>),
    /// Columns are missing.
    #[error("it has too few columns")]
    Columns,
    /// A time or a size.
    #[error("{0} is not a number of the range it needs")]
    Number(Box<str>),
    /// The type of an entry.
    #[error("{0} is not a type of entry: `f`, `d` or `l`, perhaps marked `-` or `*`")]
    Kind(Box<str>),
    /// A path.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A sum.
    #[error("{0} is not a SHA-256 in hexadecimal")]
    Sum(Box<str>),
    /// More lines follow `[End]`.
    #[error("it stands after [End]")]
    AfterEnd,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &str) -> Result<FileList, Error> {
        FileList::read(format!("[Version]\n3\n\n[Files]\n{files}\n\n[End]\n").as_bytes())
    }

    #[test]
    fn a_list_of_fedora_is_read() {
        let list = FileList::read(
            &b"[Version]\n3\n\n[Files]\n1767700953\tf\t282\tlinux/extras/README\n\
            1366880149\td-\t4096\tlinux/extras\n1\tl*\t3\tlinux/a link\n\n[Checksums SHA1]\n\
            da39a3ee5e6b4b0d3255bfef95601890afd80709\tlinux/extras/README\n\n[End]\n"[..],
        )
        .unwrap();
        let kinds: Vec<_> = list
            .entries
            .iter()
            .map(|entry| (entry.kind, entry.access))
            .collect();
        assert_eq!(
            kinds,
            [
                (Kind::File, Access::Public),
                (Kind::Directory, Access::Restricted),
                (Kind::Link, Access::Unreleased)
            ]
        );
        assert!(list.sums.is_empty());
    }

    #[test]
    fn a_wrong_line_is_refused_with_its_number() {
        for line in [
            "x",
            "1\tf\t2",
            "+1\tf\t2\ta",
            "1.5\tf\t2\ta",
            "1\tf\t-2\ta",
            "1\tf\t18446744073709551616\ta",
            "1\tx\t2\ta",
            "1\tf--\t2\ta",
            "1\t\t2\ta",
            "1\té\t2\ta",
            "1\tf\t2\t../a",
            "1\tf\t2\t/a",
            "1\tf\t2\ta\tb",
            "1\tf\t2\ta\u{1b}[2J",
            "1\tf\t2\ta\r",
        ] {
            assert!(
                matches!(read(line), Err(Error::Line { line: 5, .. })),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_list_without_a_known_version_is_refused() {
        for list in [
            "[Files]\n[End]\n",
            "3\n[Files]\n[End]\n",
            "[Version]\n[Files]\n[End]\n",
            "[Version]\n4\n[Files]\n[End]\n",
            "[Version]\n0\n[Files]\n[End]\n",
            "[Version]\n3\n3\n[Files]\n[End]\n",
            "[Version]\n3\n[Version]\n3\n[End]\n",
            "[Version]\n3\n[Files]\n[End]\nmore\n",
            "",
        ] {
            assert!(FileList::read(list.as_bytes()).is_err(), "{list:?}");
        }
    }

    #[test]
    fn an_endless_line_is_refused_in_bounded_memory() {
        let endless = io::BufReader::new(io::repeat(b'a'));
        let mut reader = Reader::new(endless);
        assert!(matches!(
            reader.next(),
            Some(Err(Error::Line {
                line: 1,
                source: Problem::TooLong
            }))
        ));
        assert!(reader.line.capacity() < 4 * MAX_LINE);
        assert!(reader.next().is_none());
    }
}
