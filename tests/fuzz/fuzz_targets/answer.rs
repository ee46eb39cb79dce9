//! What a mirror answers: status, header fields, the part it says it sends.
#![no_main]

use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use registry_proxy::crawler::check::{Answer, head, part};

const SIZE: u64 = 100;

fuzz_target!(|input: (u16, Vec<(u8, Vec<u8>)>)| {
    let (status, fields) = input;
    let Ok(status) = StatusCode::from_u16(status) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = [CONTENT_RANGE, CONTENT_LENGTH, CONTENT_ENCODING][usize::from(name % 3)].clone();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.append(name, value);
        }
    }
    // Only a right length lets the body be read, and only the right part.
    if let Ok(Some(length)) = head(status, &headers, SIZE) {
        assert_eq!((status, length), (StatusCode::OK, SIZE));
    }
    match part(status, &headers, &(10..20), SIZE) {
        Ok(()) => assert_eq!(status, StatusCode::PARTIAL_CONTENT),
        Err(Answer::Missing) => assert!([403, 404, 410].contains(&status.as_u16())),
        Err(Answer::Damaged(_)) => assert_eq!(status, StatusCode::PARTIAL_CONTENT),
        Err(_) => {}
    }
});
