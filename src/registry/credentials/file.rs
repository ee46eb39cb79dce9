//! One file of logins, as docker and podman write it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use super::{Error, Login};
use crate::excerpt::Excerpt;
use crate::reference::{RegistryHost, RepoName};
use crate::registry::hub;

/// Largest file of logins read, in bytes; a real one has a few thousand.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct AuthFile {
    pub(super) path: PathBuf,
    pub(super) content: Content,
}

impl AuthFile {
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() > MAX_FILE => {
                return Err(failed(io::ErrorKind::FileTooLarge.into()));
            }
            Ok(_) => std::fs::read(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // The parser's own message could quote a password.
        let content = serde_json::from_slice(&bytes).map_err(|error| Error::Parse {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        Ok(Some(Self {
            path: path.to_owned(),
            content,
        }))
    }
}

/// The part of the file that is about logins. Unknown fields are docker's other settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Content {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

pub(super) enum Found<'a> {
    Stored(&'a str, &'a Entry),
    Helper(&'a str, String),
}

impl Content {
    pub(super) fn find(&self, registry: &RegistryHost, name: &RepoName) -> Option<Found<'_>> {
        let keys = keys(registry, name);
        for key in &keys {
            let helper = self
                .cred_helpers
                .iter()
                .find(|(stored, _)| normalise(stored) == *key);
            if let Some((_, helper)) = helper {
                return Some(Found::Helper(helper, key.clone()));
            }
        }
        for wanted in &keys {
            let stored = self
                .auths
                .iter()
                .find(|(key, entry)| normalise(key) == *wanted && !entry.is_empty());
            if let Some((key, entry)) = stored {
                return Some(Found::Stored(key, entry));
            }
        }
        let helper = self
            .creds_store
            .as_deref()
            .filter(|name| !name.is_empty())?;
        let key = if hub::is_hub(registry) {
            hub::LOGIN_KEY
        } else {
            registry.as_str()
        };
        Some(Found::Helper(helper, key.to_owned()))
    }
}

/// The keys that may hold the login for a repository, most specific first.
fn keys(registry: &RegistryHost, name: &RepoName) -> Vec<String> {
    let hosts: &[&str] = if hub::is_hub(registry) {
        &["docker.io", "index.docker.io", "registry-1.docker.io"]
    } else {
        &[registry.as_str()]
    };
    let mut keys = Vec::new();
    let mut rest = Some(name.as_str());
    while let Some(path) = rest {
        keys.extend(hosts.iter().map(|host| format!("{host}/{path}")));
        rest = path.rsplit_once('/').map(|(parent, _)| parent);
    }
    keys.extend(hosts.iter().map(|&host| host.to_owned()));
    if hub::is_hub(registry) {
        keys.push(hub::LOGIN_KEY.to_owned());
    }
    keys
}

/// Docker writes a key as a URL now and then: `https://host/v1/` is the host. Podman writes what it was
/// given, a slash at the end included.
fn normalise(key: &str) -> &str {
    let Some(rest) = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
    else {
        return key.trim_end_matches('/');
    };
    rest.split('/').next().unwrap_or(rest)
}

impl Entry {
    /// Docker leaves `{}` behind for a login that a helper keeps.
    fn is_empty(&self) -> bool {
        let set = |field: &Option<String>| field.as_ref().is_some_and(|text| !text.is_empty());
        !(set(&self.auth) || set(&self.username) || set(&self.identitytoken))
    }

