//! `WWW-Authenticate`: nothing panics, and what is read is in the field.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_mirror::registry::challenge::{Challenge, parse};

fuzz_target!(|field: &str| {
    let Ok(challenges) = parse(field) else {
        return;
    };
    for challenge in challenges {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            continue;
        };
        for value in [Some(realm), service, scope].into_iter().flatten() {
            // Without escapes a value stands in the field as it is read.
            assert!(field.contains('\\') || field.contains(&value));
            // What is written again between quotes is read as the same.
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let again = parse(&format!("Bearer realm=\"{quoted}\""));
            assert!(again.is_err() || matches!(&again.unwrap()[..], [Challenge::Bearer { realm, .. }] if *realm == value));
        }
    }
});
