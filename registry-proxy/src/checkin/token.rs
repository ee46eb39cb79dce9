//! Tokens: the secret by which a mirror is known when it checks in.
//!
//! A token is `omt_KEY_SECRET`. The key finds the row in the database without comparing secrets; of the rest only
//! a hash is kept. There are 256 random bits in it, so that a fast hash is enough: there is nothing to guess.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oci_mirror::digest::Algorithm;
use rustix::rand::{GetRandomFlags, getrandom};

/// How many bytes of a token are secret.
const SECRET: usize = 32;

/// The secret in text.
const SECRET_LENGTH: usize = 43;

/// The key in text.
const KEY_LENGTH: usize = 8;

/// The digits of a key: nothing that is mistaken for something else.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A token of a mirror; shown to nobody but whoever asked for a new one.
///
/// ```
/// use registry_proxy::checkin::Token;
/// let token = Token::new()?;
/// assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
/// assert!(!format!("{token:?}").contains(token.reveal()));
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// One that nobody knows yet.
    pub fn new() -> std::io::Result<Self> {
        let mut random = [0; KEY_LENGTH + SECRET];
        let mut filled = 0;
        // A signal may come in between.
        while filled < random.len() {
            filled += getrandom(&mut random[filled..], GetRandomFlags::empty())?;
        }
        let (key, secret) = random.split_at(KEY_LENGTH);
        let digit = |byte: &u8| char::from(DIGITS[usize::from(byte % 32)]);
        let key: String = key.iter().map(digit).collect();
        let secret = URL_SAFE_NO_PAD.encode(secret);
        Ok(Self(format!("omt_{key}_{secret}").into()))
    }

    /// The whole of it, for whoever is to keep it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What it is found by, which is no secret.
    pub fn key(&self) -> &str {
        &self.0[4..4 + KEY_LENGTH]
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(Algorithm::Sha256.digest(self.0.as_bytes()).as_bytes());
        hash
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let (key, secret) = text
            .strip_prefix("omt_")
            .and_then(|rest| rest.split_at_checked(KEY_LENGTH))
            .ok_or(NoToken)?;
        let secret = secret.strip_prefix('_').ok_or(NoToken)?;
        let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_right = key.bytes().all(|byte| DIGITS.contains(&byte))
            && secret.len() == SECRET_LENGTH
            && secret.bytes().all(is_digit);
        is_right.then(|| Self(text.into())).ok_or(NoToken)
    }
}

/// The text has not the shape of a token; what it is may be a secret of something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no token of a mirror")]
pub struct NoToken;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tokens_are_alike() {
        let (one, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert_ne!(one.key(), other.key());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.reveal().len(), 4 + KEY_LENGTH + 1 + SECRET_LENGTH);
        assert_eq!(one.reveal().parse(), Ok(one));
    }

    #[test]
    fn only_the_shape_of_a_token_is_one() {
        let secret = "a".repeat(SECRET_LENGTH);
        assert!(format!("omt_abcdefgh_{secret}").parse::<Token>().is_ok());
        for text in [
            String::new(),
            "omt_".to_owned(),
            format!("omt_abcdefgh{secret}"),
            format!("omt_abcdefgh_{secret}a"),
            format!("omt_abcdefg1_{secret}"),
            format!("omt_abcdefg_{secret}a"),
            format!("omt_abcdefgh_{}=", &secret[1..]),
            format!("omt_abcdefg\u{e9}_{secret}"),
            format!(" omt_abcdefgh_{secret}"),
        ] {
            assert_eq!(text.parse::<Token>(), Err(NoToken), "{text}");
        }
    }
}
