//! The tables of `README.md`, between markers.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

use crate::explained::{EXPLANATIONS, Whose, explain};
use crate::official::{Outcome, Report};
use crate::shim::Answered;
use crate::{Level, OTHERS, REQUIREMENTS};

/// Puts a table between the markers of its name.
pub fn put(readme: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let (before, rest) = readme
        .split_once(&begin)
        .with_context(|| format!("no {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no {end}"))?;
    Ok(format!("{before}{begin}\n{table}\n{end}{after}"))
}

/// What the specification asks, and whether we do it: the checks have passed, or nobody reads this.
pub fn requirements() -> String {
    let mut table =
        "| section | level | what is asked | check | result |\n|---|---|---|---|---|\n".to_owned();
    for it in REQUIREMENTS {
        let (level, result) = (level(it.level), it.deviation.unwrap_or("met"));
        row(
            &mut table,
            &[
                it.section,
                level,
                it.text,
                &format!("`{}`", it.name),
                result,
            ],
        );
    }
    table.push_str("\nNot for a registry that is only read:\n\n");
    table
        .push_str("| section | level | what is asked | of whom, or why not |\n|---|---|---|---|\n");
    for it in OTHERS {
        row(
            &mut table,
            &[it.section, level(it.level), it.text, it.whose],
        );
    }
    table.pop();
    table
}

/// What the official suite says; an error if it is not explained, or should not be.
pub fn official(read_only: &Report, full: &Report, answered: Answered) -> Result<String> {
    if let Some((test, outcome)) = read_only.iter().find(|(_, it)| !it.failed.is_empty()) {
        bail!("{test} fails on what is only read: {:?}", outcome.failed);
    }
    let (mut used, mut unexplained) = (BTreeSet::new(), Vec::new());
    let mut rows = String::new();
    let tests: BTreeSet<&String> = read_only.keys().chain(full.keys()).collect();
    let none = Outcome::default();
    for test in tests {
        let (read, pushed) = (
            read_only.get(test).unwrap_or(&none),
            full.get(test).unwrap_or(&none),
        );
        let mut numbers = BTreeSet::new();
        for said in &pushed.failed {
            match explain(test, said) {
                Some(number) => drop(numbers.insert(number + 1)),
                None => unexplained.push(format!("{test}: {said}")),
            }
        }
        used.extend(numbers.iter().copied());
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        row(
            &mut rows,
            &[
                &format!("`{test}`"),
                &summary(read),
                &summary(pushed),
                &numbers.join(", "),
            ],
        );
    }
    if !unexplained.is_empty() {
        bail!(
            "nothing explains these failures:\n{}",
            unexplained.join("\n")
        );
    }
    if let Some(idle) = (1..=EXPLANATIONS.len()).find(|number| !used.contains(number)) {
        bail!("explanation {idle} explains nothing");
    }
    let mut table = String::new();
    totals(&mut table, "Read-only", read_only);
    totals(&mut table, "Full", full);
    writeln!(
        table,
        "\nOf what was read in full mode, registry-proxy answered {} questions and docker-registry {}:\n\
         those for blobs that no manifest it takes can refer to.\n",
        answered.by_front_end, answered.by_registry
    )?;
    table.push_str("| test | read-only | full | why it fails |\n|---|---|---|---|\n");
    table.push_str(&rows);
    if !EXPLANATIONS.is_empty() {
        table.push_str("\n| | whose failure | why |\n|---|---|---|\n");
        for (number, it) in EXPLANATIONS.iter().enumerate() {
            let whose = match it.whose {
                Whose::Ours => "ours",
                Whose::DockerRegistry => "docker-registry's",
                Whose::Suite => "the suite's",
            };
            row(&mut table, &[&(number + 1).to_string(), whose, it.why]);
        }
    }
    table.pop();
    Ok(table)
}

fn totals(table: &mut String, mode: &str, report: &Report) {
    let sum = |count: fn(&Outcome) -> usize| report.values().map(count).sum::<usize>();
    let (passed, skipped) = (sum(|it| it.passed), sum(|it| it.skipped));
    let failed = sum(|it| it.failed.len());
    // Writing to a string cannot fail.
    let _ = writeln!(
        table,
        "- {mode}: {passed} pass, {failed} fail, {skipped} are left out."
    );
}

fn summary(outcome: &Outcome) -> String {
    let counts = [
        ("pass", outcome.passed),
        ("FAIL", outcome.failed.len()),
        ("left out", outcome.skipped),
    ];
    let told = counts.iter().filter(|(_, count)| *count > 0);
    let told = told.map(|(word, count)| match count {
        1 => (*word).to_owned(),
        count => format!("{word} × {count}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn row(table: &mut String, cells: &[&str]) {
    let _ = writeln!(table, "| {} |", cells.join(" | "));
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Must => "MUST",
        Level::Should => "SHOULD",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let readme = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let expected = "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n";
        assert_eq!(
            put(readme, "x", "new")
                .unwrap()
                .replace("new\n<", "new\n\n<"),
            expected
        );
        assert!(put(readme, "y", "new").is_err());
    }

    #[test]
    fn a_failure_without_an_explanation_is_an_error() {
        let failed = Outcome {
            failed: vec!["why ever".to_owned()],
            ..Outcome::default()
        };
        let report = Report::from([("test".to_owned(), failed)]);
        let passed = Report::from([(
            "test".to_owned(),
            Outcome {
                passed: 1,
                ..Outcome::default()
            },
        )]);
        let answered = Answered::default();
        assert!(official(&report, &passed, answered).is_err());
        assert!(official(&passed, &report, answered).is_err());
    }
}
