//! A file list of somebody else's: what is read can be written and is read the same, and what is cut off
//! is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::tree::list::{FileList, Writer};

fuzz_target!(|bytes: &[u8]| {
    let Ok(list) = FileList::read(bytes) else {
        return;
    };
    let mut writer = Writer::new(Vec::new()).unwrap();
    for entry in &list.entries {
        let path = entry.path.as_str();
        assert!(!path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        assert!(!path.contains(char::is_control));
        writer.entry(entry).unwrap();
    }
    for (path, sum) in &list.sums {
        writer.sum(path, sum).unwrap();
    }
    let (written, _) = writer.finish().unwrap();
    assert_eq!(FileList::read(&written[..]).unwrap(), list);
    assert!(FileList::read(&written[..written.len() - 1]).is_err());
});
