//! Lines for a person, on standard error.
//!
//! `eprintln!` panics when standard error is closed or its disk is full; `mirror-tool … 2>&1 | head`
//! would then end a run in the middle. Whoever has stopped listening misses the rest, nothing more.

use std::fmt::Display;
use std::io::{Write, stderr};

/// Writes `line` to standard error, if somebody still reads it.
pub(crate) fn say(line: impl Display) {
    say_to(&mut stderr().lock(), line);
}

fn say_to(out: &mut impl Write, line: impl Display) {
    // In one piece, so that lines of parallel work do not mix.
    drop(out.write_all(format!("{line}\n").as_bytes()));
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_line_nobody_reads_is_no_failure() {
        say_to(&mut Closed, "lost");
        let mut heard = Vec::new();
        say_to(&mut heard, "heard");
        assert_eq!(heard, b"heard\n");
    }
}
