//! What anybody may send as a check-in: nothing panics, what is understood is bounded, and what is not is told in an
//! answer that is well-formed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_proxy::checkin::json::{MAX_DAMAGED, MAX_REPOSITORIES, Report};
use registry_proxy::checkin::report_mirror::{self, CheckIn};
use registry_proxy::checkin::xmlrpc::{Argument, Type, answer, argument, fault};

fuzz_target!(|input: &[u8]| {
    match argument(input) {
        Ok(argument) => assert!(argument.text.len() <= input.len()),
        Err(error) => is_well_formed(&fault(&error.to_string())),
    }
    // As if it had been written in a call.
    if let Ok(text) = std::str::from_utf8(input) {
        is_well_formed(&answer(text));
        for kind in [Type::Text, Type::Bytes] {
            let text = text.to_owned();
            look(CheckIn::unpack(&Argument { kind, text }));
        }
    }
    // As if it had been packed.
    look(CheckIn::read(input));
    if let Ok(report) = Report::from_bytes(input) {
        assert!(report.repositories.is_none_or(|it| it.len() <= MAX_REPOSITORIES));
        assert!(report.damaged.is_none_or(|it| it.len() <= MAX_DAMAGED));
        assert!(report.blobs.is_none_or(|it| it.iter().count() * 40 <= input.len()));
    }
});

fn look(check_in: Result<CheckIn, report_mirror::Malformed>) {
    match check_in {
        Ok(check_in) => {
            for category in check_in.categories {
                assert!(category.repositories.len() as u64 <= category.directories);
            }
        }
        Err(error) => is_well_formed(&fault(&error.to_string())),
    }
}

/// Whether an answer is what a client can read: no element of it is made of the text in it.
fn is_well_formed(answer: &str) {
    let elements = answer.matches('<').count();
    assert_eq!(elements, answer.matches('>').count());
    assert!(elements == 11 || elements == 25, "{answer}");
    assert!(!answer.contains(|c: char| c.is_control() && c != '\n'), "{answer}");
}
