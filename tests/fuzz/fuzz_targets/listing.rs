//! What a mirror's rsync daemon says that it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::tree::TreePath;

fuzz_target!(|text: &str| {
    let _ = text.parse::<TreePath>();
});
