//! The official suite, run as a program, and what it says.
//!
//! It is run twice: against `registry-proxy` alone, with the tests that only read, and against the
//! [`shim`](crate::shim) with all of them. Its report has a case for each single request in an order that
//! changes from run to run; here cases of one name are counted together.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use support::process::{Failure, run_within};

use crate::sample::{NAME, Sample, TAGS};

/// How many cases of one test ended how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Those that passed.
    pub passed: usize,
    /// Those the suite left out, for the want of something, or since it was told to.
    pub skipped: usize,
    /// Those that failed, with what was said.
    pub failed: Vec<String>,
}

/// By test, as the suite names it less its own name.
pub type Report = BTreeMap<String, Outcome>;

/// Runs the tests that only read, on the sample.
pub fn read_only(suite: &Path, host: &str, sample: &Sample, results: &Path) -> Result<Report> {
    let mut command = configured(suite, host, results);
    for api in ["PUSH", "BLOBS_DELETE", "MANIFESTS_DELETE", "TAGS_DELETE"] {
        command.env(format!("OCI_API_{api}"), "false");
    }
    command.env("OCI_REPO1", NAME);
    let digests = |contents: &[&crate::sample::Content]| {
        let digests = contents.iter().map(|content| content.digest.to_string());
        digests.collect::<Vec<_>>().join(" ")
    };
    let manifests = [&sample.manifest, &sample.index, &sample.sha512.0];
    command.env("OCI_RO_DATA_TAGS", TAGS.join(" "));
    command.env("OCI_RO_DATA_MANIFESTS", digests(&manifests));
    command.env(
        "OCI_RO_DATA_BLOBS",
        digests(&[&sample.layer, &sample.sha512.1]),
    );
    command.env("OCI_RO_DATA_REFERRERS", digests(&[&sample.manifest]));
    finish(command)
}

/// Runs every test, on what it pushes itself.
pub fn full(suite: &Path, host: &str, results: &Path) -> Result<Report> {
    let mut command = configured(suite, host, results);
    // Not asked of all registries, but we say that we do it. Of what it has not pushed itself, the
    // suite does not read the field, and misses it.
    command.env("OCI_API_MANIFESTS_DIGEST_HEADER", "true");
    finish(command)
}

fn configured(suite: &Path, host: &str, results: &Path) -> Command {
    let mut command = Command::new(suite);
    // None of the caller's settings, and no file of settings from where he happens to be.
    command.env_clear().current_dir(results);
    command.env("OCI_REGISTRY", host);
    command.env("OCI_TLS", "disabled");
    command.env("OCI_VERSION", "1.1");
    command.env("OCI_RESULTS_DIR", results);
    // Not asked of all registries, but we say that we do it.
    command.env("OCI_API_BLOBS_DIGEST_HEADER", "true");
    command
}

fn finish(mut command: Command) -> Result<Report> {
    // It ends badly when a test has failed, and also when nothing was pushed: writing its results to a
    // file, it trips. Its report counts, if it is whole.
    let said = match run_within(Duration::from_secs(1800), &mut command) {
        Ok(output) => output.stdout,
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(failure) if failure.stdout.contains(END) => failure.stdout.clone(),
            _ => return Err(error),
        },
    };
    let report = parse(&said)?;
    if report.values().all(|outcome| outcome.passed == 0) {
        bail!("the suite has run no test: {said}");
    }
    Ok(report)
}

/// What follows the results.
const END: &str = "\nConfiguration:\n";

/// Reads the results: a line `Suite/a/b: Pass` for each step and each test, indented, and under a test
/// that failed what was wrong. A step has the name that those below it begin with.
fn parse(said: &str) -> Result<Report> {
    let results = said.split_once("Test results\n").map(|(_, rest)| rest);
    let results = results.and_then(|rest| rest.split_once(END));
    let (results, _) = results.context("the suite says no results")?;
    let mut ended: Vec<(&str, &str, String)> = Vec::new();
    for line in results.lines() {
        let step = line.trim_start().rsplit_once(": ");
        let step = step.filter(|(name, status)| is_status(status) && !name.starts_with("- "));
        match (step, ended.last_mut()) {
            (Some((name, status)), _) => ended.push((name, status, String::new())),
            (None, Some((.., wrong))) => {
                wrong.push_str(line);
                wrong.push('\n');
            }
            (None, None) => bail!("`{line}` is no result"),
        }
    }
    let mut report = Report::new();
    for (number, (name, status, wrong)) in ended.iter().enumerate() {
        let below = ended
            .get(number + 1)
            .and_then(|(next, ..)| next.strip_prefix(name));
        if below.is_some_and(|rest| rest.starts_with('/')) {
            continue;
        }
        let name = name.split_once('/').map_or(*name, |(_, name)| name);
        let outcome = report.entry(name.to_owned()).or_default();
        match *status {
            "Pass" => outcome.passed += 1,
            "Skip" | "Disabled" => outcome.skipped += 1,
            _ => outcome.failed.push(wrong.trim().to_owned()),
        }
    }
    Ok(report)
}

fn is_status(word: &str) -> bool {
    matches!(
        word,
        "Pass" | "FAIL" | "Skip" | "Disabled" | "Error" | "Unknown"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_cases_of_one_name_together() {
        let said = "Test results\nSuite: FAIL\n  Suite/a: FAIL\n    Suite/a/b: Pass\n    \
            Suite/a/b: FAIL\n     - wrong: Pass\nand more\n  Suite/c: Skip\n\nConfiguration:\n";
        let report = parse(said).unwrap();
        let expected = Outcome {
            passed: 1,
            skipped: 0,
            failed: vec!["- wrong: Pass\nand more".to_owned()],
        };
        assert_eq!(report["a/b"], expected);
        assert_eq!(report["c"].skipped, 1);
        assert_eq!(report.len(), 2);
        assert!(parse("Test results\n").is_err());
    }
}
