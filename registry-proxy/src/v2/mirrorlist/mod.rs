//! `?mirrorlist`: to which mirrors this client would be sent for a blob, in which order, and why not to
//! the others. As text, JSON or HTML.
//!
//! It is for the client that asks and for nobody else: its own address is in it, so nothing on the way
//! may keep it. A private mirror is shown to the clients of its networks; others learn only how many there
//! are. What is written in reasons came from mirrors and operators, and each form escapes it.

mod forms;

use askama::Template;
use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::tree::TreePath;
use serde::Serialize;

use self::forms::Form;
use super::error::Error;
use super::request::Request;
use crate::metalink::Subject;
use crate::select::told::{Asker, LeftOut, Listed, Told};
use crate::snapshot::Snapshot;

/// Whether a request is for the list and not for the content.
pub fn is_asked_for(request: &Request<'_>) -> bool {
    request.query("mirrorlist").is_some()
}

/// Answers with the list for `subject`.
pub fn respond(
    subject: &Subject<'_>,
    request: &Request<'_>,
    snapshot: &Snapshot,
) -> Result<Response<Body>, Error> {
    let list = MirrorList::new(subject, request, snapshot);
    let form = Form::preferred_by(request);
    let text = match form {
        Form::Text => list.text(),
        Form::Json => serde_json::to_string_pretty(&list).map_err(|_| Error::Internal)?,
        Form::Html => list.render().map_err(|_| Error::Internal)?,
    };
    let mut response = Response::new(text.into());
    let fields = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, form.content_type()),
        (VARY, "Accept"),
        (CACHE_CONTROL, "private, no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// What one client is told about the mirrors of one blob.
#[derive(Debug, Serialize, Template)]
#[template(path = "mirrorlist.html")]
#[serde(rename_all = "kebab-case")]
struct MirrorList {
    repository: String,
    digest: Digest,
    size: u64,
    client: Asker,
    /// Whether a plain request is redirected to the first mirror.
    redirected: bool,
    /// Best first.
    mirrors: Vec<Listed>,
    /// Where it can be had if no mirror works.
    origin: String,
    left_out: Vec<LeftOut>,
    /// How many further mirrors are for other networks than the client's.
    private_mirrors: usize,
}

impl MirrorList {
    fn new(subject: &Subject<'_>, request: &Request<'_>, snapshot: &Snapshot) -> Self {
        let asker = request.asker();
        let client = snapshot.client(asker);
        let mut explained = snapshot.explain(subject.name, subject.id, asker);
        let total = explained.len();
        explained.retain(|it| it.tier.is_some());
        let private_mirrors = total - explained.len();
        let path = TreePath::Blob(subject.blob.digest);
        let Told { mirrors, left_out } = Told::new(&snapshot.network, explained, Some(&path));
        let large = subject.blob.size >= snapshot.policy.min_size;
        Self {
            repository: subject.name.to_string(),
            digest: subject.blob.digest,
            size: subject.blob.size,
            client: Asker {
                address: request.client(),
                ..Asker::of(&client)
            },
            redirected: subject.endpoint == "blobs" && large && !mirrors.is_empty(),
            mirrors,
            origin: format!("{}/tree/{path}", request.public()),
            left_out,
            private_mirrors,
        }
    }
}
