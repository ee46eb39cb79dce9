//! The address of a mirror: a copy of a tree that some static server hands out.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::excerpt::Excerpt;
use crate::reference::RegistryHost;

/// `http://` or `https://`, a host, and the path below which the tree is.
///
/// ```
/// use oci_mirror::registry::MirrorUrl;
/// let mirror: MirrorUrl = "https://mirror.example/pub/containers".parse().unwrap();
/// assert_eq!(mirror.to_string(), "https://mirror.example/pub/containers/");
/// assert!("https://user:secret@mirror.example/".parse::<MirrorUrl>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorUrl {
    /// Ends with a slash.
    base: Url,
    host: RegistryHost,
}

impl MirrorUrl {
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    pub(super) fn host(&self) -> &RegistryHost {
        &self.host
    }
}

impl fmt::Display for MirrorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)
    }
}

impl FromStr for MirrorUrl {
    type Err = InvalidMirror;

    fn from_str(text: &str) -> Result<Self, InvalidMirror> {
        let invalid = || InvalidMirror(Excerpt(text).into());
        let mut base = Url::parse(text).map_err(|_| invalid())?;
        let is_plain = base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        if !is_plain || !matches!(base.scheme(), "http" | "https") {
            return Err(invalid());
        }
        let host = base.host_str().ok_or_else(invalid)?;
        let host = match base.port() {
            Some(port) => format!("{host}:{port}").parse(),
            None => host.parse(),
        };
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let host = host.map_err(|_| invalid())?;
        Ok(Self { base, host })
    }
}

/// A text is not the address of a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no mirror: write http:// or https://, a host and a path, and no user, `?` or `#`")]
pub struct InvalidMirror(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_mirrors() {
        for (text, shown) in [
            ("http://127.0.0.1:80/", Some("http://127.0.0.1/")),
            ("https://[::1]:8443/a/b", Some("https://[::1]:8443/a/b/")),
            ("rsync://m.example/a", None),
            ("https://u@m.example/", None),
            ("https://m.example/?a", None),
            ("https://m.example/#a", None),
            ("m.example", None),
        ] {
            let parsed = text
                .parse::<MirrorUrl>()
                .ok()
                .map(|mirror| mirror.to_string());
            assert_eq!(parsed.as_deref(), shown, "{text}");
        }
    }
}
