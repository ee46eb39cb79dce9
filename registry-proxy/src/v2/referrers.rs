//! Referrers: the signatures, SBOMs and the like that name a manifest as their subject.
//!
//! Always a list, empty for anything unknown, as the [specification][spec] demands. It is sorted by
//! digest, so that it is the same from one request to the next, and a long one comes in pages: the
//! annotations of each referrer are repeated in it, and those can be megabytes.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers

use http::Response;
use http::header::{HeaderMap, HeaderName, HeaderValue, LINK};
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::catalog::Repository;

use super::error::Error;
use super::made;
use super::request::Request;
use crate::snapshot::Snapshot;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The type of every list of referrers.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A page ends with the descriptor that takes it past so many bytes. Clients read manifests of 4 MiB.
const PAGE_BYTES: usize = 1 << 20;

/// Most artifact types asked for at once.
const MAX_TYPES: usize = 64;

/// Answers `GET /v2/<name>/referrers/<digest>`.
pub fn respond(
    request: &Request<'_>,
    snapshot: &Snapshot,
    name: &RepoName,
    digest: &Digest,
) -> Result<Response<Body>, Error> {
    let wanted = artifact_types(request);
    let all = match snapshot.repository(name) {
        Ok(repository) => descriptors(snapshot, repository, digest, &wanted),
        Err(_) => Vec::new(),
    };
    let page = Page::of(&all, request.query("last").as_deref(), PAGE_BYTES)?;
    let mut fields = HeaderMap::new();
    if !wanted.is_empty() {
        fields.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = page.continued_after {
        let query = made::next_page(request, &[("last", &last.to_string())]);
        let link = format!("</v2/{name}/referrers/{digest}?{query}>; rel=\"next\"");
        fields.insert(
            LINK,
            HeaderValue::try_from(link).map_err(|_| Error::Internal)?,
        );
    }
    let manifests = page.descriptors.join(",");
    let index =
        format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[{manifests}]}}");
    made::respond(request, INDEX, fields, index)
}

/// The artifact types asked for, any of which will do; none means all.
fn artifact_types(request: &Request<'_>) -> Vec<String> {
    let query = request.uri.query().unwrap_or_default();
    let values = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, value)| name == "artifactType" && !value.is_empty());
    values
        .map(|(_, value)| value.into_owned())
        .take(MAX_TYPES)
        .collect()
}

/// The referrers of `digest`, sorted by digest.
fn descriptors(
    snapshot: &Snapshot,
    repository: &Repository,
    digest: &Digest,
    wanted: &[String],
) -> Vec<Descriptor> {
    let referrers = repository.referrers(digest).iter().filter_map(|id| {
        let blob = snapshot.catalog.blob(*id);
        let manifest = blob.manifest.as_ref()?;
        let referrer = manifest.referrer()?;
        let is_wanted = wanted.is_empty()
            || wanted
                .iter()
                .any(|wanted| Some(wanted) == referrer.artifact_type.as_ref());
        is_wanted.then(|| Descriptor {
            artifact_type: referrer.artifact_type.clone(),
            annotations: referrer.annotations.clone(),
            ..Descriptor::new(
                repository.media_type(*id, manifest).clone(),
                blob.digest,
                blob.size,
            )
        })
    });
    let mut descriptors: Vec<Descriptor> = referrers.collect();
    descriptors.sort_unstable_by_key(|descriptor| descriptor.digest);
    descriptors
}

/// The part of a list that fits one answer.
struct Page {
    /// As JSON.
    descriptors: Vec<String>,
    /// The last descriptor here, if there are more.
    continued_after: Option<Digest>,
}

impl Page {
    /// `last` is the digest after which to go on; what is none starts from the beginning.
    fn of(all: &[Descriptor], last: Option<&str>, limit: usize) -> Result<Self, Error> {
        let last: Option<Digest> = last.and_then(|last| last.parse().ok());
        let rest = all
            .iter()
            .filter(|descriptor| last.is_none_or(|last| descriptor.digest > last));
        let mut rest = rest.peekable();
        let (mut descriptors, mut bytes, mut continued_after) = (Vec::new(), 0, None);
        while let Some(descriptor) = rest.next() {
            let json = serde_json::to_string(descriptor).map_err(|_| Error::Internal)?;
            bytes += json.len();
            descriptors.push(json);
            if bytes > limit {
                continued_after = rest.peek().map(|_| descriptor.digest);
                break;
            }
        }
        Ok(Self {
            descriptors,
            continued_after,
        })
    }
}

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;
    use oci_mirror::media_type::MediaType;

    use super::*;
    use crate::base_url::Scheme;
    use crate::client_address::{Caller, TrustedProxies};

    fn referrers(count: u8) -> Vec<Descriptor> {
        let digests = (0..count).map(|number| Algorithm::Sha256.digest(&[number]));
        let mut all: Vec<Descriptor> = digests
            .map(|digest| Descriptor::new(MediaType::OCI_MANIFEST, digest, 1))
            .collect();
        all.sort_unstable_by_key(|descriptor| descriptor.digest);
        all
    }

    #[test]
    fn several_artifact_types_are_read_and_empty_ones_are_none() {
        let types = |query: &str| {
            let uri: http::Uri = format!("/x{query}").parse().unwrap();
            let headers = HeaderMap::new();
            let trusted = TrustedProxies::default();
            artifact_types(&Request {
                method: &http::Method::GET,
                uri: &uri,
                headers: &headers,
                caller: &Caller::new(&trusted, None, &headers),
                scheme: Scheme::Https,
                fallback: &"registry.example".parse().unwrap(),
                at: std::time::Instant::now(),
            })
        };
        assert_eq!(
            types("?artifactType=a%2Fb&ns=x&artifactType=c"),
            ["a/b", "c"]
        );
        assert_eq!(types("?artifactType=").len() + types("").len(), 0);
        assert_eq!(
            types(&format!("?{}", "artifactType=a&".repeat(999))).len(),
            MAX_TYPES
        );
    }

    #[test]
    fn pages_together_are_the_whole_list_in_order() {
        let all = referrers(20);
        let expected: Vec<String> = all
            .iter()
            .map(|it| serde_json::to_string(it).unwrap())
            .collect();
        let (mut found, mut last) = (Vec::new(), None::<String>);
        for _ in 0..20 {
            let page = Page::of(&all, last.as_deref(), 500).unwrap();
            assert!(!page.descriptors.is_empty() && page.descriptors.len() < 10);
            found.extend(page.descriptors);
            last = page.continued_after.map(|last| last.to_string());
            if last.is_none() {
                break;
            }
        }
        assert_eq!((found, last), (expected, None));
    }

    #[test]
    fn one_referrer_is_sent_however_long_and_no_page_is_promised_after_the_last() {
        let page = Page::of(&referrers(1), None, 0).unwrap();
        assert_eq!((page.descriptors.len(), page.continued_after), (1, None));
        let page = Page::of(&[], Some("nonsense"), 0).unwrap();
        assert_eq!((page.descriptors.len(), page.continued_after), (0, None));
    }
}
