//! Programs that tests start, and that must not outlive them.
//!
//! A [`Process`] ends with all its descendants when it is dropped. Should the test itself be killed,
//! a small watchdog notices its pipe close and ends the program.
//!
//! Invariant: only processes started here are ever signalled, each by its id.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::family::{Family, end_child};

/// A program found where Debian installs it, ready for arguments.
///
/// The search ignores `PATH`, in which another build of the same program may come first, and the
/// program sees neither that `PATH` nor a proxy, which would see loopback traffic.
pub fn program(name: &str) -> Result<Command> {
    let path = ["/usr/sbin", "/usr/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("{name} is not installed: run tests/peers/install"))?;
    Ok(isolated(&path))
}

/// A program at a path, that sees neither the `PATH` of the test nor a proxy.
pub(crate) fn isolated(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    for variable in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(variable);
        command.env_remove(variable.to_uppercase());
    }
    command
}

/// What a program that ended well has said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

/// A program that ended badly; `downcast_ref` an error to it where a test expects one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{command}` failed ({status}){}{}", paragraph(.stdout), paragraph(.stderr))]
pub struct Failure {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output up to the end.
    pub stdout: String,
    /// Standard error up to the end.
    pub stderr: String,
}

/// Runs a program to its end, at most [`DEADLINE`].
pub fn run(command: &mut Command) -> Result<Output> {
    run_within(DEADLINE, command)
}

/// Runs a program to its end; past `deadline` it and its descendants are killed.
///
/// A bad exit status is a [`Failure`].
pub fn run_within(deadline: Duration, command: &mut Command) -> Result<Output> {
    let line = command_line(command);
    // Files, not pipes: a pipe stays open as long as any daemonised descendant holds it.
    let mut stdout = tempfile::tempfile().context("cannot make a file for standard output")?;
    let mut stderr = tempfile::tempfile().context("cannot make a file for standard error")?;
    command.stdin(Stdio::null());
    command.stdout(clone(&stdout)?);
    command.stderr(clone(&stderr)?);
    let mut family = Family::start(command, &line)?;
    let ended = family.wait(deadline)?;
    if ended.is_none() {
        family.kill();
    }
    let stdout = contents(&mut stdout)?;
    let stderr = contents(&mut stderr)?;
    match ended {
        None => bail!(
            "`{line}` did not end within {deadline:?}{}{}",
            paragraph(&stdout),
            paragraph(&stderr)
        ),
        Some(status) if status.success() => Ok(Output { stdout, stderr }),
        Some(status) => Err(Failure {
            command: line,
            status,
            stdout,
            stderr,
        }
        .into()),
    }
}

/// A program running in the background, stopped with all its descendants when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    family: Family,
    watchdog: Child,
}

impl Process {
    /// Starts a program whose output, standard and error, is appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        command.stdin(Stdio::null());
        command.stdout(clone(&file)?);
        command.stderr(file);
        let family = Family::start(command, &name)?;
        let watchdog = watch(family.id())?;
        Ok(Self {
            name,
            log: log.to_path_buf(),
            family,
            watchdog,
        })
    }

    /// Waits until `ready` says yes; an early exit or a timeout is an error that shows the log's end.
    pub fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.family.ended()? {
                bail!(
                    "{} ended ({status}) before it was ready{}",
                    self.name,
                    paragraph(&self.log_tail())
                );
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} is not ready after {READY_WITHIN:?}{}",
                    self.name,
                    paragraph(&self.log_tail())
                );
            }
            thread::sleep(POLL);
        }
    }

    /// The id of the process that was started.
    pub fn id(&self) -> u32 {
        self.family.id()
    }

    /// All that the program has printed so far.
    pub fn log(&self) -> Result<String> {
        let bytes =
            fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Asks the program to end, and after a grace period kills it and all it started.
    pub fn stop(&mut self) {
        self.family.stop();
        end_child(&mut self.watchdog);
    }

    /// Kills the program and all it started at once, as a crash would.
    pub fn kill(&mut self) {
        self.family.kill();
        end_child(&mut self.watchdog);
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a shell that ends `id` when this process is gone, which closes the pipe it reads.
fn watch(id: u32) -> Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", WATCH])
        .arg(id.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start a watchdog")
}

fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn clone(file: &File) -> Result<File> {
    file.try_clone().context("cannot duplicate a file handle")
}

fn contents(file: &mut File) -> Result<String> {
    fn read(file: &mut File) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
    let bytes = read(file).context("cannot read what a program printed")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn paragraph(text: &str) -> String {
    match text.trim_end() {
        "" => String::new(),
        text => format!("\n{text}"),
    }
}

/// How long [`run`] lets a program run: engines may hang for ever on a stalled server.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// How long a server may take to become ready, on a machine that is compiling at the same time.
const READY_WITHIN: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

const LOG_TAIL: usize = 30;

/// Waits for the end of a pipe, asks process `$0` to end, and kills it when it does not.
const WATCH: &str = r#"read -r line
kill -TERM "$0"
for second in 1 2 3 4 5 6 7 8 9 10; do
    sleep 1
    kill -0 "$0" || exit
done
kill -KILL "$0"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::living;

    fn shell(script: &str) -> Command {
        let mut command = program("sh").unwrap();
        command.args(["-c", script]);
        command
    }

    #[test]
    fn absent_program_names_the_installer() {
        let error = program("no-such-program").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no-such-program is not installed: run tests/peers/install"
        );
    }

    #[test]
    fn run_keeps_what_was_printed() {
        let output = run(&mut shell("echo out; echo err >&2")).unwrap();
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("out\n", "err\n")
        );
    }

    #[test]
    fn bad_exit_is_a_failure_with_status_and_text() {
        let error = run(&mut shell("echo why >&2; exit 7")).unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.status.code(), Some(7));
        assert!(error.to_string().ends_with("\nwhy"), "{error}");
    }

    #[test]
    fn deadline_kills_detached_descendants() {
        let mark = "313.37";
        let mut command = shell(&format!("setsid sleep {mark} & sleep {mark}"));
        let error = run_within(Duration::from_millis(300), &mut command).unwrap_err();
        assert!(
            error.to_string().contains("did not end within 300ms"),
            "{error}"
        );
        assert_eq!(sleepers(mark), 0);
    }

    #[test]
    fn drop_kills_detached_descendants() {
        let mark = "313.38";
        let directory = tempfile::tempdir().unwrap();
        // The second has an emptied environment, as what runs in a container has.
        let script = format!(
            "setsid sleep {mark} & setsid sh -c 'env -i sleep {mark}; true' & echo started; wait"
        );
        let mut process =
            Process::start(&mut shell(&script), &directory.path().join("log")).unwrap();
        process.wait_until(|| sleepers(mark) == 2).unwrap();
        assert_eq!(process.log().unwrap(), "started\n");
        drop(process);
        assert_eq!(sleepers(mark), 0);
    }

    #[test]
    fn early_exit_shows_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Process::start(
            &mut shell("echo broken; exit 1"),
            &directory.path().join("log"),
        )
        .unwrap();
        let error = process.wait_until(|| false).unwrap_err().to_string();
        assert!(
            error.contains("before it was ready") && error.ends_with("broken"),
            "{error}"
        );
    }

    fn sleepers(mark: &str) -> usize {
        let line = format!("sleep\0{mark}\0");
        living()
            .iter()
            .filter(|process| command_of(process.id) == line)
            .count()
    }

    fn command_of(id: u32) -> String {
        fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default()
    }
}
