//! The logins other tools have stored: docker's `config.json`, podman's `auth.json`, and the
//! credential helpers both may name.
//!
//! Formats: [config.json] and [auth.json]. An entry for `host/namespace` wins over one for `host`.
//! A helper is a program that gets the registry on its standard input and answers in JSON; it is
//! started without a shell, its answer is bounded, and it must come within a minute.
//!
//! [config.json]: https://docs.docker.com/reference/cli/docker/login/
//! [auth.json]: https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md

mod file;
mod helper;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::reference::{RegistryHost, RepoName};
use file::{AuthFile, Found};

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// For the registry itself, or to be exchanged for a token.
    Password {
        /// The name of the user.
        user: String,
        /// The password, or a token in its place.
        password: Secret,
    },
    /// A refresh token: only good to be exchanged for a token, without the name of a user.
    IdentityToken(Secret),
}

impl Login {
    /// The login behind a user's name and a secret, as helpers give both.
    fn new(user: String, secret: Secret) -> Self {
        // The name by which helpers say that the secret is no password.
        if user == "<token>" {
            Self::IdentityToken(secret)
        } else {
            Self::Password {
                user,
                password: secret,
            }
        }
    }
}

/// The files that may hold a login, most important first.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    files: Vec<AuthFile>,
}

impl Credentials {
    /// No logins at all: every request is anonymous.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads `authfile`, which must be there and is then the only one; without it, every file where
    /// docker and podman keep logins.
    pub fn load(authfile: Option<&Path>) -> Result<Self, Error> {
        let environment = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let explicit = authfile
            .map(Path::to_owned)
            .or_else(|| environment("REGISTRY_AUTH_FILE"));
        let mut files = Vec::new();
        if let Some(path) = explicit {
            let missing = || Error::Read {
                path: path.clone(),
                source: io::ErrorKind::NotFound.into(),
            };
            files.push(AuthFile::read(&path)?.ok_or_else(missing)?);
            return Ok(Self { files });
        }
        let user = rustix::process::getuid().as_raw();
        for path in places(environment, user) {
            files.extend(AuthFile::read(&path)?);
        }
        Ok(Self { files })
    }

    /// The login for a repository; `None` means to go anonymously.
    pub async fn login(
        &self,
        registry: &RegistryHost,
        name: &RepoName,
    ) -> Result<Option<Login>, Error> {
        for file in &self.files {
            let login = match file.content.find(registry, name) {
                None => None,
                Some(Found::Stored(key, entry)) => Some(entry.decode(key, &file.path)?),
                Some(Found::Helper(helper, key)) => helper::ask(helper, &key).await?,
            };
            if login.is_some() {
                return Ok(login);
            }
        }
        Ok(None)
    }
}

/// Where podman and docker keep logins, most important first.
fn places(environment: impl Fn(&str) -> Option<PathBuf>, user: u32) -> Vec<PathBuf> {
    let below_home = |path: &str| environment("HOME").map(|home| home.join(path));
    let runtime = environment("XDG_RUNTIME_DIR")
        .map_or_else(
            || Path::new("/run/containers").join(user.to_string()),
            |dir| dir.join("containers"),
        )
        .join("auth.json");
    let podman = environment("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = environment("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    [
        Some(runtime),
        podman.map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Why a stored login cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not JSON of this shape.
    #[error("{} is not a file of registry logins: see line {line}, column {column}", .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// The line of it that is wrong.
        line: usize,
        /// And where in the line.
        column: usize,
    },
    /// An entry is not `user:password` in base64.
    #[error("the entry {key} of {} is not a login", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// The key of the entry, already excerpted.
        key: Box<str>,
    },
    /// The name of a helper has characters a program's name must not have here.
    #[error("{0} is not the name of a credential helper")]
    HelperName(Box<str>),
    /// A helper cannot be run, or failed.
    #[error("credential helper {program} failed")]
    Helper {
        /// The program.
        program: String,
        /// What happened.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        for user in ["u", "<token>"] {
            let login = Login::new(user.to_owned(), "hunter2".to_owned().into());
            assert!(!format!("{login:?}").contains("hunter2"));
        }
    }

    #[test]
    fn logins_are_looked_for_where_podman_and_docker_keep_them() {
        let found = |variables: &[(&str, &str)]| {
            places(
                |wanted| {
                    let variable = variables.iter().find(|(name, _)| *name == wanted)?;
                    Some(PathBuf::from(variable.1))
                },
                7,
            )
        };
        let paths = |paths: [&str; 3]| paths.map(PathBuf::from);
        assert_eq!(
            found(&[("HOME", "/h")]),
            paths([
                "/run/containers/7/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json",
            ])
        );
        assert_eq!(
            found(&[
                ("HOME", "/h"),
                ("XDG_RUNTIME_DIR", "/run/user/7"),
                ("XDG_CONFIG_HOME", "/c"),
                ("DOCKER_CONFIG", "/d"),
            ]),
            paths([
                "/run/user/7/containers/auth.json",
                "/c/containers/auth.json",
                "/d/config.json",
            ])
        );
    }

    #[test]
    fn a_malformed_file_is_named_without_what_is_in_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"auths":{"q.io":"Ym9iOnNlY3JldA=="}}"#).unwrap();
        let error = Credentials::load(Some(file.path())).unwrap_err();
        let shown = format!("{error} {:?} {error:?}", std::error::Error::source(&error));
        assert!(shown.contains("line 1, column"), "{shown}");
        assert!(!shown.contains("Ym9i"), "{shown}");
    }

    #[test]
    fn a_file_named_explicitly_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Credentials::load(Some(&dir.path().join("none"))).is_err());
    }
}
