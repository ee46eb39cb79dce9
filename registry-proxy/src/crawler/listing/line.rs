//! One line of what `rsync --list-only` prints: mode, size, time and name.
//!
//! The bytes are those of a foreign daemon, messages of its own among them. Only a line of exactly this
//! shape whose name is the place of a blob means something.

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::TreePath;

/// What a line says of the blobs at a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// At the place of a blob is a file of this size.
    File(Digest, u64),
    /// At the place of a blob is something else, say a link; what is behind it is not told.
    NoFile(Digest),
    /// A whole directory of blobs is a link, behind which rsync does not look.
    LinkedDirectory,
    /// Nothing of a blob.
    Other,
}

/// What a line says, where names are below `blobs/`.
///
/// ```
/// use registry_proxy::crawler::listing::line::{Line, parse};
/// let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// let line = format!("-rw-r--r--          1500 2026/11/21 16:27:23 sha256/e3/{hex}");
/// let digest = format!("sha256:{hex}").parse().unwrap();
/// assert_eq!(parse(line.as_bytes()), Line::File(digest, 1500));
/// ```
pub fn parse(line: &[u8]) -> Line {
    parts(line).map_or(Line::Other, |(kind, size, name)| {
        match (kind, format!("blobs/{name}").parse()) {
            (b'-', Ok(TreePath::Blob(digest))) => Line::File(digest, size),
            (_, Ok(TreePath::Blob(digest))) => Line::NoFile(digest),
            (b'l', _) if is_directory(name) => Line::LinkedDirectory,
            _ => Line::Other,
        }
    })
}

/// The kind of file, its size and its name.
fn parts(line: &[u8]) -> Option<(u8, u64, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let (mode, rest) = line.split_at_checked(10)?;
    let (kind, permissions) = mode.as_bytes().split_first()?;
    let is_permission = |byte: &u8| b"rwxsStT-".contains(byte);
    let rest = rest.strip_prefix(' ')?.trim_start_matches(' ');
    let (size, rest) = rest.split_once(' ')?;
    let (time, name) = rest.split_at_checked(TIME.len())?;
    let is_time = |(byte, shape): (u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        mark => byte == *mark,
    };
    // `parse` would take a sign too.
    let well_formed = permissions.iter().all(is_permission)
        && size.bytes().all(|byte| byte.is_ascii_digit())
        && time.bytes().zip(TIME).all(is_time);
    well_formed.then_some((*kind, size.parse().ok()?, name.strip_prefix(' ')?))
}

