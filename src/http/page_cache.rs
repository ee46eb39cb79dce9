//! What of a file is in memory already, and how the rest gets there.
//!
//! A read of a file waits for the disk, and a thread that waits serves nobody. Linux answers whether it
//! would have to wait ([`preadv2(2)`](https://man7.org/linux/man-pages/man2/preadv2.2.html) with
//! `RWF_NOWAIT`), so that only what is not in memory goes to the threads that may wait. A file system
//! that does not answer is one that always has to wait.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// How far apart one looks: the kernel brings in, and drops, no less at a time as a rule.
const STEP: u64 = 128 << 10;

/// How much more than was asked for the disk is told to bring.
const AHEAD: u64 = 4 << 20;

/// Reads into `buffer` what is in memory; `None` if the disk would have to be waited for.
pub(super) fn read_now(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    let read = preadv2(
        file,
        &mut [IoSliceMut::new(buffer)],
        offset,
        ReadWriteFlags::NOWAIT,
    );
    match read {
        Ok(0) if !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => Ok(Some(length)),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a part of a file seems to be in memory, to its last byte.
pub(super) fn holds(file: &File, part: &Range<u64>) -> io::Result<bool> {
    let step = usize::try_from(STEP).unwrap_or(usize::MAX);
    let offsets = (part.start..part.end).step_by(step);
    for offset in offsets.chain(part.end.checked_sub(1)) {
        if read_now(file, &mut [0], offset)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Brings a part of a file into memory, and lets the disk go on with what follows. Waits.
pub(super) fn load(file: &File, part: &Range<u64>) -> io::Result<()> {
    expect(file, part);
    let mut buffer = vec![0; 64 << 10];
    let mut offset = part.start;
    while offset < part.end {
        let length = buffer
            .len()
            .min(usize::try_from(part.end - offset).unwrap_or(usize::MAX));
        match file.read_at(&mut buffer[..length], offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => offset += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Has the disk begin with a part of a file and what follows it.
pub(super) fn expect(file: &File, part: &Range<u64>) {
    let length = NonZeroU64::new(part.end - part.start + AHEAD);
    // Only advice: what is not taken costs time, no more.
    let _ = fadvise(file, part.start, length, Advice::WillNeed);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_written_and_loaded_is_held() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        load(&file, &(0..1 << 20)).unwrap();
        // A file system that does not say is always waited for.
        let mut byte = [0];
        if read_now(&file, &mut byte, 0).unwrap().is_some() {
            assert_eq!(byte, [7]);
            assert!(holds(&file, &(5..1 << 20)).unwrap());
        }
    }

    #[test]
    fn beyond_the_end_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"short").unwrap();
        assert!(load(&file, &(0..6)).is_err());
        assert!(!holds(&file, &(0..6)).is_ok_and(|held| held));
    }
}
