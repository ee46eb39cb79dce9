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
        // A URL is read without them, and whoever wrote one meant something else.
        if text.contains(char::is_control) {
            return Err(wrong());
        }
        let url: Url = text.parse().map_err(|_| wrong())?;
        match url.scheme() {
            "rsync" if is_plain(&url, text) => Ok(Self::Rsync(url)),
            "http" | "https" => Ok(Self::Http(url)),
            "file" => Ok(Self::Directory(url.to_file_path().map_err(|()| wrong())?)),
            _ => Err(wrong()),
        }
    }
}

/// Whether rsync reads a URL as we do: it knows no escapes, and takes wildcards and options for what they are.
fn is_plain(url: &Url, text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "._+~,=@-".contains(c);
    let is_part = |part: &str| part.chars().all(is_word) && !part.starts_with('-');
    // Dots have been resolved in the URL, but the daemon would not have resolved them before the module.
    let has_dots = text.split('/').any(|part| matches!(part, "." | ".."));
    let mut parts = url.path().trim_end_matches('/').split('/').skip(1);
    let is_host = |host: &str| host.chars().all(|c| is_word(c) || "[]:".contains(c));
    url.host_str()
        .is_some_and(|host| is_host(host) && !host.is_empty() && !host.starts_with('-'))
        && is_part(url.username())
        && url.password().is_none()
        && (url.query(), url.fragment()) == (None, None)
        && parts.clone().next().is_some()
        && parts.all(|part| is_part(part) && !part.is_empty())
        && !has_dots
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_rsync_would_read_otherwise_is_refused() {
        for (url, good) in [
            ("rsync://mirror.example/containers", true),
            ("rsync://mirror.example:8730/pub/containers/tree/", true),
            ("rsync://user@mirror.example/containers", true),
            ("rsync://[2001:db8::1]:8730/containers", true),
            ("rsync://192.0.2.1/containers", true),
            ("rsync://mirror.example", false),
            ("rsync://mirror.example/", false),
            ("rsync:///containers", false),
            ("rsync://user:secret@mirror.example/containers", false),
            ("rsync://-e.example/containers", false),
            ("rsync://mirror.example/-e", false),
            ("rsync://mirror.example/a/-e", false),
            ("rsync://mirror.example/a/../b", false),
            ("rsync://mirror.example/../b", false),
            ("rsync://mirror.example/a/./b", false),
            ("rsync://mirror.example/a//b", false),
            ("rsync://mirror.example/a*", false),
            ("rsync://mirror.example/a b", false),
            ("rsync://mirror.example/a%20b", false),
            ("rsync://mirror.example/a?b", false),
            ("rsync://mirror.example/a#b", false),
            ("rsync://mirror.example/a\nb", false),
            ("mirror.example::containers", false),
            ("ssh://mirror.example/containers", false),
        ] {
            assert_eq!(url.parse::<Source>().is_ok(), good, "{url:?}");
        }
    }

    #[test]
    fn a_name_holds_no_password() {
        for (url, name) in [
            (
                "rsync://me@mirror.example/pub/",
                "rsync://mirror.example/pub",
            ),
            (
                "https://me:secret@front.example/tree",
                "https://front.example/tree",
            ),
            ("file:///mnt/disk", "file:///mnt/disk"),
        ] {
            assert_eq!(url.parse::<Source>().unwrap().to_string(), name);
        }
    }
}
