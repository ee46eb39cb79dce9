//! Checking in: telling the front end after a sync what this mirror holds.
//!
//! A mirror that clients reach and the front end does not is known to it only from this. So what is said is
//! what the tree is: the state is read before and after the rest, and if it was another one in between all
//! of it is read again. The digests of all blobs are sent only if the front end asks for them, as it does of
//! a mirror that is not as new as itself.

mod send;
mod tell;
mod wire;

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use oci_mirror::registry::authorities::Authorities;
use serde::Serialize;
use url::{Host, Url};

use crate::exit::Exit;
use send::Client;
use tell::What;

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

impl To {
    /// Whether everybody on the way could read the token: it would go over plain HTTP, and leave this
    /// machine.
    pub fn is_overheard(&self) -> bool {
        self.url.scheme() != "https" && !self.is_here()
    }

    /// Whether the front end is on this machine.
    fn is_here(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }
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
    /// How many blobs a verification has found to be damaged, which the front end was told; `None` if
    /// there was none.
    pub damaged: Option<u64>,
}

impl Answer {
    /// The status to exit with.
    pub fn exit(&self) -> Exit {
        match self.damaged {
            None | Some(0) => Exit::Fine,
            Some(_) => Exit::Damage,
        }
    }
}

impl fmt::Display for Answer {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("checked in; ")?;
        match (self.presence.as_str(), self.crawl.as_str()) {
            ("taken", _) => f.write_str("clients are sent here for what this mirror holds")?,
            (_, "soon") => f.write_str("the front end looks at this mirror soon")?,
            _ => f.write_str("the front end looks at this mirror when it is its turn")?,
        }
        match self.damaged {
            None => Ok(()),
            Some(0) => f.write_str("; no damage"),
            Some(damaged) => write!(f, "; {damaged} blobs are damaged: verify says more"),
        }
    }
}

/// Tells the front end what the tree holds; with `verify`, after everything was hashed again.
pub async fn check_in(tree: &Path, to: &To, verify: bool) -> anyhow::Result<Answer> {
    let client = Client::new(to)?;
    let mut what = read(tree, verify, false).await?;
    let mut answer = client.send(&what).await?;
    if answer.presence == wire::WANTED {
        let verified = what.verified.take();
        what = read(tree, false, true).await?;
        what.verified = verified;
        answer = client.send(&what).await?;
    }
    anyhow::ensure!(
        answer.presence != wire::WANTED,
        "{} asks again for what it was told",
        to.url
    );
    Ok(Answer {
        presence: answer.presence,
        crawl: answer.crawl,
        damaged: what.verified.map(|verified| verified.damaged.len() as u64),
    })
}

async fn read(tree: &Path, verify: bool, with_blobs: bool) -> anyhow::Result<What> {
    let root = tree.to_owned();
    let what = tokio::task::spawn_blocking(move || tell::read(&root, verify, with_blobs)).await?;
    what.with_context(|| format!("cannot say what {} holds", tree.display()))
}

#[cfg(test)]
mod tests;
