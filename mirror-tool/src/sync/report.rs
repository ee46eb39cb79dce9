//! How a run of `sync` ended, in JSON and in text.

use std::fmt;

use oci_mirror::size::ByteSize;
use serde::Serialize;

use crate::exit::Exit;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Whom it followed, without credentials.
    pub from: Option<String>,
    /// The serial the tree has now.
    pub serial: Option<u64>,
    /// Files fetched.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Bytes off the wire, as far as known.
    pub received: u64,
    /// Links made.
    pub links: u64,
    /// Files removed, their grace over.
    pub removed: u64,
    /// Files that are gone over there, kept here for their grace.
    pub kept: u64,
    /// Entries of the list that are no part of a tree, or not for everybody: left out.
    pub skipped: u64,
    /// What was left undone though the tree was followed, and why others were not followed.
    pub notes: Vec<String>,
    /// Why the tree was not followed.
    pub error: Option<String>,
    /// Whether a run that failed was cut off with a part of what is new in place. Everything that can be
    /// seen is whole; the next run that follows a tree completes it.
    pub partly_new: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// There is nothing new.
    Unchanged,
    /// The tree is now what the other one is.
    Followed,
    /// The tree is now what the other one is, but something that was asked for beside was left undone.
    Partial,
    /// Nobody to follow could be reached, or they are all behind, or the tree here cannot be written.
    Failed,
    /// What the other tree says is not true; nothing was changed.
    Refused,
    /// What would be done was said.
    DryRun,
}

impl Report {
    /// A run that ended so, and of which nothing else is known.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            from: None,
            serial: None,
            files: 0,
            bytes: 0,
            received: 0,
            links: 0,
            removed: 0,
            kept: 0,
            skipped: 0,
            notes: Vec::new(),
            error: None,
            partly_new: false,
        }
    }

    /// The status to exit with.
    pub fn exit(&self) -> Exit {
        match self.outcome {
            Outcome::Unchanged | Outcome::Followed | Outcome::DryRun => Exit::Fine,
            Outcome::Failed => Exit::Failed,
            Outcome::Refused => Exit::Damage,
            Outcome::Partial => Exit::Partial,
        }
    }
}

impl fmt::Display for Report {
    /// For people: a line for each note, and one that says how it ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let from = self.from.as_deref().unwrap_or("any tree");
        match self.outcome {
            Outcome::Unchanged => write!(f, "nothing new at {from}")?,
            Outcome::Followed | Outcome::Partial => write!(f, "followed {from}")?,
            Outcome::Failed => write!(f, "could not follow {from}")?,
            Outcome::Refused => write!(f, "refused to follow {from}")?,
            Outcome::DryRun => write!(f, "would follow {from}")?,
        }
        match self.outcome {
            Outcome::Failed | Outcome::Refused => {
                if let Some(error) = &self.error {
                    write!(f, ": {error}")?;
                }
                return f.write_str(if self.partly_new {
                    "; the tree is partly new, the next run completes it"
                } else {
                    "; nothing was changed"
                });
            }
            Outcome::Unchanged | Outcome::Followed | Outcome::Partial | Outcome::DryRun => {}
        }
        if let Some(serial) = self.serial {
            write!(f, ", serial {serial}")?;
        }
        let bytes = ByteSize(self.bytes);
        match self.outcome {
            Outcome::DryRun => write!(f, ": {} files ({bytes}) to fetch", self.files)?,
            Outcome::Followed | Outcome::Partial => {
                write!(f, ": {} files ({bytes}) fetched", self.files)?;
                write!(f, ", {} links made", self.links)?;
            }
            Outcome::Unchanged | Outcome::Failed | Outcome::Refused => {}
        }
        for (count, what) in [
            (self.removed, "files removed"),
            (self.kept, "kept in their grace"),
            (self.skipped, "entries that are no part of a tree left out"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if let Some(error) = &self.error {
            write!(f, "; but {error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_run_ended_is_one_line_and_a_status() {
        let report = |outcome| Report {
            from: Some("rsync://up.example/oci/".to_owned()),
            serial: Some(9),
            ..Report::of(outcome)
        };
        let followed = Report {
            files: 12,
            bytes: 3 << 20,
            links: 40,
            kept: 2,
            ..report(Outcome::Followed)
        };
        let partial = Report {
            error: Some("the report was refused".to_owned()),
            notes: vec!["rsync://down.example/: no answer".to_owned()],
            ..report(Outcome::Partial)
        };
        let refused = Report {
            error: Some("the file list has a, a symbolic link".to_owned()),
            ..report(Outcome::Refused)
        };
        for (report, text, exit) in [
            (
                report(Outcome::Unchanged),
                "nothing new at rsync://up.example/oci/, serial 9",
                Exit::Fine,
            ),
            (
                followed.clone(),
                "followed rsync://up.example/oci/, serial 9: 12 files (3 MiB) fetched, 40 links made, \
                 2 kept in their grace",
                Exit::Fine,
            ),
            (
                Report {
                    outcome: Outcome::DryRun,
                    kept: 0,
                    ..followed
                },
                "would follow rsync://up.example/oci/, serial 9: 12 files (3 MiB) to fetch",
                Exit::Fine,
            ),
            (
                partial,
                "rsync://down.example/: no answer\nfollowed rsync://up.example/oci/, serial 9: \
                 0 files (0 B) fetched, 0 links made; but the report was refused",
                Exit::Partial,
            ),
            (
                refused,
                "refused to follow rsync://up.example/oci/: the file list has a, a symbolic link; \
                 nothing was changed",
                Exit::Damage,
            ),
            (
                Report::of(Outcome::Failed),
                "could not follow any tree; nothing was changed",
                Exit::Failed,
            ),
            (
                Report {
                    error: Some("cannot write".to_owned()),
                    partly_new: true,
                    ..Report::of(Outcome::Failed)
                },
                "could not follow any tree: cannot write; the tree is partly new, the next run completes it",
                Exit::Failed,
            ),
        ] {
            assert_eq!(report.to_string(), text);
            assert_eq!(report.exit(), exit, "{text}");
        }
    }

    #[test]
    fn scripts_read_the_outcome_by_its_name() {
        for (outcome, name) in [
            (Outcome::Unchanged, "unchanged"),
            (Outcome::Followed, "followed"),
            (Outcome::Partial, "partial"),
            (Outcome::Failed, "failed"),
            (Outcome::Refused, "refused"),
            (Outcome::DryRun, "dry-run"),
        ] {
            let json = serde_json::to_value(Report::of(outcome)).unwrap();
            assert_eq!(json["outcome"], name);
            assert_eq!(json["files"], 0);
        }
    }
}
