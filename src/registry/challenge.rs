//! What a registry wants to see before it answers: the `WWW-Authenticate` field.
//!
//! The grammar is that of [RFC 9110, section 11.6.1][rfc]: challenges and the parameters of each are
//! separated by the same comma, so the field cannot be split, only read from the left. One liberty is
//! taken because registries take it: a value without quotes may be a URL. Everything else that does not fit
//! is refused, since half a challenge could send a login to the wrong place.
//!
//! [rfc]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1

/// Longest field read, in bytes. Real ones have a few hundred.
const MAX_FIELD: usize = 16 << 10;

/// One way to prove who asks.
///
/// ```
/// use oci_mirror::registry::challenge::{Challenge, parse};
/// let field = r#"Bearer realm="https://auth.example/token",service="r.example""#;
/// let [Challenge::Bearer { realm, .. }] = &parse(field).unwrap()[..] else { panic!() };
/// assert_eq!(realm, "https://auth.example/token");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token, to be had from a token service.
    Bearer {
        /// The address of the token service, as it is written.
        realm: String,
        /// What the token service calls this registry.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
    /// A scheme that we do not know.
    Other,
}

/// The field does not follow the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list of challenges at byte {at}")]
pub struct Malformed {
    /// Where reading stopped.
    pub at: usize,
}

/// Reads one field; a registry may send several, each a list of its own.
pub fn parse(field: &str) -> Result<Vec<Challenge>, Malformed> {
    let mut reader = Reader { field, at: 0 };
    if field.len() > MAX_FIELD {
        return Err(reader.malformed());
    }
    let mut challenges = Vec::new();
    loop {
        reader.skip(|c| c == b',' || is_blank(c));
        if reader.rest().is_empty() {
            return Ok(challenges);
        }
        challenges.push(reader.challenge()?);
    }
}

/// The repository a scope is about, in `repository:NAME:ACTIONS`; other scopes have none.
///
/// The name may itself begin with a host and port.
pub(super) fn scoped_repository(scope: &str) -> Option<&str> {
    let (name, _actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    Some(name)
}

/// The field and how far it has been read. `at` is always at a character: all that is skipped is ASCII,
/// or a whole string between quotes.
struct Reader<'a> {
    field: &'a str,
    at: usize,
}

/// The parameters of a challenge that matter here.
#[derive(Default)]
struct Parameters {
    realm: Option<String>,
    service: Option<String>,
    scope: Option<String>,
}

impl<'a> Reader<'a> {
    fn challenge(&mut self) -> Result<Challenge, Malformed> {
        let scheme = self.token()?;
        let mut parameters = Parameters::default();
        if is_blank(self.peek()) {
            self.skip(is_blank);
            if !self.skipped_token68() {
                self.parameters(&mut parameters)?;
            }
        }
        self.end_of_element()?;
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(Challenge::Basic);
        }
        Ok(match parameters {
            Parameters {
                realm: Some(realm),
                service,
                scope,
            } if scheme.eq_ignore_ascii_case("bearer") => Challenge::Bearer {
                realm,
                service,
                scope,
            },
            // Without a realm there is nobody to ask for a token.
            _ => Challenge::Other,
        })
    }

    /// Reads parameters up to the end of the field or the comma before the next challenge.
    fn parameters(&mut self, parameters: &mut Parameters) -> Result<(), Malformed> {
        loop {
            let before = self.at;
            self.skip(|c| c == b',' || is_blank(c));
            let Some(name) = self.name_of_parameter() else {
                self.at = before;
                return Ok(());
            };
            let value = self.value()?;
            self.end_of_element()?;
            let slot = match name.to_ascii_lowercase().as_str() {
                "realm" => &mut parameters.realm,
                "service" => &mut parameters.service,
                "scope" => &mut parameters.scope,
                _ => continue,
            };
            // Which of two realms gets the login must not be a matter of taste.
            if slot.replace(value).is_some() {
                return Err(self.malformed());
            }
        }
    }

    /// The name before a `=`, which is passed; nothing is passed if there is none.
    fn name_of_parameter(&mut self) -> Option<&'a str> {
        let before = self.at;
        let name = self.token().ok();
        self.skip(is_blank);
        if name.is_some() && self.peek() == b'=' {
            self.at += 1;
            self.skip(is_blank);
            return name;
        }
        self.at = before;
        None
    }

    fn value(&mut self) -> Result<String, Malformed> {
        if self.peek() == b'"' {
            return self.quoted();
        }
        let start = self.at;
        self.skip(|c| c.is_ascii_graphic() && c != b',' && c != b'"');
        if start == self.at {
            return Err(self.malformed());
        }
        Ok(self.field[start..self.at].to_owned())
    }

    /// A string between quotes, in which `\` takes the meaning from the character behind it.
    fn quoted(&mut self) -> Result<String, Malformed> {
        let mut value = String::new();
        let mut escaped = false;
        for (position, character) in self.rest().char_indices().skip(1) {
            match character {
                _ if character.is_control() && character != '\t' => break,
                '\\' if !escaped => escaped = true,
                '"' if !escaped => {
                    self.at += position + 1;
                    return Ok(value);
                }
                _ => {
                    escaped = false;
                    value.push(character);
                }
            }
        }
        Err(self.malformed())
    }

    /// Passes credentials in one piece, which some schemes have in place of parameters.
    fn skipped_token68(&mut self) -> bool {
        let before = self.at;
        self.skip(|c| c.is_ascii_alphanumeric() || b"-._~+/".contains(&c));
        let some = self.at > before;
        self.skip(|c| c == b'=');
        let whole = some && self.end_of_element().is_ok();
        if !whole {
            self.at = before;
        }
        whole
    }

    /// A comma or the end must follow, after blanks; the comma stays.
    fn end_of_element(&mut self) -> Result<(), Malformed> {
        self.skip(is_blank);
        if self.rest().is_empty() || self.peek() == b',' {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        self.skip(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c));
        if start == self.at {
            return Err(self.malformed());
        }
        Ok(&self.field[start..self.at])
    }

    fn skip(&mut self, passes: impl Fn(u8) -> bool) {
        self.at += self.rest().bytes().take_while(|&c| passes(c)).count();
    }

    /// The next byte; 0, which is in no field, at the end.
    fn peek(&self) -> u8 {
        self.rest().bytes().next().unwrap_or(0)
    }

    fn rest(&self) -> &'a str {
        &self.field[self.at..]
    }

    fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }
}

