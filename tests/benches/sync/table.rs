//! What was measured, as a table.

use std::fmt;
use std::time::Duration;

use super::contender::Cost;

/// All rows; displays as Markdown.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

/// One comparison.
pub(crate) struct Row {
    what: &'static str,
    way: &'static str,
    ours: Cost,
    peer: &'static str,
    theirs: Cost,
    goal: Goal,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// Not slower, and less received.
    Peer,
    /// At most so long, and at most so many bytes.
    Within(Duration, u64),
}

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        self.0.push(row);
    }
}

impl Row {
    pub(crate) fn new(
        what: &'static str,
        way: &'static str,
        ours: Cost,
        (peer, theirs): (&'static str, Cost),
        goal: Goal,
    ) -> Self {
        Self {
            what,
            way,
            ours,
            peer,
            theirs,
            goal,
        }
    }

    fn is_met(&self) -> bool {
        let (ours, theirs) = (self.ours, self.theirs);
        match self.goal {
            Goal::Peer => ours.time <= theirs.time && ours.received < theirs.received,
            Goal::Within(time, bytes) => ours.time <= time && ours.sent + ours.received <= bytes,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("not slower, less received"),
            Self::Within(time, u64::MAX) => write!(f, "{} s", time.as_secs_f64()),
            Self::Within(time, bytes) => {
                write!(f, "{} s, {} KiB", time.as_secs_f64(), bytes >> 10)
            }
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| | | s | KiB in | KiB out | peer | s | KiB in | KiB out | goal | |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.0 {
            write!(f, "| {} | {} |", row.what, row.way)?;
            figures(row.ours, f)?;
            write!(f, " {} |", row.peer)?;
            figures(row.theirs, f)?;
            let met = if row.is_met() { "met" } else { "**missed**" };
            writeln!(f, " {} | {met} |", row.goal)?;
        }
        Ok(())
    }
}

fn figures(cost: Cost, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let kib = |bytes: u64| format!("{}.{}", bytes >> 10, (bytes % 1024) * 10 / 1024);
    let (received, sent) = (kib(cost.received), kib(cost.sent));
    write!(f, " {:.3} | {received} | {sent} |", cost.time.as_secs_f64())
}
