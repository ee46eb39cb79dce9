//! One run: from the question whether there is anything new to the last file removed.

use super::{Options, Report};

/// Follows the first of the trees named that can be followed.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let _ = options;
    anyhow::bail!("cannot follow a tree yet")
}
