//! The JSON in which a registry says why it refuses.
//!
//! See the [specification](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes).

use serde::Deserialize;

use crate::excerpt::Excerpt;

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// The first reason given, excerpted.
pub(super) fn message(body: &[u8]) -> Option<Box<str>> {
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    let reason = envelope.errors.into_iter().next()?;
    let text = match (reason.code, reason.message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (code, message) => code.or(message)?,
    };
    Some(Excerpt(&text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_envelope_is_escaped() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no \u001b[2J"}]}"#;
        assert_eq!(message(body).as_deref(), Some(r"`DENIED: no \u{1b}[2J`"));
        for other in [
            &b""[..],
            b"<html>",
            br#"{"errors":[]}"#,
            br#"{"errors":[{}]}"#,
        ] {
            assert_eq!(message(other), None);
        }
    }
}
