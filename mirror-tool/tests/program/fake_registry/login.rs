//! Who may ask, and the token service.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};

use super::content::respond;
use super::{Auth, Body, State, TokenRequest};

static TOKENS: AtomicU64 = AtomicU64::new(1);

impl State {
    /// The answer of the token service.
    pub(super) fn new_token(&mut self) -> String {
        let token = format!("token-{}", TOKENS.fetch_add(1, Ordering::Relaxed));
        self.tokens.insert(token.clone());
        match self.token_life {
            None => format!(r#"{{"token":"{token}"}}"#),
            Some(seconds) => format!(r#"{{"access_token":"{token}","expires_in":{seconds}}}"#),
        }
    }
}

pub(super) fn authenticate(
    request: &Request<Bytes>,
    state: &mut State,
    address: SocketAddr,
) -> Option<Response<Body>> {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap().to_owned());
    let basic = |(user, password): (&str, &str)| {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        format!("Basic {pair}")
    };
    let challenge = state.challenge.clone();
    let refuse = |usual: String| {
        let mut response = respond(
            StatusCode::UNAUTHORIZED,
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}"#,
        );
        for field in challenge.clone().unwrap_or_else(|| vec![usual.clone()]) {
            response
                .headers_mut()
                .append(header::WWW_AUTHENTICATE, field.parse().unwrap());
        }
        response
    };
    if request.uri().path() == "/token" {
        state.token_requests.push(TokenRequest {
            method: request.method().clone(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            authorization: given.clone(),
            body: String::from_utf8(request.body().to_vec()).unwrap(),
        });
    } else if !request.uri().path().contains(state.guarded) {
        return None;
    }
    match state.auth.clone() {
        Auth::None => None,
        Auth::Identity(token) if request.uri().path() == "/token" => {
            let body = String::from_utf8_lossy(request.body()).into_owned();
            if !body
                .split('&')
                .any(|pair| pair == format!("refresh_token={token}"))
            {
                return Some(respond(StatusCode::UNAUTHORIZED, &body));
            }
            Some(respond(StatusCode::OK, &state.new_token()))
        }
        Auth::Basic(user, password) => (given != Some(basic((user, password))))
            .then(|| refuse(r#"Basic realm="fake""#.to_owned())),
        Auth::Bearer(login) if request.uri().path() == "/token" => {
            if login.is_some_and(|login| given != Some(basic(login))) {
                return Some(respond(StatusCode::UNAUTHORIZED, "wrong password"));
            }
            Some(respond(StatusCode::OK, &state.new_token()))
        }
        Auth::Bearer(_) | Auth::Identity(_) => {
            let token = given
                .as_deref()
                .and_then(|given| given.strip_prefix("Bearer "));
            let known = token.is_some_and(|token| state.tokens.contains(token));
            (!known).then(|| {
                refuse(format!(
                    r#"Bearer realm="http://{address}/token",service="fake""#
                ))
            })
        }
    }
}
