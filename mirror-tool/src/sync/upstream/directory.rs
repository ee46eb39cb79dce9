//! A tree over directory.

use bytes::Bytes;
use oci_mirror::tree::state::ListRef;
use std::path::Path;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Error, Fetched};
use crate::sync::progress::Progress;
use crate::sync::staging::Staging;
use crate::sync::{Options, Wanted};

#[derive(Debug)]
pub(super) struct Directory {
    upstream: Box<str>,
}

impl Directory {
    pub(super) fn new(at: &Path, name: &str, options: &Options) -> Self {
        let _ = (at, options);
        Self {
            upstream: name.into(),
        }
    }
    pub(super) fn state(&self) -> Result<Bytes, Error> {
        Err(self.not_yet())
    }
    pub(super) async fn list(&self, list: &ListRef, staging: &Staging) -> Result<(), Error> {
        let _ = (list, staging);
        Err(self.not_yet())
    }
    pub(super) async fn fetch(
        &self,
        wanted: Vec<Wanted>,
        staging: &Staging,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Fetched, Error> {
        let _ = (wanted, staging, progress, stop);
        Err(self.not_yet())
    }
    fn not_yet(&self) -> Error {
        Error::Unreachable {
            upstream: self.upstream.clone(),
            why: "not built yet".into(),
        }
    }
}
