//! What is refused, and how that is said.

use conformance::sample::NAME;
use reqwest::Method;

use crate::{Registry, json_of, unknown};

crate::checks! {
    other_categories deletion_refused errors_body errors_code_form errors_message errors_codes warnings
}

/// The codes of the specification.
const CODES: [&str; 14] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
];

/// Requests that cannot be answered: method, path, and the code that says why.
fn refused(registry: &Registry) -> Vec<(Method, String, &'static str)> {
    let manifest = registry.sample.manifest.digest;
    let get = |path: String, code| (Method::GET, path, code);
    vec![
        get(format!("/v2/{NAME}/manifests/nothing"), "MANIFEST_UNKNOWN"),
        get(
            format!("/v2/{NAME}/manifests/{}", unknown()),
            "MANIFEST_UNKNOWN",
        ),
        get(format!("/v2/{NAME}/blobs/{}", unknown()), "BLOB_UNKNOWN"),
        get("/v2/nothing/tags/list".to_owned(), "NAME_UNKNOWN"),
        get("/v2/nothing/manifests/1".to_owned(), "NAME_UNKNOWN"),
        get(format!("/v2/{NAME}/blobs/sha256:1"), "DIGEST_INVALID"),
        get(format!("/v2/{NAME}/referrers/1"), "DIGEST_INVALID"),
        get("/v2/UPPER/tags/list".to_owned(), "NAME_INVALID"),
        get("/v2/%ff/tags/list".to_owned(), "NAME_INVALID"),
        get(format!("/v2/{NAME}/tags/list?n=many"), "UNSUPPORTED"),
        get(format!("/v2/{NAME}/tags/list?n=-1"), "UNSUPPORTED"),
        get("/v2/_catalog?n=many".to_owned(), "UNSUPPORTED"),
        get("/v2/nowhere".to_owned(), "UNSUPPORTED"),
        (
            Method::POST,
            format!("/v2/{NAME}/blobs/uploads/"),
            "UNSUPPORTED",
        ),
        (
            Method::PUT,
            format!("/v2/{NAME}/manifests/new"),
            "UNSUPPORTED",
        ),
        (
            Method::DELETE,
            format!("/v2/{NAME}/manifests/{manifest}"),
            "UNSUPPORTED",
        ),
    ]
}

/// The deviation: there is no writing.
async fn other_categories(registry: &Registry) {
    for (method, path) in [
        (Method::POST, format!("/v2/{NAME}/blobs/uploads/")),
        (Method::PATCH, format!("/v2/{NAME}/blobs/uploads/1")),
        (Method::PUT, format!("/v2/{NAME}/manifests/new")),
    ] {
        let answer = registry.send(method.clone(), &path, &[]).await;
        assert_eq!(answer.status(), 405, "{method} {path}");
    }
}

async fn deletion_refused(registry: &Registry) {
    let [(manifest, _), ..] = registry.manifests();
    let [(layer, _), ..] = registry.layers();
    for path in [manifest, layer, format!("/v2/{NAME}/manifests/1")] {
        let answer = registry.send(Method::DELETE, &path, &[]).await;
        assert_eq!(answer.status(), 405, "{path}");
    }
}

async fn errors_body(registry: &Registry) {
    for (method, path, code) in refused(registry) {
        let answer = registry.send(method, &path, &[]).await;
        assert!(answer.status().is_client_error(), "{path}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        let body = json_of(answer).await;
        assert_eq!(body["errors"].as_array().unwrap().len(), 1, "{path}");
        assert_eq!(body["errors"][0]["code"], code, "{path}");
    }
}

async fn errors_code_form(registry: &Registry) {
    for code in codes(registry).await {
        let legal = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        assert!(!code.is_empty() && code.bytes().all(legal), "{code}");
    }
}

async fn errors_message(registry: &Registry) {
    for (method, path, _) in refused(registry) {
        let body = json_of(registry.send(method, &path, &[]).await).await;
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(message.split(' ').count() > 2, "{path}: {message}");
    }
}

async fn errors_codes(registry: &Registry) {
    for code in codes(registry).await {
        assert!(CODES.contains(&code.as_str()), "{code}");
    }
}

async fn warnings(registry: &Registry) {
    let [(manifest, _), ..] = registry.manifests();
    for path in ["/v2/", &manifest, "/v2/nothing/manifests/1"] {
        assert_eq!(registry.get(path).await.headers().get("warning"), None);
    }
}

async fn codes(registry: &Registry) -> Vec<String> {
    let mut codes = Vec::new();
    for (method, path, _) in refused(registry) {
        let body = json_of(registry.send(method, &path, &[]).await).await;
        codes.push(body["errors"][0]["code"].as_str().unwrap().to_owned());
    }
    codes
}
