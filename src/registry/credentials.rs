//! The logins other tools have stored: docker's `config.json`, podman's `auth.json`, and the
//! credential helpers both may name.
//!
//! Formats: [config.json] and [auth.json]. An entry for `host/namespace` wins over one for `host`.
//! A helper is a program that gets the registry on its standard input and answers in JSON; it is
//! started without a shell, its answer is bounded, and it must come within a minute.
//!
//! [config.json]: https://docs.docker.com/reference/cli/docker/login/
//! [auth.json]: https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::hub;
use crate::excerpt::Excerpt;
use crate::reference::{RegistryHost, RepoName};

/// Largest file of logins read, in bytes; a real one has a few thousand.
const MAX_FILE: u64 = 1 << 20;

/// Longest answer read from a helper, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// How long a helper may take: it may have to ask a cloud for a fresh password.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a helper says when it has no login, by its protocol.
const NOT_FOUND: &str = "credentials not found";

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
pub struct Login {
    /// The name of the user.
    pub user: String,
    /// The password, or a token in its place.
    pub password: Secret,
}

/// The files that may hold a login, most important first.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    files: Vec<AuthFile>,
}

#[derive(Debug, Clone)]
struct AuthFile {
    path: PathBuf,
    content: Content,
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
                Some(Found::Helper(helper, key)) => ask(helper, &key).await?,
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

impl AuthFile {
    fn read(path: &Path) -> Result<Option<Self>, Error> {
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
struct Content {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

enum Found<'a> {
    Stored(&'a str, &'a Entry),
    Helper(&'a str, String),
}

impl Content {
    fn find(&self, registry: &RegistryHost, name: &RepoName) -> Option<Found<'_>> {
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

    fn decode(&self, key: &str, path: &Path) -> Result<Login, Error> {
        if self.identitytoken.as_ref().is_some_and(|t| !t.is_empty()) {
            return Err(Error::IdentityToken {
                key: Excerpt(key).into(),
            });
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Login {
                user: user.clone(),
                password: password.clone().into(),
            });
        }
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(self.auth.as_deref().unwrap_or_default().trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, password)) => Ok(Login {
                user: user.to_owned(),
                // Old versions of docker pad the password with zero bytes.
                password: password.trim_end_matches('\0').to_owned().into(),
            }),
            None => Err(Error::Malformed {
                path: path.to_owned(),
                key: Excerpt(key).into(),
            }),
        }
    }
}

/// Asks `docker-credential-<helper>` for the login of `key`.
async fn ask(helper: &str, key: &str) -> Result<Option<Login>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    // The name becomes part of a program's name, never of a path.
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if helper.is_empty() || !helper.chars().all(word) {
        return Err(Error::HelperName(Excerpt(helper).into()));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |source| Error::Helper {
        program: program.clone(),
        source,
    };
    let (success, answer) = tokio::time::timeout(HELPER_TIMEOUT, converse(&program, key))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    if !success {
        let text = String::from_utf8_lossy(&answer);
        return if text.contains(NOT_FOUND) {
            Ok(None)
        } else {
            Err(failed(io::Error::other(Excerpt(text.trim()).to_string())))
        };
    }
    // The parser's own message could quote the secret.
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| failed(io::Error::other("its answer is not the JSON of a login")))?;
    if answer.username == "<token>" {
        return Err(Error::IdentityToken {
            key: Excerpt(key).into(),
        });
    }
    Ok(Some(Login {
        user: answer.username,
        password: answer.secret.into(),
    }))
}

/// Runs `program get` with `key` as its input; says whether it succeeded, and what it answered.
async fn converse(program: &str, key: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(key.as_bytes()).await {
            // A helper may answer without reading.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    }
    Ok((child.wait().await?.success(), answer))
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
    /// The login is a refresh token, which needs another flow.
    #[error(
        "the login for {key} is an identity token, which is not supported: store user and password, or an access token as password"
    )]
    IdentityToken {
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

    fn stored(json: &str, image: &str) -> Option<String> {
        let content: Content = serde_json::from_str(json).unwrap();
        let (registry, name) = image.split_once('/').unwrap();
        match content.find(&registry.parse().unwrap(), &name.parse().unwrap())? {
            Found::Stored(key, entry) => {
                let login = entry.decode(key, Path::new("f")).unwrap();
                Some(format!("{}:{}", login.user, login.password.reveal()))
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
    fn secrets_are_never_shown() {
        let login = Login {
            user: "u".to_owned(),
            password: "hunter2".to_owned().into(),
        };
        assert!(!format!("{login:?}").contains("hunter2"));
    }

    #[test]
    fn unusable_logins_are_refused_with_the_key() {
        for json in [
            r#"{"auths":{"q.io":{"auth":"dTpw","identitytoken":"t"}}}"#,
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

    #[tokio::test]
    async fn a_helper_with_a_path_for_a_name_is_not_run() {
        for helper in ["../../bin/sh", "", "a b", "x;y"] {
            let error = ask(helper, "q.io").await.unwrap_err();
            assert!(matches!(error, Error::HelperName(_)), "{helper}");
        }
        let error = ask("surely-not-installed", "q.io").await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("docker-credential-surely-not-installed")
        );
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
