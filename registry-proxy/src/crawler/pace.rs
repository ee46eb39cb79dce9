//! How fast one mirror is asked.

use oci_mirror::registry::rate::Rate;

/// Makes those wait who ask one mirror too much. Nobody waits yet.
#[derive(Debug)]
pub struct Pace;

impl Pace {
    /// So many requests, and so many bytes a second; none: without bound.
    pub fn new(_rate: Option<Rate>, _bytes_per_second: Option<u64>) -> Self {
        Self
    }

    /// Waits until one more request may be made.
    #[expect(clippy::unused_async, reason = "it will wait")]
    pub async fn request(&self) {}

    /// Waits until so many more bytes may be read.
    #[expect(clippy::unused_async, reason = "it will wait")]
    pub async fn bytes(&self, _count: u64) {}
}
