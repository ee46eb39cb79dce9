//! What somebody says of a mirror.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_proxy::network::{BaseUrl, HostName, RepoGlob, SiteName};

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<HostName>() {
        assert_eq!(name.to_string().parse(), Ok(SiteName::from(&name)));
    }
    if let Ok(url) = text.parse::<BaseUrl>() {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
    if let Ok(glob) = text.parse::<RepoGlob>() {
        let _ = glob.matches(&"fedora/fedora".parse().unwrap());
    }
});
