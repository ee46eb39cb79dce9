//! Credential helpers: programs that know a login.
//!
//! The protocol is [docker's][protocol]: the key goes to the standard input of `docker-credential-NAME
//! get`, JSON comes back.
//!
//! [protocol]: https://github.com/docker/docker-credential-helpers#development

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Error, Login};
use crate::excerpt::Excerpt;

/// Longest answer read from a helper, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// How long a helper may take: it may have to ask a cloud for a fresh password.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a helper says when it has no login, by its protocol.
const NOT_FOUND: &str = "credentials not found";

/// Asks `docker-credential-<helper>` for the login of `key`.
pub(super) async fn ask(helper: &str, key: &str) -> Result<Option<Login>, Error> {
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
    Ok(Some(Login::new(answer.username, answer.secret.into())))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
