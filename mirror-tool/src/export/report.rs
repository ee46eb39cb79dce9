//! What a run has done: one entry for each image, and the totals.

use std::fmt;

use oci_mirror::digest::Digest;
use oci_mirror::size::ByteSize;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// The result of a run; with `--json` it is written to standard output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing was changed, and this is what would have been done.
    #[serde(default)]
    pub dry_run: bool,
    /// The images, by name and tag.
    pub images: Vec<ImageReport>,
    /// Names that `--prune` took, or would take, out of the tree; their content stays until
    /// `mirror-tool prune` finds it unneeded for long enough.
    #[serde(default)]
    pub removed: Vec<Removed>,
    /// All of them together.
    pub totals: Totals,
    /// Why nothing was tried, or why the tree's state could not be written although the images are
    /// visible; as one chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The result for one image, or for a source whose images could not be listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReport {
    /// Where it comes from.
    pub source: String,
    /// The repository of the tree it belongs to.
    pub repository: Option<String>,
    /// Its tag; `None` for an export by digest.
    pub tag: Option<String>,
    /// The digest of its manifest, as far as it was learned.
    pub digest: Option<Digest>,
    /// The manifest it belongs to, when it is a signature, an SBOM or the like that came along with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// How it went.
    pub status: Status,
    /// Bytes that came over the wire, or from the layout, for this image; that would come, in a dry run.
    pub bytes_fetched: u64,
    /// Bytes it reaches that were in the tree already, or that another image of the run brought.
    pub bytes_shared: u64,
    /// Images of its index left out because of `--platform`.
    pub platforms_left_out: u64,
    /// Layers left out because their type forbids handing them on.
    pub layers_left_out: u64,
    /// Why it failed, as one chain; why it was skipped.
    pub error: Option<String>,
}

/// A name that is in the tree no more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Removed {
    /// The repository of the tree.
    pub repository: String,
    /// The tag; `None` for what was kept by digest, such as a signature.
    pub tag: Option<String>,
    /// What it pointed at.
    pub digest: Digest,
    /// Bytes its repository no longer needs without it; another one may need them still.
    #[serde(default)]
    pub bytes: u64,
}

/// How one image went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is visible in the tree now and was not before.
    Exported,
    /// The tree had it already.
    Unchanged,
    /// It would be exported, were this not `--dry-run`.
    Pending,
    /// It is younger than `--min-age` asks for; the tree is as it was.
    Skipped,
    /// The tree is as it was.
    Failed,
}

/// Sums over all images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Images now visible that were not before.
    pub exported: u64,
    /// Images the tree had already.
    pub unchanged: u64,
    /// Images that would be exported, were this not `--dry-run`.
    pub pending: u64,
    /// Images too young to be exported.
    #[serde(default)]
    pub skipped: u64,
    /// Images that failed.
    pub failed: u64,
    /// Names that are in the tree no more.
    #[serde(default)]
    pub removed: u64,
    /// Bytes that their repositories no longer need.
    #[serde(default)]
    pub bytes_removed: u64,
    /// Bytes that came over the wire, each blob counted once.
    pub bytes_fetched: u64,
    /// Bytes that did not have to.
    pub bytes_shared: u64,
}

impl Report {
    /// Sums up `images`, and what was `removed`.
    pub fn new(mut images: Vec<ImageReport>, mut removed: Vec<Removed>) -> Self {
        removed.sort();
        images.sort_by(|a, b| {
            (&a.repository, &a.tag, &a.source).cmp(&(&b.repository, &b.tag, &b.source))
        });
        let mut totals = Totals {
            removed: removed.len() as u64,
            bytes_removed: removed.iter().map(|removed| removed.bytes).sum(),
            ..Totals::default()
        };
        for image in &images {
            *match image.status {
                Status::Exported => &mut totals.exported,
                Status::Unchanged => &mut totals.unchanged,
                Status::Pending => &mut totals.pending,
                Status::Skipped => &mut totals.skipped,
                Status::Failed => &mut totals.failed,
            } += 1;
            totals.bytes_fetched += image.bytes_fetched;
            totals.bytes_shared += image.bytes_shared;
        }
        Self {
            dry_run: false,
            images,
            removed,
            totals,
            error: None,
        }
    }