    pub(super) fn decode(&self, key: &str, path: &Path) -> Result<Login, Error> {
        if let Some(token) = self
            .identitytoken
            .as_ref()
            .filter(|token| !token.is_empty())
        {
            return Ok(Login::IdentityToken(token.clone().into()));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Login::new(user.clone(), password.clone().into()));
        }
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(self.auth.as_deref().unwrap_or_default().trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, password)) => Ok(Login::new(
                user.to_owned(),
                // Old versions of docker pad the password with zero bytes.
                password.trim_end_matches('\0').to_owned().into(),
            )),
            None => Err(Error::Malformed {
                path: path.to_owned(),
                key: Excerpt(key).into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(json: &str, image: &str) -> Option<String> {
        let content: Content = serde_json::from_str(json).unwrap();
        let (registry, name) = image.split_once('/').unwrap();
        match content.find(&registry.parse().unwrap(), &name.parse().unwrap())? {
            Found::Stored(key, entry) => {
                let login = entry.decode(key, Path::new("f")).unwrap();
                Some(match login {
                    Login::Password { user, password } => format!("{user}:{}", password.reveal()),
                    Login::IdentityToken(token) => format!("token {}", token.reveal()),
                })
            }
            Found::Helper(helper, key) => Some(format!("{helper}<{key}")),
        }
    }

    #[test]
    fn the_longest_key_wins() {
        // u:p, a:b
        let json = r#"{"auths":{"q.io":{"auth":"dTpw"},"q.io/ns":{"auth":"YTpi"}}}"#;
        assert_eq!(stored(json, "q.io/other/x").as_deref(), Some("u:p"));
        assert_eq!(stored(json, "q.io/ns/x").as_deref(), Some("a:b"));
        assert_eq!(stored(json, "q.io/nsx").as_deref(), Some("u:p"));
        assert_eq!(stored(json, "r.io/ns/x"), None);
    }

    #[test]
    fn the_hub_is_found_under_all_its_names() {
        for key in [
            "https://index.docker.io/v1/",
            "docker.io",
            "index.docker.io",
        ] {
            let json = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#);
            assert_eq!(
                stored(&json, "docker.io/fedora").as_deref(),
                Some("u:p"),
                "{key}"
            );
        }
    }

    #[test]
    fn helpers_stand_in_for_empty_entries() {
        let json = r#"{"auths":{"q.io":{},"s.io":{"auth":"dTpw"}},"credsStore":"desktop",
                       "credHelpers":{"gcr.io":"gcloud"},"psFormat":"x"}"#;
        assert_eq!(stored(json, "q.io/x").as_deref(), Some("desktop<q.io"));
        assert_eq!(stored(json, "s.io/x").as_deref(), Some("u:p"));
        assert_eq!(stored(json, "gcr.io/x").as_deref(), Some("gcloud<gcr.io"));
        assert_eq!(
            stored(json, "docker.io/x").as_deref(),
            Some("desktop<https://index.docker.io/v1/")
        );
    }

    #[test]
    fn unusable_logins_are_refused_with_the_key() {
        for json in [
            r#"{"auths":{"q.io":{"auth":"!!"}}}"#,
            r#"{"auths":{"q.io":{"auth":"dQ=="}}}"#,
        ] {
            let content: Content = serde_json::from_str(json).unwrap();
            let found = content.find(&"q.io".parse().unwrap(), &"x".parse().unwrap());
            let Some(Found::Stored(key, entry)) = found else {
                panic!("{json}")
            };
            let error = entry.decode(key, Path::new("f")).unwrap_err();
            assert!(error.to_string().contains("q.io"), "{error}");
        }
    }

    #[test]
    fn an_identity_token_wins_over_the_password_beside_it() {
        for json in [
            r#"{"auths":{"q.io":{"auth":"dTo=","identitytoken":"t"}}}"#,
            r#"{"auths":{"q.io":{"identitytoken":"t"}}}"#,
            r#"{"auths":{"q.io":{"username":"<token>","password":"t"}}}"#,
        ] {
            assert_eq!(stored(json, "q.io/x").as_deref(), Some("token t"), "{json}");
        }
    }

    #[test]
    fn keys_with_a_slash_at_the_end_match() {
        for key in ["q.io/", "q.io/ns/", "https://q.io/"] {
            let json = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#);
            assert_eq!(stored(&json, "q.io/ns/x").as_deref(), Some("u:p"), "{key}");
        }
        let json = r#"{"credHelpers":{"q.io/":"fake"}}"#;
        assert_eq!(stored(json, "q.io/x").as_deref(), Some("fake<q.io"));
    }
}
