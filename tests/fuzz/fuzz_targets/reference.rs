//! Names of all kinds: what parses displays as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::digest::Digest;
use oci_mirror::media_type::MediaType;
use oci_mirror::platform::Platform;
use oci_mirror::reference::{ImageRef, Reference, RepoName};
use oci_mirror::size::ByteSize;

fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(name) = text.parse::<RepoName>() {
        assert_eq!(name.as_str(), text);
        assert!(name.components().all(|component| !component.is_empty() && component != ".."));
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
    if let Ok(image) = text.parse::<ImageRef>() {
        assert_eq!(image.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string(), text);
    }
    if let Ok(media_type) = text.parse::<MediaType>() {
        assert_eq!(media_type.to_string().parse(), Ok(media_type));
    }
    let _ = text.parse::<ByteSize>();
});
