//! What is shown of a run while it lasts: a bar on a terminal, nothing otherwise.

use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What is shown of a run while it lasts. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<Bar>);

#[derive(Debug, Clone)]
struct Bar {
    bar: ProgressBar,
    /// Files that are still to come.
    files: Arc<AtomicU64>,
}

impl Progress {
    /// A bar if standard error is a terminal.
    pub fn for_stderr() -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(0);
        let template = "{msg} files to come {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let files = Arc::default();
        Self(Some(Bar { bar, files }))
    }

    /// So many files and bytes are going to be fetched.
    pub fn expect(&self, files: u64, bytes: u64) {
        if let Some(Bar { bar, files: left }) = &self.0 {
            left.store(files, Ordering::Relaxed);
            bar.reset();
            bar.set_length(bytes);
            bar.set_message(files.to_string());
            bar.enable_steady_tick(Duration::from_millis(250));
        }
    }

    /// Some of them have come, or were there already.
    pub fn came(&self, files: u64, bytes: u64) {
        if let Some(Bar { bar, files: left }) = &self.0 {
            bar.inc(bytes);
            if files > 0 {
                let before = left.fetch_sub(files, Ordering::Relaxed);
                bar.set_message(before.saturating_sub(files).to_string());
            }
        }
    }

    /// Nothing more is going to come.
    pub(super) fn finish(&self) {
        if let Some(Bar { bar, .. }) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
