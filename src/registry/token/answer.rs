//! What a token service answers: a token, or why there is none.

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;
use url::form_urlencoded;

use super::{basic, field};
use crate::excerpt::Excerpt;
use crate::registry::credentials::Login;
use crate::registry::envelope;

/// A token is renewed when a tenth of its life is left, but not earlier than this before its end.
const LONGEST_MARGIN: Duration = Duration::from_secs(30);

/// What the requests to the registry then carry.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Token {
    pub(in crate::registry) authorization: HeaderValue,
    /// When to ask for the next one; `None` if the service does not say how long this one lives.
    pub(in crate::registry) renew_at: Option<Instant>,
}

/// Reads the answer of a token service; `None` if there is no token in it.
pub(super) fn parse(body: &[u8], received: Instant) -> Option<Token> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        /// Of a shape we must not depend on.
        expires_in: Option<serde_json::Value>,
    }
    // The parser's own message could quote the token.
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())?;
    let lives = answer
        .expires_in
        .and_then(|seconds| seconds.as_u64())
        .filter(|&seconds| seconds > 0)
        .map(Duration::from_secs);
    Some(Token {
        authorization: field(&format!("Bearer {token}"))?,
        renew_at: lives.and_then(|lives| {
            let margin = (lives / 10).min(LONGEST_MARGIN);
            received.checked_add(lives.saturating_sub(margin))
        }),
    })
}

/// The words in which a service refuses, fit to be shown: some services repeat what they were sent.
pub(super) fn reason(body: &[u8], login: Option<&Login>) -> Option<Box<str>> {
    let text = String::from_utf8_lossy(body);
    let secrets = match login {
        None => Vec::new(),
        Some(Login::IdentityToken(token)) => vec![token.reveal().to_owned()],
        Some(Login::Password { user, password }) => vec![
            password.reveal().to_owned(),
            basic(user, password.reveal())
                .trim_start_matches("Basic ")
                .to_owned(),
        ],
    };
    let message = envelope::message(body);
    let shows = |secret: &String| {
        let escaped: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        // JSON has its own ways to write a character, so what it says is looked at as well.
        let said = message.as_deref().unwrap_or_default();
        !secret.is_empty()
            && [&text, said]
                .iter()
                .any(|text| text.contains(secret) || text.contains(&escaped))
    };
    if text.trim().is_empty() || secrets.iter().any(shows) {
        return None;
    }
    message.or_else(|| Some(Excerpt(text.trim()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password() -> Login {
        Login::Password {
            user: "me".to_owned(),
            password: "secret".to_owned().into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_a_token_and_perhaps_how_long_it_lives() {
        let now = Instant::now();
        for (body, field, seconds) in [
            (r#"{"token":"t"}"#, "Bearer t", None),
            (
                r#"{"access_token":"t","expires_in":100}"#,
                "Bearer t",
                Some(90),
            ),
            (
                r#"{"token":"","access_token":"t","expires_in":3600}"#,
                "Bearer t",
                Some(3570),
            ),
            (
                r#"{"token":"t","access_token":"u","expires_in":0}"#,
                "Bearer t",
                None,
            ),
            (r#"{"token":"t","expires_in":"soon"}"#, "Bearer t", None),
            (
                r#"{"token":"t","expires_in":18446744073709551615}"#,
                "Bearer t",
                None,
            ),
        ] {
            let token = parse(body.as_bytes(), now).unwrap();
            assert_eq!(token.authorization, field, "{body}");
            assert!(token.authorization.is_sensitive());
            let renew = token.renew_at.map(|at| (at - now).as_secs());
            assert_eq!(renew, seconds, "{body}");
        }
        for body in [
            "",
            "t",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":7}"#,
            r#"{"token":"a\nb"}"#,
        ] {
            assert!(parse(body.as_bytes(), now).is_none(), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_short_and_shows_no_secret() {
        let long = "x".repeat(100_000);
        let token = Login::IdentityToken("secret/2".to_owned().into());
        for (login, body, shown) in [
            (password(), "no\u{1b}[2J", Some(r"`no\u{1b}[2J`")),
            (
                password(),
                r#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
                Some("`DENIED: no`"),
            ),
            (password(), "wrong password `secret`", None),
            (password(), "you sent Basic bWU6c2VjcmV0", None),
            (token.clone(), "you sent refresh_token=secret%2F2", None),
            (token.clone(), "you sent secret/2", None),
            (token, r#"{"errors":[{"message":"not secret\/2"}]}"#, None),
            (password(), " ", None),
        ] {
            let reason = reason(body.as_bytes(), Some(&login));
            assert_eq!(reason.as_deref(), shown, "{body}");
        }
        let reason = reason(long.as_bytes(), Some(&password())).unwrap();
        assert!(reason.len() < 200, "{reason}");
    }
}
