//! `Accept`, a line of the field to a line of the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::accept;

fuzz_target!(|text: &str| {
    let asked = accept::metalink(text.lines());
    assert!(asked.is_none() || text.to_ascii_lowercase().contains("metalink"));
    assert!(asked.is_none() || text.lines().any(accept::may_name_a_metalink));
    let offered = ["text/plain", "application/json", "text/html"];
    let preferred = accept::preferred(text.lines(), &offered);
    assert!(preferred.is_none_or(|position| position < offered.len()));
    // Who wants none of them says so, and does not when there is one more way to say it.
    if preferred.is_none() {
        let lines = text.lines().chain(["text/html"]);
        assert_ne!(accept::preferred(lines, &offered), Some(0));
    }
});
