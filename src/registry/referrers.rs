//! What refers to a manifest: signatures, SBOMs and the like.
//!
//! The [referrers API][api] is the newest part of the specification, and many registries have something
//! else at its place: nothing, a refusal, the page of a web interface. All of that means *no API here*, and
//! the caller looks for the fallback tag. What looks like an answer but is none stays an error, since
//! to take it for *no referrers* would lose them.
//!
//! [api]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers

use std::collections::HashSet;

use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;
use serde::de::Error as _;
use tracing::warn;
use url::Url;

use super::client::Registry;
use super::error::{Error, Subject};
use super::fields::{content_type, from_text};
use super::pages::Pages;
use crate::descriptor::{Descriptor, null_as_default};
use crate::digest::Digest;
use crate::manifest;
use crate::media_type::MediaType;
use crate::reference::RepoName;

/// Most pages of referrers; an image has a handful in all.
const MAX_PAGES: usize = 1_000;

/// Most referrers of a manifest: as many as an index may list.
const MAX_REFERRERS: usize = manifest::MAX_CHILDREN;

/// Most bytes of all pages.
const MAX_BYTES: u64 = 32 << 20;

impl Registry {
    /// The manifests that name `digest` as their subject; `None` if the registry has no such API, and
    /// the [fallback tag] is the place to look.
    ///
    /// [fallback tag]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#unavailable-referrers-api
    pub async fn referrers(
        &self,
        name: &RepoName,
        digest: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let subject = Subject::Referrers(name.clone(), *digest);
        let mut all = Vec::new();
        let mut known = HashSet::new();
        let (mut left, mut refused) = (MAX_BYTES, 0);
        let mut pages = Pages::new(self.url(name, &format!("referrers/{digest}")), MAX_PAGES);
        while let Some(page) = pages.turn(self, &subject)? {
            let answer = self
                .ask(|| self.referrers_page(&subject, &page, left))
                .await;
            let found = match answer {
                Ok(Some(found)) => found,
                Ok(None) if known.is_empty() => return Ok(None),
                Err(error) if known.is_empty() && is_no_api(&error) => return Ok(None),
                // It was there for the page before.
                Ok(None) => return Err(self.not_an_index(&subject, custom("a web page"))),
                Err(error) => return Err(error),
            };
            left = left.saturating_sub(found.bytes);
            for descriptor in found.index.manifests {
                if descriptor.media_type.manifest_kind().is_none() {
                    refused += 1;
                } else if known.insert(descriptor.digest) {
                    all.push(descriptor);
                }
            }
            if all.len() > MAX_REFERRERS {
                return Err(Error::TooMany {
                    registry: self.host.clone(),
                    subject,
                    most: MAX_REFERRERS,
                });
            }
            pages.follow(found.next);
        }
        if refused > 0 {
            warn!(registry = %self.host, repository = %name, %digest, refused, "leaving out referrers that are no manifests");
        }
        Ok(Some(all))
    }

    /// One page; `None` if it is one of a web interface.
    async fn referrers_page(
        &self,
        subject: &Subject,
        page: &Url,
        left: u64,
    ) -> Result<Option<Page>, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, from_text(MediaType::OCI_INDEX.as_str()));
        let answer = self.send(Method::GET, page, &headers, subject).await?;
        let answer = self.expect_success(answer, subject).await?;
        if content_type(answer.headers()).is_some_and(|found| found.as_str() == "text/html") {
            return Ok(None);
        }
        let next = self.following(page, answer.headers(), subject)?;
        let body = self
            .read(answer, left.min(manifest::MAX_BYTES), subject)
            .await?;
        let index = Index::parse(&body).map_err(|source| self.not_an_index(subject, source))?;
        Ok(Some(Page {
            index,
            bytes: body.len() as u64,
            next,
        }))
    }

    fn not_an_index(&self, subject: &Subject, source: serde_json::Error) -> Error {
        Error::Referrers {
            registry: self.host.clone(),
            subject: subject.clone(),
            source,
        }
    }
}

/// Whether a refusal says that the registry does not know the question.
fn is_no_api(error: &Error) -> bool {
    matches!(
        error,
        Error::Status {
            status: StatusCode::BAD_REQUEST
                | StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_ACCEPTABLE
                | StatusCode::GONE
                | StatusCode::NOT_IMPLEMENTED,
            ..
        }
    ) || matches!(
        error,
        Error::Status { message: Some(message), .. } if message.contains("UNSUPPORTED")
    )
}

#[derive(Debug)]
struct Page {
    index: Index,
    bytes: u64,
    next: Option<Url>,
}

/// The index a page is. It is no [`Manifest`](crate::manifest::Manifest): it is made for the question and
/// has no digest, and registries leave out what does not matter in it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u64,
    media_type: Option<String>,
    /// Go programs write an empty list as `null`.
    #[serde(deserialize_with = "null_as_default")]
    manifests: Vec<Descriptor>,
}

impl Index {
    fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let index: Self = serde_json::from_slice(body)?;
        if index.schema_version != 2 {
            return Err(custom("another schemaVersion than 2"));
        }
        match &index.media_type {
            Some(found) if found != MediaType::OCI_INDEX.as_str() => {
                Err(custom("another mediaType"))
            }
            _ => Ok(index),
        }
    }
}

fn custom(what: &str) -> serde_json::Error {
    serde_json::Error::custom(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_index_has_an_empty_list_or_null() {
        for json in [
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
            r#"{"schemaVersion":2,"manifests":null,"annotations":{"a":"b"}}"#,
        ] {
            assert!(Index::parse(json.as_bytes()).unwrap().manifests.is_empty());
        }
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for json in [
            "",
            "[]",
            "{}",
            "<html>",
            r#"{"schemaVersion":2}"#,
            r#"{"manifests":[]}"#,
            r#"{"schemaVersion":1,"manifests":[]}"#,
            r#"{"schemaVersion":2,"mediaType":"application/json","manifests":[]}"#,
            r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:xyz"}]}"#,
            r#"{"errors":[{"code":"UNSUPPORTED"}]}"#,
        ] {
            assert!(Index::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
