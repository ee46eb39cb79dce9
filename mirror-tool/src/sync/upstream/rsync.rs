//! A tree over rsync.

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
pub(super) struct Rsync {
    upstream: Box<str>,
}

impl Rsync {
    pub(super) fn new(at: &Url, name: &str, options: &Options) -> Self {
        let _ = (at, options);
        Self {
            upstream: name.into(),
        }
    }
    pub(super) async fn state(&self, staging: &Staging) -> Result<Bytes, Error> {
        Err(self.not_yet())
    }
    pub(super) async fn list(
        &self,
        list: &ListRef,
        basis: Option<&Path>,
        staging: &Staging,
    ) -> Result<(), Error> {
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
