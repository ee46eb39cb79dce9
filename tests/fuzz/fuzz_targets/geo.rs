//! Where a network is, as an operator or a file says: what is read is found again, and nothing panics.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use registry_proxy::config::Config;
use registry_proxy::geo::{Asn, Coordinates, CountryCode, Geo};

fuzz_target!(|bytes: &[u8]| {
    let Some((rest, last)) = bytes.split_last_chunk::<16>() else {
        return;
    };
    let addresses = [IpAddr::from(*last), IpAddr::from([last[0], last[1], last[2], last[3]])];
    let locate = |geo: &Geo| {
        for address in addresses {
            let place = geo.locate(address);
            assert!(place.country.is_none_or(|country| country.continent().is_none_or(|it| place.continent == Some(it))));
        }
    };
    // As a database, and as a file of prefixes beside none.
    let _ = Geo::from_bytes(Some(rest), b"", &[]).map(|geo| locate(&geo));
    let _ = Geo::from_bytes(None, rest, &[]).map(|geo| locate(&geo));

    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    if let Ok(config) = Config::parse(&format!("geoip-overrides = [{text}]")) {
        let geo = Geo::from_bytes(None, b"", &config.geoip_overrides).unwrap();
        locate(&geo);
        for one in &config.geoip_overrides {
            let place = geo.locate(one.netblock.network());
            assert!(one.asn.is_none() || place.asn.is_some());
        }
    }
    if let Ok(asn) = text.parse::<Asn>() {
        assert_eq!(asn.to_string().parse(), Ok(asn));
    }
    if let Ok(country) = text.parse::<CountryCode>() {
        assert_eq!(country.to_string().parse(), Ok(country));
    }
    if let Ok(point) = text.parse::<Coordinates>() {
        assert_eq!(point.to_string().parse(), Ok(point));
    }
});
