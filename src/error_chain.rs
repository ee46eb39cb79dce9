//! An error and its causes in one line, for where a line is all there is: reports, evidence, findings.

use std::error::Error;

/// The messages of `error` and of all its causes, joined by `: `.
///
/// ```
/// let cause = "x".parse::<u8>().unwrap_err();
/// assert_eq!(oci_mirror::error_chain::chain(&cause), cause.to_string());
/// ```
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
