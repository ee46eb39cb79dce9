//! Sockets that systemd has opened for us.
//!
//! [Socket activation](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html) hands
//! over listening sockets: they may be on privileged ports, and connections queue in them while the
//! program restarts.

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use super::listen::Listener;

/// Sockets inherited from whoever started the program.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Socket>);

/// One of them.
#[derive(Debug)]
pub struct Socket(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Inherited {
    /// Takes the sockets the environment tells of, once, before other threads are started: it is the
    /// environment that is changed.
    pub fn take() -> Result<Self, Error> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..passed.len() {
            let kind = match passed.take_unix_listener(number) {
                Ok(Some(socket)) => Kind::Unix(socket),
                _ => match passed.take_tcp_listener(number) {
                    Ok(Some(socket)) => Kind::Tcp(socket),
                    Ok(None) => continue,
                    Err(source) => return Err(Error::Kind { number, source }),
                },
            };
            let nonblocking = match &kind {
                Kind::Tcp(socket) => socket.set_nonblocking(true),
                Kind::Unix(socket) => socket.set_nonblocking(true),
            };
            nonblocking.map_err(|source| Error::Kind { number, source })?;
            sockets.push(Socket(kind));
        }
        Ok(Self(sockets))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Inherited {
    type Item = Socket;
    type IntoIter = std::vec::IntoIter<Socket>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Socket {
    /// Where it listens; `None` for a unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(socket) => socket.local_addr().ok(),
            Kind::Unix(_) => None,
        }
    }

    pub(super) fn into_listener(self) -> io::Result<Listener> {
        match self.0 {
            Kind::Tcp(socket) => TcpListener::from_std(socket).map(Listener::Tcp),
            // The file at its path belongs to systemd.
            Kind::Unix(socket) => {
                UnixListener::from_std(socket).map(|socket| Listener::Unix(socket, None))
            }
        }
    }
}

/// What was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a stream socket.
    #[error(
        "socket {number} of those passed to us (LISTEN_FDS) is neither a TCP nor a unix stream socket"
    )]
    Kind {
        /// Its place among them, from zero.
        number: usize,
        /// What was found.
        source: io::Error,
    },
}
