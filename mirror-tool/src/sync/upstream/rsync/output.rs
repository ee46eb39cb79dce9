//! What rsync prints while it works.
//!
//! A line for every file: `BYTES LENGTH NAME`, the bytes being those that came for it; rsync prints it when it has
//! received them, and only then gives the file its name. At the end come statistics.

/// How a line for a file is to be printed. That `%b` is in it makes rsync print it afterwards, not before.
pub(super) const FORMAT: &str = "--out-format=%b %l %n";

/// Longest line that is looked at.
const MAX_LINE: usize = 8 << 10;

/// Something rsync said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// The bytes of a file, or a directory, have come.
    Came(&'a str),
    /// So many bytes were received in all.
    Received(u64),
    /// A file is longer than it may be, and was not taken.
    TooLong,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if let Some(bytes) = line.strip_prefix("Total bytes received: ") {
            return bytes.trim().parse().ok().map(Self::Received);
        }
        if line.ends_with(" is over max-size") {
            return Some(Self::TooLong);
        }
        let (bytes, rest) = line.split_once(' ')?;
        let (length, name) = rest.split_once(' ')?;
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        (is_number(bytes) && is_number(length)).then_some(Self::Came(name))
    }
}

/// Puts chunks together to lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Adds a chunk, and hands on the lines that end in it.
    pub(super) fn push(&mut self, mut chunk: &[u8], each: &mut impl FnMut(Line<'_>)) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (rest, next) = chunk.split_at(end);
            self.add(rest);
            if self.begun.len() < MAX_LINE
                && let Some(line) = str::from_utf8(&self.begun).ok().and_then(Line::parse)
            {
                each(line);
            }
            self.begun.clear();
            chunk = &next[1..];
        }
        self.add(chunk);
    }

    /// Of a line too long, no more is kept than shows that.
    fn add(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.begun.len()).min(bytes.len());
        self.begun.extend_from_slice(&bytes[..room]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], step: usize) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in text.chunks(step) {
            lines.push(chunk, &mut |line| found.push(format!("{line:?}")));
        }
        found
    }

    #[test]
    fn files_and_the_sum_are_heard_however_they_are_cut() {
        let text = b"100052 100000 a/b/f1\n0 4096 a b/\nlist is over max-size\n\nNumber of files: 4 (reg: 2, dir: 2)\n\
            Total file size: 200000 bytes\nTotal bytes received: 200307\n\nsent 105 bytes  received 7 bytes\n";
        for step in [1, 7, 1000] {
            let expected = [
                r#"Came("a/b/f1")"#,
                r#"Came("a b/")"#,
                "TooLong",
                "Received(200307)",
            ];
            assert_eq!(lines(text, step), expected, "{step}");
        }
    }

    #[test]
    fn nonsense_is_passed_over() {
        let mut text = b"1 2 ".to_vec();
        text.extend(vec![b'x'; 100_000]);
        text.extend(b"\n1 2 \xff\n-1 2 x\n1 x y\n1 2 good\n1 2 torn");
        assert_eq!(lines(&text, 4096), [r#"Came("good")"#]);
    }
}
