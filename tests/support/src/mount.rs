//! What container engines leave mounted.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::process::{program, run};

/// Unmounts whatever is mounted at or below a directory, so that it can be removed.
///
/// Best effort, for `Drop`: what stays mounted shows when the directory is removed.
pub(crate) fn unmount_below(directory: &Path) {
    let Ok(table) = fs::read("/proc/self/mountinfo") else {
        return;
    };
    // Later mounts may lie on earlier ones.
    for target in targets(&table)
        .iter()
        .rev()
        .filter(|target| target.starts_with(directory))
    {
        let Ok(mut umount) = program("umount") else {
            return;
        };
        let _ = run(umount.arg("--lazy").arg(target));
    }
}

/// The mount points of a table in the format of proc(5), `/proc/pid/mountinfo`.
fn targets(table: &[u8]) -> Vec<PathBuf> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|target| PathBuf::from(unescape(target)))
        .collect()
}

/// Undoes `\040` and the like, which stand for white space and backslashes.
fn unescape(text: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\')
            .then(|| tail.first_chunk::<3>())
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mount_points() {
        let table = b"36 35 98:0 /mnt1 /mnt2 rw,noatime - ext3 /dev/root rw\n\
            37 35 0:5 / /a\\040b\\134c rw - tmpfs tmpfs rw\n";
        assert_eq!(targets(table), [Path::new("/mnt2"), Path::new("/a b\\c")]);
    }
}
