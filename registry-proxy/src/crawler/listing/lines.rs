//! Cuts what comes in chunks into lines, within bounds.
//!
//! A listing is as long as a foreign daemon likes, and so is a line of it. Only the line that has begun is
//! kept, and counting goes on over all of them.

/// Longest line: the name of a file in a tree takes a seventh of it.
pub const LONGEST: usize = 1024;

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lines.
    pub lines: u64,
    /// Bytes, those that end lines among them.
    pub bytes: u64,
}

/// Lines in the making.
#[derive(Debug)]
pub struct Lines {
    left: Limits,
    begun: Vec<u8>,
}

impl Lines {
    /// So many lines and bytes are to be taken.
    pub fn new(limits: Limits) -> Self {
        Self {
            left: limits,
            begun: Vec::new(),
        }
    }

    /// Takes a chunk, and hands on each line that it ends.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), NotWhole> {
        let bytes = self.left.bytes.checked_sub(chunk.len() as u64);
        self.left.bytes = bytes.ok_or(NotWhole::Bytes)?;
        let mut parts = chunk.split(|byte| *byte == b'\n');
        // What follows the last end of a line; an empty chunk has one empty part.
        let begun = parts.next_back().unwrap_or_default();
        for part in parts {
            self.left.lines = self.left.lines.checked_sub(1).ok_or(NotWhole::Lines)?;
            if self.begun.is_empty() && part.len() <= LONGEST {
                each(part);
                continue;
            }
            self.add(part)?;
            each(&self.begun);
            self.begun.clear();
        }
        self.add(begun)
    }

    /// Makes sure that no line was cut off.
    pub fn finish(self) -> Result<(), NotWhole> {
        if self.begun.is_empty() {
            Ok(())
        } else {
            Err(NotWhole::CutOff)
        }
    }

    fn add(&mut self, part: &[u8]) -> Result<(), NotWhole> {
        if self.begun.len() + part.len() > LONGEST {
            return Err(NotWhole::Line);
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }
}

/// Why a listing was not taken to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWhole {
    /// No file has such a long name.
    #[error("a line has more than {LONGEST} bytes")]
    Line,
    /// No mirror holds as much.
    #[error("it has more lines than a mirror of this tree could have files")]
    Lines,
    /// No mirror holds as much.
    #[error("it is longer than that of a mirror of this tree could be")]
    Bytes,
    /// The rest of it is lost.
    #[error("it ends within a line")]
    CutOff,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLENTY: Limits = Limits {
        lines: 1000,
        bytes: 1 << 20,
    };

    #[test]
    fn a_line_without_an_end_is_given_up_and_little_of_it_kept() {
        let mut lines = Lines::new(PLENTY);
        let mut pushed = 0;
        let given_up = loop {
            pushed += 1;
            match lines.push(&[0; 100], |_| panic!("there is no line")) {
                Ok(()) => assert!(lines.begun.capacity() <= 2 * LONGEST),
                Err(reason) => break reason,
            }
        };
        assert_eq!((given_up, pushed), (NotWhole::Line, 11));
        let mut long = vec![b'x'; LONGEST + 1];
        long.push(b'\n');
        let result = Lines::new(PLENTY).push(&long, |_| panic!("it is too long"));
        assert_eq!(result, Err(NotWhole::Line));
        long.remove(0);
        let mut seen = 0;
        Lines::new(PLENTY)
            .push(&long, |line| seen = line.len())
            .unwrap();
        assert_eq!(seen, LONGEST);
    }

    #[test]
    fn more_than_there_may_be_is_given_up() {
        let two = Limits { lines: 2, bytes: 6 };
        for (text, result) in [
            ("a\nb\n", Ok(())),
            ("abc\nd\n", Ok(())),
            ("a\nb\nc\n", Err(NotWhole::Lines)),
            ("abcd\ne\n", Err(NotWhole::Bytes)),
        ] {
            assert_eq!(Lines::new(two).push(text.as_bytes(), |_| ()), result);
        }
        let mut lines = Lines::new(two);
        lines.push(b"a\nb", |_| ()).unwrap();
        assert_eq!(lines.finish(), Err(NotWhole::CutOff));
    }

    proptest! {
        #[test]
        fn the_lines_are_the_same_wherever_chunks_end(
            text in "[ab\n]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut lines, mut found, mut from) = (Lines::new(PLENTY), Vec::new(), 0);
            for cut in cuts {
                let chunk = &text.as_bytes()[from..cut];
                let result = lines.push(chunk, |line| found.push(String::from_utf8(line.to_vec()).unwrap()));
                prop_assert_eq!(result, Ok(()));
                from = cut;
            }
            let mut expected: Vec<&str> = text.split('\n').collect();
            let rest = expected.pop().unwrap();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(lines.finish().is_ok(), rest.is_empty());
        }
    }
}
