//! What somebody says of mirrors: each word of it, and whole files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_proxy::network::account::Email;
use registry_proxy::network::{BaseUrl, HostName, Import, RepoGlob, SiteName};

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<HostName>() {
        assert_eq!(name.to_string().parse(), Ok(SiteName::from(&name)));
    }
    if let Ok(url) = text.parse::<BaseUrl>() {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
    if let Ok(email) = text.parse::<Email>() {
        assert_eq!(email.to_string().parse(), Ok(email));
    }
    if let Ok(glob) = text.parse::<RepoGlob>() {
        let _ = glob.matches(&"fedora/fedora".parse().unwrap());
    }
    match text.parse::<Import>() {
        Ok(import) => assert_eq!(import.to_string().parse(), Ok(import)),
        // It is printed in one line.
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
});
