//! What a mirror answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = http::HeaderValue::from_bytes(bytes);
});
