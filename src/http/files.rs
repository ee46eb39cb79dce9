//! A file of a tree as a response: ranges, conditions and lengths, as a plain web server gives them.

use std::fs::File;
use std::io;
use std::ops::Range;

use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, LAST_MODIFIED,
};
use http::{Method, Response, StatusCode};

use super::body::Body;
use super::conditions::{self, Validators};
use super::multipart::Multipart;
use crate::range::Selection;
use crate::tree::{Tree, TreePath, reader};

/// Answers a request for the file at `path` below the tree, as a mirror would.
///
/// `path` is the part of the request's path after the prefix under which the tree is served. Only
/// `GET` and `HEAD` are answered; whatever is not the path of a file in a tree is not found.
pub async fn respond(
    tree: &Tree,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Response<Body> {
    if method != Method::GET && method != Method::HEAD {
        return not_allowed();
    }
    let Ok(path) = path.parse::<TreePath>() else {
        return not_found();
    };
    let content_type = HeaderValue::from_static(content_type(&path));
    let tree = tree.clone();
    let opened = tokio::task::spawn_blocking(move || Opened::open(&tree, &path)).await;
    match opened {
        Ok(Ok(file)) => file.respond(content_type, headers, method),
        Ok(Err(error)) if error.is_not_found() => not_found(),
        Ok(Err(error)) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot serve a file of the tree"
            );
            text(StatusCode::INTERNAL_SERVER_ERROR, "cannot read the file\n")
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot read the file\n"),
    }
}

/// A file opened to be sent.
#[derive(Debug)]
pub struct Opened {
    file: File,
    length: u64,
    validators: Validators,
}

impl Opened {
    /// Opens a file of the tree. Blocks; call it where that is allowed.
    pub fn open(tree: &Tree, path: &TreePath) -> Result<Self, reader::Error> {
        let file = tree.open_file(path)?;
        let failed = |source: io::Error| reader::Error::Read {
            path: path.clone(),
            source,
        };
        let metadata = file.metadata().map_err(failed)?;
        let etag = match path {
            TreePath::Blob(digest) | TreePath::Link(_, digest) => format!("\"{digest}\""),
            // A file replaced by rename has another inode, so the tag changes with the content.
            _ => {
                use std::os::unix::fs::MetadataExt as _;
                format!(
                    "\"{:x}-{:x}-{:x}\"",
                    metadata.ino(),
                    metadata.len(),
                    metadata.mtime_nsec() ^ metadata.mtime()
                )
            }
        };
        let etag = HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\""));
        Ok(Self {
            file,
            length: metadata.len(),
            validators: Validators {
                etag,
                modified: metadata.modified().ok().and_then(conditions::timestamp),
            },
        })
    }

    /// The length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The response with this file, or the parts of it that `headers` ask for.
    ///
    /// A field with more ranges than are read is ignored, as the RFC allows.
    pub fn respond(
        self,
        content_type: HeaderValue,
        headers: &HeaderMap,
        method: &Method,
    ) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let fields = response.headers_mut();
        fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        fields.insert(ETAG, self.validators.etag.clone());
        if let Some(modified) = self.validators.last_modified() {
            fields.insert(LAST_MODIFIED, modified);
        }
        if let Some(status) = self.validators.precondition(headers) {
            *response.status_mut() = status;
            return response;
        }
        let ranges = conditions::requested_ranges(method, headers, &self.validators.etag);
        let selection = match ranges {
            Ok(Some(ranges)) => ranges.select(self.length),
            _ => Selection::Whole,
        };
        let (status, content_type, length, body) = match selection {
            Selection::Whole => {
                let body = match *method {
                    Method::HEAD => Body::empty(),
                    _ => Body::file(self.file, 0..self.length),
                };
                (StatusCode::OK, content_type, self.length, body)
            }
            Selection::Part(part) => {
                fields.insert(CONTENT_RANGE, content_range(Some(&part), self.length));
                let (length, body) = (part.end - part.start, Body::file(self.file, part));
                (StatusCode::PARTIAL_CONTENT, content_type, length, body)
            }
            Selection::Parts(parts) => {
                let parts = Multipart::new(parts, self.length, content_type);
                let (content_type, length) = (parts.content_type(), parts.length());
                let body = parts.body(self.file);
                (StatusCode::PARTIAL_CONTENT, content_type, length, body)
            }
            Selection::Unsatisfiable => {
                fields.insert(CONTENT_RANGE, content_range(None, self.length));
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                (status, content_type, 0, Body::empty())
            }
        };
        fields.insert(CONTENT_TYPE, content_type);
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        *response.status_mut() = status;
        *response.body_mut() = body;
        response
    }
}

/// The value of `Content-Range`: for a part, or for the lack of one.
pub(super) fn content_range(part: Option<&Range<u64>>, length: u64) -> HeaderValue {
    let text = match part {
        Some(part) => format!("bytes {}-{}/{length}", part.start, part.end - 1),
        None => format!("bytes */{length}"),
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("bytes */*"))
}

fn content_type(path: &TreePath) -> &'static str {
    match path {
        TreePath::State | TreePath::Index(_) | TreePath::Layout(_) => "application/json",
        TreePath::List(_) | TreePath::DirectorySizes => "text/plain; charset=utf-8",
        TreePath::Blob(_) | TreePath::Pieces(_) | TreePath::Link(..) => "application/octet-stream",
    }
}

fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "no such file in the tree\n")
}

/// The answer to any method but `GET` and `HEAD`.
pub fn not_allowed() -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// A short plain answer.
pub fn text(status: StatusCode, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::digest::Algorithm;
    use crate::range::MAX_RANGES;

    async fn get(
        method: Method,
        path: &str,
        fields: &[(http::HeaderName, &str)],
    ) -> (StatusCode, HeaderMap, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let digest = Algorithm::Sha256.digest(b"0123456789");
        let blob = TreePath::Blob(digest);
        let file = blob.under(dir.path());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"0123456789").unwrap();
        let path = path.replace("BLOB", &blob.to_string());
        let headers = fields
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    value
                        .replace("ETAG", &format!("\"{digest}\""))
                        .parse()
                        .unwrap(),
                )
            })
            .collect();
        let response = respond(&Tree::open(dir.path()).unwrap(), &path, &method, &headers).await;
        let (parts, body) = response.into_parts();
        (
            parts.status,
            parts.headers,
            body.collect().await.unwrap().to_bytes().to_vec(),
        )
    }

    #[tokio::test]
    async fn answers_ranges_and_conditions() {
        type Fields<'a> = &'a [(http::HeaderName, &'a str)];
        let too_many = format!("bytes={}", vec!["0-0"; MAX_RANGES + 1].join(","));
        let cases: &[(Fields<'_>, u16, &str)] = &[
            (&[], 200, "0123456789"),
            (&[(RANGE, "bytes=2-4")], 206, "234"),
            (&[(RANGE, "bytes=8-")], 206, "89"),
            (&[(RANGE, "bytes=-1")], 206, "9"),
            (&[(RANGE, "bytes=10-")], 416, ""),
            (&[(RANGE, "nonsense")], 200, "0123456789"),
            (&[(RANGE, "bytes=0-0,90-")], 206, "0"),
            (&[(RANGE, "bytes=90-,-0")], 416, ""),
            (&[(RANGE, "bytes=0-,1-")], 200, "0123456789"),
            (&[(RANGE, &too_many)], 200, "0123456789"),
            (
                &[(RANGE, "bytes=0-0"), (IF_RANGE, "\"other\"")],
                200,
                "0123456789",
            ),
            (&[(RANGE, "bytes=0-0"), (IF_RANGE, "ETAG")], 206, "0"),
            (&[(IF_NONE_MATCH, "\"x\", W/ETAG")], 304, ""),
            (&[(IF_NONE_MATCH, "\"x\"")], 200, "0123456789"),
            (
                &[(IF_MODIFIED_SINCE, "Sat, 01 Jan 2000 00:00:00 GMT")],
                200,
                "0123456789",
            ),
            (
                &[(IF_MODIFIED_SINCE, "Thu, 31 Dec 2099 00:00:00 GMT")],
                304,
                "",
            ),
            (&[(RANGE, "bytes=2-4"), (IF_NONE_MATCH, "ETAG")], 304, ""),
            (&[(http::header::IF_MATCH, "\"x\"")], 412, ""),
        ];
        for (fields, status, body) in cases {
            let (found, _, bytes) = get(Method::GET, "BLOB", fields).await;
            assert_eq!(
                (found.as_u16(), bytes.as_slice()),
                (*status, body.as_bytes()),
                "{fields:?}"
            );
        }
    }

    #[tokio::test]
    async fn several_ranges_are_answered_by_several_parts() {
        let (status, headers, body) = get(Method::GET, "BLOB", &[(RANGE, "bytes=7-8,0-0")]).await;
        let content_type = headers[CONTENT_TYPE].to_str().unwrap();
        let boundary = content_type
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(
            (status.as_u16(), headers[CONTENT_LENGTH].to_str().unwrap()),
            (206, body.len().to_string().as_str())
        );
        assert!(!headers.contains_key(CONTENT_RANGE));
        let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
        assert_eq!(parts.len(), 4, "{body}");
        assert!(parts[1].contains("Content-Range: bytes 7-8/10\r\n\r\n78\r\n"));
        assert!(parts[2].contains("Content-Range: bytes 0-0/10\r\n\r\n0\r\n"));
    }

    #[tokio::test]
    async fn head_has_the_length_and_no_bytes_whatever_range_is_asked_for() {
        let (status, headers, body) = get(Method::HEAD, "BLOB", &[(RANGE, "bytes=2-3")]).await;
        assert_eq!(
            (
                status.as_u16(),
                headers[CONTENT_LENGTH].to_str().unwrap(),
                body.len()
            ),
            (200, "10", 0)
        );
    }

    #[tokio::test]
    async fn anything_else_is_not_found_or_not_allowed() {
        for path in [
            "",
            "..",
            "../etc/passwd",
            "%2e%2e/etc/passwd",
            "blobs",
            "blobs/",
            "/etc/passwd",
            ".~tmp~/x",
            "state.json",
        ] {
            assert_eq!(
                get(Method::GET, path, &[]).await.0,
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
        let (status, headers, _) = get(Method::PUT, "BLOB", &[]).await;
        assert_eq!(
            (status.as_u16(), headers[ALLOW].to_str().unwrap()),
            (405, "GET, HEAD")
        );
    }
}