fn is_blank(c: u8) -> bool {
    c == b' ' || c == b'\t'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:library/fedora:pull"),
        );
        let cases = [
            ("", vec![]),
            (" , ,", vec![]),
            ("Basic", vec![Challenge::Basic]),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            (
                r#"Basic realm="https://123.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#,
                vec![Challenge::Basic],
            ),
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/fedora:pull""#,
                vec![hub.clone()],
            ),
            (
                "bEARER\tscope = \"repository:library/fedora:pull\" , Service=registry.docker.io,,REALM=https://auth.docker.io/token",
                vec![hub.clone()],
            ),
            (
                r#"Bearer realm="http://h/t?a=b,c",error="invalid_token""#,
                vec![bearer("http://h/t?a=b,c", None, None)],
            ),
            (
                r#"Bearer realm="http://h/\"\\""#,
                vec![bearer(r#"http://h/"\"#, None, None)],
            ),
            (
                r#"Negotiate, NTLM TlRMTVNTUAAB==, Basic realm="a, Bearer realm=b", Bearer realm="http://h""#,
                vec![
                    Challenge::Other,
                    Challenge::Other,
                    Challenge::Basic,
                    bearer("http://h", None, None),
                ],
            ),
            ("Bearer", vec![Challenge::Other]),
            ("Bearer realm=", vec![Challenge::Other]),
            (r#"Bearer service="x""#, vec![Challenge::Other]),
            (
                r#"Bearer realm="", Basic"#,
                vec![bearer("", None, None), Challenge::Basic],
            ),
            (
                "Digest realm=x, nonce=\"y\", Basic",
                vec![Challenge::Other, Challenge::Basic],
            ),
        ];
        for (field, challenges) in cases {
            assert_eq!(parse(field), Ok(challenges), "{field}");
        }
    }

    #[test]
    fn what_is_no_list_of_challenges_is_refused_at_its_place() {
        for (field, at) in [
            ("\"Basic\"", 0),
            ("=", 0),
            ("Bearer realm=\"http://h", 13),
            ("Bearer realm=\"http://h\\\"", 13),
            ("Bearer realm=\"a\u{7}b\"", 13),
            ("Bearer realm=\"a\"service=\"b\"", 16),
            ("Bearer realm=\"a\" service=\"b\"", 17),
            ("Bearer realm=a, realm=b", 23),
            ("Basic realm=\"é\" é", 17),
            ("Bearer : x", 7),
        ] {
            assert_eq!(parse(field), Err(Malformed { at }), "{field}");
        }
        assert!(parse(&"Basic, ".repeat(10_000)).is_err());
    }

    #[test]
    fn a_scope_names_its_repository() {
        for (scope, name) in [
            ("repository:a/b:pull", Some("a/b")),
            ("repository:a/b:pull,push", Some("a/b")),
            ("repository:h:5000/a:pull", Some("h:5000/a")),
            ("repository:a", None),
            ("registry:catalog:*", None),
            ("", None),
        ] {
            assert_eq!(scoped_repository(scope), name, "{scope}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_is_read_back(realm in "[ -~é]{0,40}", scope in "[ -~]{0,40}") {
            let quote = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
            let field = format!(
                r#"Basic realm="{0}", Bearer scope="{1}", realm="{0}""#, quote(&realm), quote(&scope)
            );
            let expected = vec![Challenge::Basic, bearer(&realm, None, Some(&scope))];
            prop_assert_eq!(parse(&field), Ok(expected));
        }

        #[test]
        fn never_panics(field in "[a-z=,\" \\\\é:/]{0,60}") {
            let _ = parse(&field);
        }
    }
}
