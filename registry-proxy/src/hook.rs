//! Programs of the operator that are told something: run with it on their standard input, for a bounded time.
//!
//! The first word is the program and the others are its arguments; no shell reads them. What it prints is
//! not looked at, its complaints go where ours go. One that takes too long is killed with all it started;
//! one that ends well may leave something running.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use oci_mirror::process_group::ProcessGroup;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command with `input` on its standard input; an empty command is nobody to tell.
pub(crate) async fn tell(command: &[String], input: &[u8]) -> Result<(), Error> {
    tell_within(LIMIT, command, input).await
}

async fn tell_within(limit: Duration, command: &[String], input: &[u8]) -> Result<(), Error> {
    let [program, arguments @ ..] = command else {
        return Ok(());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut group = ProcessGroup::start(&mut command).map_err(Error::Run)?;
    let stdin = group.leader().stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A command that does not read to the end has its reasons; its status tells.
            drop(stdin.write_all(input).await);
        }
        // Closed by now; it is the end of the command that is waited for.
        std::future::pending().await
    };
    let ended = async {
        tokio::select! {
            status = group.leader().wait() => status,
            status = feed => status,
        }
    };
    match timeout(limit, ended).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(Error::Status(status)),
        Ok(Err(error)) => Err(Error::Run(error)),
        Err(_) => Err(Error::TimeOver(limit)),
    }
}

/// Why a command was not told, or may not have done what it is for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It could not be started, or lost.
    #[error("it cannot be run")]
    Run(#[source] io::Error),
    /// It says so.
    #[error("it failed ({0})")]
    Status(ExitStatus),
    /// It was killed.
    #[error("it took longer than {0:?} and was ended")]
    TimeOver(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_mirror::process_group::is_alive;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn a_command_gets_the_whole_input_and_no_shell_reads_its_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a $(touch x); b");
        let command = ["tee".to_owned(), path.display().to_string()];
        let input = vec![b'x'; 1 << 20];
        tell(&command, &input).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), input);
    }

    #[tokio::test]
    async fn a_command_need_not_read() {
        let input = vec![b'x'; 1 << 20];
        tell(&shell("exit 0"), &input).await.unwrap();
        let failed = tell(&shell("exit 3"), &input).await.unwrap_err();
        assert!(matches!(failed, Error::Status(status) if status.code() == Some(3)));
        // What it leaves behind may go on, and hold the pipe.
        tell(&shell("exec 3<&0; sleep 2 <&3 & exit 0"), &input)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        let script = format!("sleep 300 & echo $! > {}; wait", path.display());
        let limit = Duration::from_secs(5);
        let error = tell_within(limit, &shell(&script), b"").await.unwrap_err();
        assert!(matches!(error, Error::TimeOver(_)), "{error}");
        let child = std::fs::read_to_string(&path).unwrap();
        let child = child.trim().parse().unwrap();
        for _ in 0..500 {
            if !is_alive(child) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("its child lives on");
    }

    #[tokio::test]
    async fn an_absent_program_is_an_error_and_no_program_is_none() {
        let absent = ["/nonexistent/program".to_owned()];
        assert!(matches!(tell(&absent, b"").await, Err(Error::Run(_))));
        tell(&[], b"x").await.unwrap();
    }
}