/// Whether a name below `blobs/` is that of a directory of blobs.
fn is_directory(name: &str) -> bool {
    let (algorithm, fan) = name.split_once('/').unwrap_or((name, "00"));
    algorithm.parse::<Algorithm>().is_ok()
        && fan.len() == 2
        && fan.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// How a time looks, with zeros for digits.
const TIME: &[u8] = b"0000/00/00 00:00:00";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn blob() -> Digest {
        format!("sha256:{HEX}").parse().unwrap()
    }

    #[test]
    fn what_rsync_prints_of_a_tree() {
        let place = format!("sha256/e3/{HEX}");
        for (line, said) in [
            (
                format!("-rw-r--r--              0 2026/11/21 17:06:49 {place}"),
                Line::File(blob(), 0),
            ),
            (
                format!("-rw-rwsr-t 18446744073709551615 2026/11/21 17:06:49 {place}"),
                Line::File(blob(), u64::MAX),
            ),
            (
                format!("lrwxrwxrwx              3 2026/11/21 17:06:49 {place}"),
                Line::NoFile(blob()),
            ),
            (
                format!("drwxr-xr-x           4096 2026/11/21 17:06:49 {place}"),
                Line::NoFile(blob()),
            ),
            (
                "lrwxrwxrwx              3 2026/11/21 17:06:49 sha512".to_owned(),
                Line::LinkedDirectory,
            ),
            (
                "lrwxrwxrwx              3 2026/11/21 17:06:49 sha256/e3".to_owned(),
                Line::LinkedDirectory,
            ),
            (
                "drwxr-xr-x           4096 2026/11/21 17:06:49 sha256/e3".to_owned(),
                Line::Other,
            ),
            (
                "drwxr-xr-x           4096 2026/11/21 17:06:49 .".to_owned(),
                Line::Other,
            ),
        ] {
            assert_eq!(parse(line.as_bytes()), said, "{line}");
        }
    }

    #[test]
    fn other_names_and_other_shapes_are_nothing() {
        let place = format!("sha256/e3/{HEX}");
        for line in [
            String::new(),
            place.clone(),
            // Temporary files of a mirror that is being filled.
            format!("-rw-r--r--  1 2026/11/21 17:06:49 sha256/e3/.{HEX}.Xy12ab"),
            format!("-rw-r--r--  1 2026/11/21 17:06:49 sha256/aa/{HEX}"),
            format!("-rw-r--r--  1 2026/11/21 17:06:49 {place} -> /etc/passwd"),
            format!("-rw-r--r--  1 2026/11/21 17:06:49 ../blobs/{place}"),
            format!("-rw-r--r--  1 2026/11/21 17:06:49  {place}"),
            format!("-rw-r--r--  1 2026/11/21 17:06:49 {place}\\#012"),
            "-rw-r--r--  1 2026/11/21 17:06:49 ../../etc/passwd".to_owned(),
            "lrwxrwxrwx  1 2026/11/21 17:06:49 README".to_owned(),
            // With the thousands marked, as rsync does unless told otherwise.
            format!("-rw-r--r--  1,500 2026/11/21 17:06:49 {place}"),
            format!("-rw-r--r--  1.46K 2026/11/21 17:06:49 {place}"),
            format!("-rw-r--r--  +1 2026/11/21 17:06:49 {place}"),
            format!("-rw-r--r--  -1 2026/11/21 17:06:49 {place}"),
            format!("-rw-r--r--  18446744073709551616 2026/11/21 17:06:49 {place}"),
            format!("-rw-r--r--   2026/11/21 17:06:49 {place}"),
            format!("-rw-r--r--  1 2026-11-21 17:06:49 {place}"),
            format!("-rw-r--r--  1 {place}"),
            format!("-rw-r--r-- é1 2026/11/21 17:06:49 {place}"),
            "@ERROR: Unknown module 'x'".to_owned(),
        ] {
            assert_eq!(parse(line.as_bytes()), Line::Other, "{line}");
        }
        let mut bytes = format!("-rw-r--r--  1 2026/11/21 17:06:49 {place}").into_bytes();
        bytes.push(0xff);
        assert_eq!(parse(&bytes), Line::Other);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            bytes: [u8; 32], longer: [u8; 32], is_long: bool, size: u64, width in 0_usize..20,
            mode in "[-rwxsStT]{9}",
        ) {
            let digest = if is_long {
                let mut all = [0; 64];
                all[..32].copy_from_slice(&bytes);
                all[32..].copy_from_slice(&longer);
                Digest::Sha512(all)
            } else {
                Digest::Sha256(bytes)
            };
            let path = TreePath::Blob(digest).to_string();
            let name = path.strip_prefix("blobs/").unwrap();
            let line = format!("-{mode} {size:>width$} 2026/11/21 17:06:49 {name}");
            prop_assert_eq!(parse(line.as_bytes()), Line::File(digest, size));
        }

        #[test]
        fn no_line_panics_and_none_names_what_is_not_in_it(line in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(parse(&line), Line::Other);
        }

        #[test]
        fn a_line_with_one_byte_changed_says_the_same_or_less(at in 0_usize..110, byte: u8) {
            let name = format!("sha256/e3/{HEX}");
            let mut line = format!("-rw-r--r--             17 2026/11/21 17:06:49 {name}").into_bytes();
            let at = at % line.len();
            line[at] = byte;
            match parse(&line) {
                // Another time, another size or another blob, all of them well formed.
                Line::File(digest, size) => {
                    let text = String::from_utf8(line).unwrap();
                    let size = format!(" {size} ");
                    prop_assert!(text.ends_with(&digest.hex().to_string()) && text.contains(&size));
                }
                Line::NoFile(digest) => prop_assert!(at == 0 && digest == blob()),
                Line::LinkedDirectory => prop_assert!(false, "no link"),
                Line::Other => {}
            }
        }
    }
}
