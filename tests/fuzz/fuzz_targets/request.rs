//! What clients and operators write: paths, fields, configuration.
#![no_main]

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use oci_mirror::accept;
use oci_mirror::range::{ByteRanges, Selection};
use registry_proxy::client_address::TrustedProxies;
use registry_proxy::config::Config;
use registry_proxy::v2::route::Route;

fuzz_target!(|text: &str| {
    let _ = Route::parse(text);
    let _ = Config::parse(text);
    assert!(accept::metalink([text]).is_none() || text.to_ascii_lowercase().contains("metalink"));
    if let Some(Selection::Part(part)) = ByteRanges::parse(text).map(|ranges| ranges.select(1000)) {
        assert!(part.start < part.end && part.end <= 1000);
    }
    if let Ok(value) = text.parse::<http::HeaderValue>() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", value.clone());
        headers.insert("forwarded", value);
        let trusted = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
        trusted.client("127.0.0.1:1".parse().ok(), &headers);
        trusted.client(None, &headers);
        let stranger: std::net::SocketAddr = "192.0.2.1:1".parse().unwrap();
        assert_eq!(trusted.client(Some(stranger), &headers), Some(stranger.ip()));
    }
});
