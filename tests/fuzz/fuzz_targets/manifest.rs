//! Manifests: parsing keeps the bytes, and the digest is theirs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::digest::Algorithm;
use oci_mirror::manifest::{MAX_CHILDREN, Manifest};
use oci_mirror::media_type::MediaType;

fuzz_target!(|bytes: &[u8]| {
    for declared in [None, Some(&MediaType::OCI_INDEX), Some(&MediaType::DOCKER_MANIFEST)] {
        if let Ok(manifest) = Manifest::parse(bytes::Bytes::copy_from_slice(bytes), declared) {
            assert_eq!(&manifest.bytes()[..], bytes);
            assert_eq!(manifest.digest(), Algorithm::Sha256.digest(bytes));
            assert!(manifest.media_type().manifest_kind().is_some());
            assert!(manifest.children().count() <= MAX_CHILDREN);
        }
    }
});
