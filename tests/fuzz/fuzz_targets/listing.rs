//! What a mirror's rsync daemon says that it holds: nothing panics, a line is what it names, and lines are the same
//! wherever chunks end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::tree::TreePath;
use registry_proxy::crawler::listing::line::{Line, parse};
use registry_proxy::crawler::listing::lines::{LONGEST, Limits, Lines};

fuzz_target!(|input: &[u8]| {
    let limits = Limits { lines: 50, bytes: 8 << 10 };
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let mut lines = Lines::new(limits);
    let result = lines.push(input, |line| whole.push(line.to_vec()));
    let is_whole = result.map(|()| lines.finish().is_ok());
    assert!(whole.len() <= 50 && whole.iter().all(|line| line.len() <= LONGEST));

    let mut lines = Lines::new(limits);
    let size = 1 + input.len() % 37;
    let result = input.chunks(size).try_for_each(|chunk| lines.push(chunk, |line| pieces.push(line.to_vec())));
    // Bytes are counted before they are looked at, so that pieces get further before they are given up.
    match is_whole {
        Ok(is_whole) => {
            assert_eq!(result.map(|()| lines.finish().is_ok()), Ok(is_whole));
            assert_eq!(whole, pieces);
        }
        Err(_) => assert!(result.is_err() && pieces.starts_with(&whole)),
    }

    for line in pieces {
        let (Line::File(digest, _) | Line::NoFile(digest)) = parse(&line) else {
            continue;
        };
        let path = TreePath::Blob(digest).to_string();
        assert!(line.ends_with(path.strip_prefix("blobs").unwrap_or_default().trim_start_matches('/').as_bytes()));
    }
});
