//! The tree that is followed: over rsync, over HTTP, or from a disk.

use std::path::PathBuf;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use url::Url;

/// Where to follow a tree from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `rsync://HOST[:PORT]/MODULE[/PATH]`.
    Rsync(Url),
    /// `https://HOST/PATH` or `http://HOST/PATH`: the URL of a tree, such as `https://FRONTEND/tree`.
    Http(Url),
    /// `file:///PATH`: a disk that came by mail.
    Directory(PathBuf),
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let wrong = || InvalidSource(Excerpt(text).into());
        let url: Url = text.parse().map_err(|_| wrong())?;
        match url.scheme() {
            "rsync" if url.has_host() => Ok(Self::Rsync(url)),
            "http" | "https" => Ok(Self::Http(url)),
            "file" => Ok(Self::Directory(url.to_file_path().map_err(|()| wrong())?)),
            _ => Err(wrong()),
        }
    }
}

/// The text names no tree to follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not rsync://HOST/MODULE[/PATH], https://HOST/PATH or file:///PATH")]
pub struct InvalidSource(Box<str>);
