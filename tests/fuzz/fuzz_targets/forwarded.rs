//! `X-Forwarded-For`, `Forwarded` and the fields that name a host: a stranger is never believed.
#![no_main]

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;
use registry_proxy::base_url::{Forwarding, PublicUrl, Scheme};
use registry_proxy::client_address::TrustedProxies;

fuzz_target!(|text: &str| {
    let mut headers = HeaderMap::new();
    for (line, name) in text.lines().zip(["x-forwarded-for", "forwarded", "x-forwarded-for", "host", "x-forwarded-host"]) {
        if let Ok(value) = HeaderValue::from_str(line) {
            headers.append(name, value);
        }
    }
    let trusted = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let (proxy, stranger): (SocketAddr, SocketAddr) =
        ("127.0.0.1:1".parse().unwrap(), "192.0.2.1:1".parse().unwrap());
    assert!(trusted.client(Some(proxy), &headers).is_some());
    assert_eq!(trusted.client(Some(stranger), &headers), Some(stranger.ip()));
    trusted.client(None, &headers);

    let fallback = "registry.example".parse().unwrap();
    for forwarding in [Forwarding::Trusted, Forwarding::Untrusted] {
        let url = PublicUrl::of(&Uri::from_static("/v2/"), &headers, forwarding, Scheme::Http, &fallback);
        let url = url.to_string();
        assert!(!url.contains(['<', '>', '"', '\'', '&', ' ', '@', '\\']), "{url}");
        assert!(url.parse::<Uri>().is_ok_and(|url| url.authority().is_some()), "{url}");
    }
});
