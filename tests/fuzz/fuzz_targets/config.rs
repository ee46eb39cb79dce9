//! What an operator writes for an export or a front end, and what a registry's tags and configs are selected by.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirror_tool::export::config::Config;
use mirror_tool::export::select::{DigestTag, created};
use mirror_tool::export::version::{TagVersion, VersionRange};
use oci_mirror::age::Age;
use oci_mirror::reference::Tag;

fuzz_target!(|bytes: &[u8]| {
    if let Err(mistake) = Config::parse(bytes) {
        assert!(!mistake.to_string().contains(char::is_control));
    }
    let _ = created::of_config(bytes);
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let _ = registry_proxy::config::Config::parse(text);
    if let Ok(range) = text.parse::<VersionRange>() {
        assert_eq!(range.to_string().parse(), Ok(range));
    }
    if let Ok(age) = text.parse::<Age>() {
        assert_eq!(age.to_string().parse(), Ok(age));
    }
    if let Some(version) = TagVersion::of(text) {
        // A tag has `_` where a version has `+`.
        let shown = version.to_string().replace('+', "_");
        assert_eq!(TagVersion::of(&shown), Some(version));
    }
    if let Some(tag) = text.parse::<Tag>().ok().as_ref().and_then(DigestTag::of) {
        assert_eq!(tag.to_string(), text);
    }
});
