//! Lists that come over several pages, each naming the next.
//!
//! A list ends where the registry says so and nowhere else: one that goes on where we cannot ask, goes
//! round in circles or never ends is an error, since a mirror that takes a part for the whole removes
//! the rest.

use std::collections::HashSet;

use http::{HeaderMap, header};
use url::Url;

use super::client::Registry;
use super::error::{Error, Subject};
use super::link::{Unusable, next_page};
use crate::digest::{Algorithm, Digest};
use crate::excerpt::Excerpt;

/// Longest address of a page, in bytes. One in use has the name of a repository and of a tag.
const MAX_ADDRESS: usize = 8 << 10;

/// The pages of one list.
#[derive(Debug)]
pub(super) struct Pages {
    next: Option<Url>,
    most: usize,
    /// Digests, since a hostile registry chooses how long the addresses are.
    seen: HashSet<Digest>,
}

impl Pages {
    /// A list that begins at `first` and has at most so many pages.
    pub(super) fn new(first: Url, most: usize) -> Self {
        Self {
            next: Some(first),
            most,
            seen: HashSet::new(),
        }
    }

    /// The page to ask for now; `None` after the last.
    pub(super) fn turn(
        &mut self,
        registry: &Registry,
        subject: &Subject,
    ) -> Result<Option<Url>, Error> {
        let Some(page) = self.next.take() else {
            return Ok(None);
        };
        let address = Algorithm::Sha256.digest(page.as_str().as_bytes());
        if self.seen.len() >= self.most || !self.seen.insert(address) {
            return Err(Error::TooManyPages {
                registry: registry.host.clone(),
                subject: subject.clone(),
                pages: self.seen.len(),
            });
        }
        Ok(Some(page))
    }

    /// Goes on to the page an answer named.
    pub(super) fn follow(&mut self, next: Option<Url>) {
        self.next = next;
    }
}

impl Registry {
    /// The page after `page`. One that is announced but cannot be asked for is not the end.
    pub(super) fn following(
        &self,
        page: &Url,
        headers: &HeaderMap,
        subject: &Subject,
    ) -> Result<Option<Url>, Error> {
        for field in headers.get_all(header::LINK) {
            let text = String::from_utf8_lossy(field.as_bytes());
            match next_page(page, &text) {
                Ok(None) => {}
                Ok(Some(next)) if next.as_str().len() <= MAX_ADDRESS => return Ok(Some(next)),
                Ok(Some(_)) | Err(Unusable) => {
                    return Err(Error::NextPage {
                        registry: self.host.clone(),
                        subject: subject.clone(),
                        link: Excerpt(&text).into(),
                    });
                }
            }
        }
        Ok(None)
    }
}
