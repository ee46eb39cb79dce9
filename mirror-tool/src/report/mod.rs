//! Checking in: telling the front end after a sync what this mirror holds.

use std::fmt;
use std::path::Path;

use oci_mirror::registry::authorities::Authorities;
use serde::Serialize;
use url::Url;

/// Whom to tell.
#[derive(Debug, Clone)]
pub struct To {
    /// The front end: `https://HOST`.
    pub url: Url,
    /// By what it knows us.
    pub token: Token,
    /// Certificate authorities trusted beside those of the system.
    pub tls_ca: Option<Authorities>,
}

/// The secret by which a front end knows a mirror; shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// Takes what stands in a file or a variable, without the white space around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// The secret, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What the front end made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What was done with what this mirror says it holds: `taken` or `none`.
    pub presence: String,
    /// Whether the mirror is going to be crawled: `soon` or `none`.
    pub crawl: String,
}

/// Tells the front end what the tree holds; with `verify`, after everything was hashed again.
pub async fn check_in(tree: &Path, to: &To, verify: bool) -> anyhow::Result<Answer> {
    let _ = (tree, to, verify);
    anyhow::bail!("cannot check in yet")
}
