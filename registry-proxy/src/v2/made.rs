//! Answers that are made for the request, not stored: lists, with an entity tag of their own.
//!
//! The tag is a digest of what is sent, `Link` included: a page whose entries are the same but that has
//! a next one now is another page.

use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LINK};
use http::{Response, StatusCode};
use oci_mirror::digest::{Algorithm, Hex};
use oci_mirror::http::Body;
use oci_mirror::http::conditions::Validators;

use super::error::Error;
use super::request::Request;

/// Answers with a list of the given type, or says that the client has it already.
pub(super) fn respond(
    request: &Request<'_>,
    content_type: &'static str,
    mut fields: HeaderMap,
    body: String,
) -> Result<Response<Body>, Error> {
    let mut tagged = body.as_bytes().to_vec();
    tagged.extend(fields.get(LINK).into_iter().flat_map(HeaderValue::as_bytes));
    let digest = Algorithm::Sha256.digest(&tagged);
    let etag = format!("\"{}\"", Hex(&digest.as_bytes()[..16]));
    let etag = HeaderValue::try_from(etag).map_err(|_| Error::Internal)?;
    fields.insert(ETAG, etag.clone());
    let (status, body) = match Validators::of(etag).precondition(request.headers) {
        Some(StatusCode::NOT_MODIFIED) => (StatusCode::NOT_MODIFIED, Body::empty()),
        Some(_) => return Err(Error::OtherContent),
        None => {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            (StatusCode::OK, body.into())
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    Ok(response)
}

/// The query of the next page: the one of this page, but for where it starts and how long it is.
///
/// Everything else is kept, above all containerd's `ns`, and encoded anew: it comes from the client.
pub(super) fn next_page(request: &Request<'_>, place: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(place);
    let sent = request.uri.query().unwrap_or_default();
    let others = url::form_urlencoded::parse(sent.as_bytes())
        .filter(|(name, _)| place.iter().all(|(ours, _)| name != ours));
    query.extend_pairs(others);
    query.finish()
}
