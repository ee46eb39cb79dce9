//! What was measured, as a table.

use std::fmt;

use super::load::Measured;

/// One comparison.
pub(crate) struct Row {
    what: &'static str,
    unit: &'static str,
    ours: f64,
    peer: &'static str,
    theirs: f64,
    /// The largest ratio that is wanted, where one is.
    goal: Option<f64>,
}

impl Row {
    /// Compares CPU seconds per 100,000 requests.
    pub(crate) fn cpu(
        what: &'static str,
        ours: Measured,
        peer: &'static str,
        theirs: Measured,
        goal: Option<f64>,
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
        goal: Option<f64>,
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

/// All comparisons; displays as Markdown.
pub(crate) struct Table(pub(crate) Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| front end | | peer | | unit | ratio | goal | |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for row in &self.0 {
            let ratio = row.ours / row.theirs;
            write!(
                f,
                "| {} | {:.2} | {} | {:.2} | {} | {ratio:.2} | ",
                row.what, row.ours, row.peer, row.theirs, row.unit,
            )?;
            match row.goal {
                Some(goal) if ratio <= goal => writeln!(f, "{goal} | met |")?,
                Some(goal) => writeln!(f, "{goal} | missed |")?,
                None => writeln!(f, "| |")?,
            }
        }
        Ok(())
    }
}
