//! The referrers API.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use oci_mirror::media_type::MediaType;

use super::content::respond;
use super::{Body, State};

/// The manifests with this subject, as the specification lists them.
pub(super) fn referrers(request: &Request<Bytes>, digest: &str, state: &State) -> Response<Body> {
    let mut found: Vec<_> = state
        .manifests
        .iter()
        .filter_map(|(own, (media_type, content))| {
            let manifest: serde_json::Value = serde_json::from_slice(content).ok()?;
            (manifest["subject"]["digest"] == digest).then(|| {
                let mut entry = serde_json::json!({
                    "mediaType": media_type.as_str(),
                    "digest": own.to_string(),
                    "size": content.len(),
                });
                if let Some(artifact_type) = manifest.get("artifactType") {
                    entry["artifactType"] = artifact_type.clone();
                }
                (own.to_string(), entry)
            })
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    let after = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("after="))
        .unwrap_or_default();
    let mut rest = found.into_iter().filter(|(own, _)| own.as_str() > after);
    let page: Vec<_> = rest
        .by_ref()
        .take(state.page.unwrap_or(usize::MAX))
        .collect();
    let last = page.last().map(|(own, _)| own.clone());
    let entries: Vec<_> = page.into_iter().map(|(_, entry)| entry).collect();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX.as_str(),
        "manifests": entries,
    });
    let mut response = respond(StatusCode::OK, &index.to_string());
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
    headers.insert(header::CONTENT_TYPE, media_type);
    if let Some(last) = last.filter(|_| rest.next().is_some()) {
        let link = format!(r#"<{}?after={last}>; rel="next""#, request.uri().path());
        headers.insert(header::LINK, link.parse().unwrap());
    }
    response
}
