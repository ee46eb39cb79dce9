//! Where a network is, as an operator or a file says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_proxy::geo::{Asn, Coordinates, CountryCode};

fuzz_target!(|text: &str| {
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
