//! Where a server listens, and the sockets it listens on.
//!
//! A unix socket appears at its path only once it has the mode it shall have: it is bound beside the
//! path, and moved there without replacing anything. Nothing but a socket that nobody answers is
//! ever removed.

use std::fmt;
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};

use super::stream::Stream;
use crate::excerpt::Excerpt;

/// Where a server listens: `ADDR:PORT` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ListenAddress {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let wrong = || InvalidAddress(Excerpt(text).into());
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(wrong()),
            None => match text.strip_prefix("localhost:") {
                Some(port) => port
                    .parse()
                    .map(|port| Self::Tcp(([127, 0, 0, 1], port).into()))
                    .map_err(|_| wrong()),
                None => text.parse().map(Self::Tcp).map_err(|_| wrong()),
            },
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

/// The text is not an address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an address to listen on: write ADDR:PORT, [ADDR]:PORT or unix:/PATH")]
pub struct InvalidAddress(Box<str>);

/// The permissions of a unix socket, in octal as `chmod` takes them: whoever may write may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketMode(u32);

impl Default for SocketMode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for SocketMode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, InvalidMode> {
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o777 => Ok(Self(mode)),
            _ => Err(InvalidMode(Excerpt(text).into())),
        }
    }
}

impl TryFrom<String> for SocketMode {
    type Error = InvalidMode;

    fn try_from(text: String) -> Result<Self, InvalidMode> {
        text.parse()
    }
}

impl From<SocketMode> for String {
    fn from(mode: SocketMode) -> Self {
        mode.to_string()
    }
}

/// The text is not the mode of a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a mode of a socket: write it in octal, as \"0660\"")]
pub struct InvalidMode(Box<str>);

/// A socket that accepts connections.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// With the path to remove at the end, unless somebody else made the socket.
    Unix(UnixListener, Option<PathBuf>),
}

impl Listener {
    pub(super) async fn bind(address: &ListenAddress, mode: SocketMode) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path, mode)?;
                Ok(Self::Unix(listener, Some(path.clone())))
            }
        }
    }

    /// A connection and the other end's address; a unix socket's has none.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A response is written whole; waiting for more would only delay it.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener, _) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, Some(path)) = self {
            // It may have been removed before, which is what was wanted.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path, mode: SocketMode) -> io::Result<UnixListener> {
    remove_stale_socket(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    remove_stale_socket(&beside)?;
    let listener = std::os::unix::net::UnixListener::bind(&beside)?;
    let placed = std::fs::set_permissions(&beside, Permissions::from_mode(mode.0)).and_then(|()| {
        renameat_with(CWD, &beside, CWD, path, RenameFlags::NOREPLACE).map_err(io::Error::from)
    });
    if let Err(error) = placed {
        std::fs::remove_file(&beside)?;
        return Err(match error.kind() {
            io::ErrorKind::AlreadyExists => io::ErrorKind::AddrInUse.into(),
            _ => error,
        });
    }
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Removes a socket that nobody answers, and nothing else that may be at its path.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let is_socket = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?.file_type().is_socket(),
    };
    let answer = std::os::unix::net::UnixStream::connect(path);
    match answer {
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        // Taking the name will fail, and say that the address is in use.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:5000", "[::]:5000", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "5000",
            "unix:",
            "unix:relative",
            "example.org:80",
            "127.0.0.1:99999",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_mode_is_three_or_four_octal_digits() {
        assert_eq!("666".parse::<SocketMode>().unwrap().to_string(), "0666");
        assert_eq!(SocketMode::default().to_string(), "0660");
        for text in ["", "6", "0o660", "0680", "+660", "1777", "00660"] {
            assert!(text.parse::<SocketMode>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_has_its_mode_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = ListenAddress::Unix(path.clone());
        let mode = "0600".parse().unwrap();
        let listener = Listener::bind(&address, mode).await.unwrap();
        let found = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(found & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        let second = Listener::bind(&address, mode).await.unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn only_a_socket_that_nobody_answers_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let bind = async |path: &Path| {
            Listener::bind(&ListenAddress::Unix(path.to_owned()), SocketMode::default()).await
        };
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        assert!(bind(&precious).await.is_err());
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious");

        let stale = dir.path().join("stale");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        bind(&stale).await.unwrap();
    }
}
