//! `Range`, over content of any length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::range::{ByteRanges, MAX_RANGES, Selection};

fuzz_target!(|input: (u64, u8, &str)| {
    let (length, shift, field) = input;
    // Short contents as often as long ones.
    let length = length >> (shift % 64);
    let Ok(Some(ranges)) = ByteRanges::parse(field) else {
        return;
    };
    let parts = match ranges.select(length) {
        Selection::Whole => {
            assert!(ranges.are_several());
            return;
        }
        Selection::Unsatisfiable => Vec::new(),
        Selection::Part(part) => vec![part],
        Selection::Parts(parts) => {
            assert!((2..=MAX_RANGES).contains(&parts.len()));
            parts
        }
    };
    assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
    let sum: u128 = parts.iter().map(|part| u128::from(part.end - part.start)).sum();
    assert!(sum <= u128::from(length));
    assert!(ranges.resumes_at().is_none() || parts.len() < 2);
});
