//! Lists of tags and repositories, sorted and paged.
//!
//! See [listing tags](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags).

use http::Response;
use http::header::{HeaderMap, HeaderValue, LINK};
use oci_mirror::excerpt::Excerpt;
use oci_mirror::http::Body;
use oci_mirror::reference::RepoName;
use serde_json::json;

use super::error::Error;
use super::made;
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
        request,
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
        request,
        &names,
        "/v2/_catalog",
        |names| json!({"repositories": names}),
    )
}

/// The part of a list that is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    size: usize,
    last: Option<String>,
}

impl Page {
    fn of(request: &Request<'_>) -> Result<Self, Error> {
        let size = match request.query("n") {
            None => MAX_PAGE,
            Some(n) if n.is_empty() || !n.bytes().all(|c| c.is_ascii_digit()) => {
                return Err(Error::PageSize(Excerpt(&n).into()));
            }
            // What does not fit a number is more than a page in any case.
            Some(n) => n.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE),
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
        request: &Request<'_>,
        entries: &[&str],
        path: &str,
        body: impl Fn(&[&str]) -> serde_json::Value,
    ) -> Result<Response<Body>, Error> {
        let shown = &entries[..entries.len().min(self.size)];
        let mut fields = HeaderMap::new();
        if let Some(last) = shown.last().filter(|_| entries.len() > self.size) {
            let size = self.size.to_string();
            let query = made::next_page(request, &[("n", &size), ("last", last)]);
            let link = format!("<{path}?{query}>; rel=\"next\"");
            fields.insert(
                LINK,
                HeaderValue::try_from(link).map_err(|_| Error::Internal)?,
            );
        }
        made::respond(request, "application/json", fields, body(shown).to_string())
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::base_url::Scheme;
    use crate::client_address::{Caller, TrustedProxies};

    fn request<T>(
        target: &str,
        fields: &[(http::HeaderName, &str)],
        answer: impl Fn(&Request<'_>) -> T,
    ) -> T {
        let (uri, headers): (http::Uri, HeaderMap) = (
            target.parse().unwrap(),
            fields
                .iter()
                .map(|(name, value)| (name.clone(), value.parse().unwrap()))
                .collect(),
        );
        let fallback = "registry.example".parse().unwrap();
        let trusted = TrustedProxies::default();
        answer(&Request {
            method: &Method::GET,
            uri: &uri,
            headers: &headers,
            caller: &Caller::new(&trusted, None, &headers),
            scheme: Scheme::Https,
            fallback: &fallback,
            at: std::time::Instant::now(),
        })
    }

    fn page(query: &str) -> Result<Page, Error> {
        request(&format!("/v2/a/tags/list{query}"), &[], Page::of)
    }

    async fn listed(
        query: &str,
        fields: &[(http::HeaderName, &str)],
    ) -> (StatusCode, HeaderMap, String) {
        let entries = ["1", "2", "3"];
        let response = request(&format!("/x{query}"), fields, |request| {
            let page = Page::of(request).unwrap();
            let rest: Vec<&str> = entries
                .into_iter()
                .filter(|entry| !page.is_past(entry))
                .collect();
            page.answer(request, &rest, "/x", |shown| json!(shown))
        });
        let (parts, body) = response.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            parts.status,
            parts.headers,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    #[test]
    fn a_page_is_as_long_as_asked_within_reason() {
        for (query, size) in [
            ("", MAX_PAGE),
            ("?n=0", 0),
            ("?n=7", 7),
            ("?n=10001", MAX_PAGE),
            ("?n=99999999999999999999999999", MAX_PAGE),
        ] {
            assert_eq!(page(query).unwrap().size, size, "{query}");
        }
        for query in ["?n=", "?n=-1", "?n=+1", "?n=1.0", "?n=ten", "?n=%31%00"] {
            let error = page(query).unwrap_err();
            assert_eq!(error.code(), "UNSUPPORTED", "{query}");
        }
    }

    #[tokio::test]
    async fn pages_start_after_last_whatever_that_is() {
        for (query, body, link) in [
            ("", "[\"1\",\"2\",\"3\"]", None),
            ("?n=0", "[]", None),
            ("?n=3", "[\"1\",\"2\",\"3\"]", None),
            (
                "?n=2",
                "[\"1\",\"2\"]",
                Some("</x?n=2&last=2>; rel=\"next\""),
            ),
            ("?n=2&last=2", "[\"3\"]", None),
            ("?last=zzz", "[]", None),
            ("?last=", "[\"1\",\"2\",\"3\"]", None),
            ("?last=1%20%2F%00%C3%A9", "[\"2\",\"3\"]", None),
            (
                "?ns=docker.io&n=1&last=1&x=%22%3E%0D%0AY:%20z",
                "[\"2\"]",
                Some("</x?n=1&last=2&ns=docker.io&x=%22%3E%0D%0AY%3A+z>; rel=\"next\""),
            ),
        ] {
            let (status, headers, text) = listed(query, &[]).await;
            assert_eq!((status.as_u16(), text.as_str()), (200, body), "{query}");
            let found = headers.get(LINK).map(|link| link.to_str().unwrap());
            assert_eq!(found, link, "{query}");
        }
    }

    #[tokio::test]
    async fn a_list_the_client_has_is_not_sent_again() {
        let (_, headers, _) = listed("?n=2", &[]).await;
        let etag = headers[http::header::ETAG].to_str().unwrap();
        let known = [(http::header::IF_NONE_MATCH, etag)];
        let (status, again, text) = listed("?n=2", &known).await;
        assert_eq!((status.as_u16(), text.as_str()), (304, ""));
        assert_eq!(again[http::header::ETAG], etag);
        let (status, ..) = listed("?n=2&last=0", &known).await;
        assert_eq!(status.as_u16(), 304);
        let (status, ..) = listed("?n=3", &known).await;
        assert_eq!(status.as_u16(), 200);
    }
}
