//! What was measured, as a table.

use super::load::Measured;

/// One comparison.
pub(crate) struct Row {
    what: &'static str,
    unit: &'static str,
    ours: f64,
    peer: &'static str,
    theirs: f64,
    goal: f64,
}

impl Row {
    /// Compares CPU seconds per 100,000 requests.
    pub(crate) fn cpu(
        what: &'static str,
        ours: Measured,
        peer: &'static str,
        theirs: Measured,
        goal: f64,
    ) -> Self {
        Self {
            what,
            unit: "CPU s / 100k",
            ours: ours.cpu,
            peer,
            theirs: theirs.cpu,
            goal,
        }
    }

    /// Compares the time in which 99 of 100 requests were answered.
    pub(crate) fn p99(
        what: &'static str,
        ours: Measured,
        peer: &'static str,
        theirs: Measured,
        goal: f64,
    ) -> Self {
        Self {
            what,
            unit: "p99 ms",
            ours: ours.p99,
            peer,
            theirs: theirs.p99,
            goal,
        }
    }
}

/// Prints all comparisons, in Markdown.
pub(crate) fn print(rows: &[Row]) {
    println!("| front end | | peer | | unit | ratio | goal | |");
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        let ratio = row.ours / row.theirs;
        println!(
            "| {} | {:.2} | {} | {:.2} | {} | {ratio:.2} | {} | {} |",
            row.what,
            row.ours,
            row.peer,
            row.theirs,
            row.unit,
            row.goal,
            if ratio <= row.goal { "met" } else { "missed" }
        );
    }
}
