//! What clients ask for: paths of the API and of the tree, and their queries.
#![no_main]

use http::{HeaderMap, Method, Uri};
use libfuzzer_sys::fuzz_target;
use oci_mirror::tree::TreePath;
use registry_proxy::base_url::Scheme;
use registry_proxy::client_address::{Caller, TrustedProxies};
use registry_proxy::v2::Request;
use registry_proxy::v2::route::Route;

fuzz_target!(|target: &str| {
    let Ok(uri) = target.parse::<Uri>() else {
        return;
    };
    let headers = HeaderMap::new();
    let fallback = "registry.example".parse().unwrap();
    let trusted = TrustedProxies::default();
    let request = Request {
        method: &Method::GET,
        uri: &uri,
        headers: &headers,
        caller: &Caller::new(&trusted, None, &headers),
        scheme: Scheme::Http,
        fallback: &fallback,
        at: std::time::Instant::now(),
    };
    for name in ["n", "last", "ns", "artifactType", "mirrorlist"] {
        let _ = request.query(name);
    }
    let _ = request.metalink();
    let Ok(path) = request.path() else {
        return;
    };
    if let Ok(Route::Manifest { name, .. } | Route::Blob { name, .. } | Route::Tags { name }) =
        Route::parse(&path)
    {
        assert!(name.components().all(|part| !part.is_empty() && part != ".."));
    }
    let below = path.strip_prefix("/tree/").unwrap_or(&path);
    if let Ok(file) = below.parse::<TreePath>() {
        assert_eq!(file.to_string(), below);
        assert!(below.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
});
