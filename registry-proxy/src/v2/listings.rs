//! Lists of tags and repositories, sorted and paged.
//!
//! See [listing tags](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags).

use http::header::{HeaderValue, LINK};
use http::{Response, StatusCode};
use oci_mirror::excerpt::Excerpt;
use oci_mirror::http::Body;
use oci_mirror::reference::RepoName;
use serde_json::json;

use super::error::Error;
use super::request::Request;
use crate::snapshot::Snapshot;

/// Most entries in one answer; a longer list is continued by `Link`.
const MAX_PAGE: usize = 10_000;

/// Answers `GET /v2/<name>/tags/list`.
pub fn tags(
    request: &Request<'_>,
    snapshot: &Snapshot,
    name: &RepoName,
) -> Result<Response<Body>, Error> {
    let repository = snapshot.repository(name)?;
    let page = Page::of(request)?;
    let tags = repository.tags();
    let start = tags.partition_point(|(tag, _)| page.is_past(tag.as_str()));
    let tags: Vec<&str> = tags[start..]
        .iter()
        .map(|(tag, _)| tag.as_str())
        .take(page.size + 1)
        .collect();
    page.answer(
        &tags,
        &format!("/v2/{name}/tags/list"),
        |tags| json!({"name": name, "tags": tags}),
    )
}

/// Answers `GET /v2/_catalog`.
pub fn catalog(request: &Request<'_>, snapshot: &Snapshot) -> Result<Response<Body>, Error> {
    let page = Page::of(request)?;
    let last = page.last.clone().unwrap_or_default();
    let names = snapshot
        .catalog
        .repositories_after(&last)
        .map(RepoName::as_str);
    let names: Vec<&str> = names.take(page.size + 1).collect();
    page.answer(
        &names,
        "/v2/_catalog",
        |names| json!({"repositories": names}),
    )
}

/// The part of a list that is asked for.
struct Page {
    size: usize,
    last: Option<String>,
}

impl Page {
    fn of(request: &Request<'_>) -> Result<Self, Error> {
        let size = match request.query("n") {
            None => MAX_PAGE,
            Some(n) => n
                .parse::<usize>()
                .map_err(|_| Error::PageSize(Excerpt(&n).into()))?
                .min(MAX_PAGE),
        };
        Ok(Self {
            size,
            last: request.query("last"),
        })
    }

    fn is_past(&self, entry: &str) -> bool {
        self.last.as_deref().is_some_and(|last| entry <= last)
    }

    /// `entries` has one more than the page when there is a next one.
    fn answer(
        &self,
        entries: &[&str],
        path: &str,
        body: impl Fn(&[&str]) -> serde_json::Value,
    ) -> Result<Response<Body>, Error> {
        let shown = &entries[..entries.len().min(self.size)];
        let mut response = super::json(StatusCode::OK, body(shown).to_string());
        if let Some(last) = shown.last().filter(|_| entries.len() > self.size) {
            let link = format!("<{path}?n={}&last={last}>; rel=\"next\"", self.size);
            response.headers_mut().insert(
                LINK,
                HeaderValue::try_from(link).map_err(|_| Error::Internal)?,
            );
        }
        Ok(response)
    }
}
