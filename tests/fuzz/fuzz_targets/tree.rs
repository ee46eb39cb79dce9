//! What a mirrored tree may hold: paths never leave it, documents survive a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::pieces::Pieces;
use oci_mirror::tree::state::State;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(path) = text.parse::<TreePath>()
    {
        assert_eq!(path.to_string(), text);
        assert!(!text.contains("..") || !text.split('/').any(|part| part == ".."));
    }
    if let Ok(index) = RepoIndex::from_bytes(bytes) {
        assert_eq!(RepoIndex::from_bytes(&index.to_bytes()).ok(), Some(index));
    }
    if let Ok(state) = State::from_bytes(bytes) {
        assert_eq!(State::from_bytes(&state.to_bytes()).ok(), Some(state));
    }
    let _ = Pieces::from_bytes(bytes, bytes.len() as u64 * 40_000);
});
