//! Small layers that are the same each time, for trees of tens of thousands of them.

use std::fmt::Display;

/// One to four KiB that follow from a number.
pub fn content(number: usize) -> Vec<u8> {
    let mut state = number as u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let length = 1024 + 12 * usize::from(next());
    let mut bytes = format!("{number} ").into_bytes();
    bytes.resize_with(length, next);
    bytes
}

/// The descriptor of a config or layer in JSON; `kind` is the end of its media type.
pub fn descriptor(kind: &str, digest: impl Display, size: usize) -> String {
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#
    )
}