    /// The report of a run that ended before any image was tried.
    pub fn untried(error: &anyhow::Error) -> Self {
        Self {
            error: Some(format!("{error:#}")),
            ..Self::default()
        }
    }

    /// The exit status that sums it up.
    pub fn exit(&self) -> Exit {
        let succeeded = self.totals.exported
            + self.totals.unchanged
            + self.totals.pending
            + self.totals.skipped;
        match (self.totals.failed, &self.error, succeeded) {
            (0, None, _) => Exit::Fine,
            (_, _, 0) => Exit::Failed,
            _ => Exit::Partial,
        }
    }

    /// The images that failed.
    pub fn failures(&self) -> impl Iterator<Item = &ImageReport> {
        self.images
            .iter()
            .filter(|image| image.status == Status::Failed)
    }
}

impl fmt::Display for ImageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Exported => "exported",
            Status::Unchanged => "unchanged",
            Status::Pending => "to export",
            Status::Skipped => "skipped",
            Status::Failed => "failed",
        };
        write!(f, "{status} {}", self.source)?;
        if let Some(digest) = &self.digest {
            write!(f, " {digest}")?;
        }
        let (fetched, shared) = (ByteSize(self.bytes_fetched), ByteSize(self.bytes_shared));
        match self.status {
            Status::Exported => write!(f, " ({fetched} fetched, {shared} shared)")?,
            Status::Pending => write!(f, " ({fetched} to fetch, {shared} to link)")?,
            Status::Unchanged | Status::Skipped | Status::Failed => {}
        }
        if let Some(subject) = &self.subject {
            write!(f, ", belongs to {subject}")?;
        }
        if self.platforms_left_out > 0 {
            let images = self.platforms_left_out;
            write!(f, ", {images} of other platforms left out")?;
        }
        if self.layers_left_out > 0 {
            write!(
                f,
                ", {} non-distributable layers left out",
                self.layers_left_out
            )?;
        }
        match &self.error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag} {}", self.repository, self.digest)?,
            None => write!(f, "{}@{}", self.repository, self.digest)?,
        }
        write!(f, " ({} of its own)", ByteSize(self.bytes))
    }
}

/// One line that sums a run up.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a>(pub &'a Report);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals {
            exported,
            unchanged,
            pending,
            skipped,
            failed,
            removed,
            ..
        } = self.0.totals;
        let (first, gone) = if self.0.dry_run {
            ((pending, "to export"), "to remove")
        } else {
            ((exported, "exported"), "removed")
        };
        write!(f, "{} {}, {unchanged} unchanged", first.0, first.1)?;
        for (count, what) in [(skipped, "skipped"), (removed, gone)] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        let fetched = ByteSize(self.0.totals.bytes_fetched);
        let shared = ByteSize(self.0.totals.bytes_shared);
        if self.0.dry_run {
            write!(f, ", {failed} failed; {fetched} to fetch, {shared} to link")
        } else {
            write!(f, ", {failed} failed; {fetched} fetched, {shared} shared")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(status: Status) -> ImageReport {
        ImageReport {
            source: "r.example/a:1".to_owned(),
            repository: Some("a".to_owned()),
            tag: Some("1".to_owned()),
            digest: None,
            subject: None,
            status,
            bytes_fetched: 1,
            bytes_shared: 2,
            platforms_left_out: 0,
            layers_left_out: 0,
            error: None,
        }
    }

    #[test]
    fn the_exit_status_follows_from_what_failed() {
        use Status::{Exported, Failed, Unchanged};
        for (statuses, exit) in [
            (vec![], Exit::Fine),
            (vec![Exported, Unchanged], Exit::Fine),
            (vec![Failed, Unchanged], Exit::Partial),
            (vec![Failed, Failed], Exit::Failed),
        ] {
            let report = Report::new(statuses.iter().copied().map(image).collect(), vec![]);
            assert_eq!(report.exit(), exit, "{statuses:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let report = Report::new(vec![image(Status::Exported)], vec![]);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(json.contains(r#""status":"exported""#), "{json}");
    }
}
