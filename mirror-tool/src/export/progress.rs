//! What a run says while it works: bars on a terminal, lines in a log, nothing to a caller in code.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use oci_mirror::digest::Digest;

use super::report::{ImageReport, Report, Status, Summary};
use crate::say::say;

/// Where progress is shown.
#[derive(Debug, Clone, Default)]
pub enum Progress {
    /// Nowhere.
    #[default]
    Silent,
    /// A line on standard error for each image that is done.
    Lines,
    /// Bars on a terminal.
    Bars(Bars),
}

/// The bars of one run.
#[derive(Debug, Clone)]
pub struct Bars {
    all: MultiProgress,
    images: ProgressBar,
}

/// Blobs smaller than this come and go too fast for a bar of their own.
const SMALLEST_BAR: u64 = 4 << 20;

impl Progress {
    /// Bars if standard error is a terminal, lines otherwise.
    pub fn for_stderr() -> Self {
        if !stderr().is_terminal() {
            return Self::Lines;
        }
        let all = MultiProgress::new();
        let images = all.add(ProgressBar::new(0));
        images.set_style(style("{pos}/{len} images {wide_bar} {elapsed}"));
        images.enable_steady_tick(Duration::from_millis(250));
        Self::Bars(Bars { all, images })
    }

    /// So many more images are to come; what belongs to them is not counted.
    pub(super) fn planned(&self, images: usize) {
        if let Self::Bars(bars) = self {
            bars.images.inc_length(images as u64);
        }
    }

    /// An image is done, well or badly.
    pub(super) fn done(&self, image: &ImageReport) {
        match self {
            Self::Silent => {}
            Self::Lines => say(image),
            Self::Bars(bars) => {
                bars.images.inc(u64::from(image.subject.is_none()));
                if image.status == Status::Failed {
                    // A lost line on a terminal is no reason to fail.
                    drop(bars.all.println(image.to_string()));
                }
            }
        }
    }

    /// A blob of `size` bytes is about to come.
    pub(super) fn blob(&self, digest: &Digest, size: u64) -> BlobProgress {
        let bar = match self {
            Self::Bars(bars) if size >= SMALLEST_BAR => {
                let bar = bars.all.add(ProgressBar::new(size));
                bar.set_style(style(
                    "  {prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
                ));
                let name = digest.to_string();
                bar.set_prefix(name.get(..19).unwrap_or(&name).to_owned());
                Some((bars.all.clone(), bar))
            }
            _ => None,
        };
        BlobProgress(bar)
    }

    /// The run is over.
    pub(super) fn finish(&self, report: &Report) {
        if let (Some(error), Self::Lines | Self::Bars(_)) = (&report.error, self) {
            say(format_args!(
                "error: the state of the tree is behind its images, run again: {error}"
            ));
        }
        if let Self::Bars(bars) = self {
            bars.images.finish_and_clear();
        }
        let verb = if report.dry_run {
            "to remove"
        } else {
            "removed"
        };
        for removed in &report.removed {
            self.line(format_args!("{verb} {removed}"));
        }
        self.line(Summary(report));
    }

    fn line(&self, line: impl std::fmt::Display) {
        match self {
            Self::Silent => {}
            Self::Lines => say(line),
            // A lost line on a terminal is no reason to fail.
            Self::Bars(bars) => drop(bars.all.println(line.to_string())),
        }
    }
}

/// The bar of one blob, which disappears with it.
#[derive(Debug)]
pub(super) struct BlobProgress(Option<(MultiProgress, ProgressBar)>);

impl BlobProgress {
    /// So much of it is there.
    pub(super) fn at(&self, position: u64) {
        if let Some((_, bar)) = &self.0 {
            bar.set_position(position);
        }
    }
}

impl Drop for BlobProgress {
    fn drop(&mut self) {
        if let Some((all, bar)) = &self.0 {
            bar.finish_and_clear();
            all.remove(bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
