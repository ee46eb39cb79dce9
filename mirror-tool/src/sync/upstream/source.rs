//! The URLs of trees.

use std::fmt;
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

/// Without what stands before the `@`, so that it can be shown and kept.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsync(url) | Self::Http(url) => {
                let mut url = url.clone();
                // Refused only where there is no host, and nothing to hide.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                f.write_str(url.as_str().trim_end_matches('/'))
            }
            Self::Directory(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// The text names no tree to follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not rsync://HOST/MODULE[/PATH], https://HOST/PATH or file:///PATH")]
pub struct InvalidSource(Box<str>);
