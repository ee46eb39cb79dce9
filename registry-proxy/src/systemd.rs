//! Telling systemd how it goes.
//!
//! [The protocol](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html) is one datagram
//! of `NAME=value` lines for each thing said. Nothing depends on its being heard.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// Whoever started us and wants to know, if anybody does.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Requests are answered; what to show of it.
    Ready(&'a str),
    /// The configuration is being read again; `Ready` follows.
    Reloading,
    /// The end was asked for.
    Stopping,
    /// Still alive.
    Watchdog,
}

impl Notifier {
    /// Reads where to tell it from the environment.
    pub fn from_environment() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let socket = match connect(&path) {
            Ok(socket) => socket,
            Err(error) => {
                warn!(%error, "cannot reach the service manager at NOTIFY_SOCKET");
                return Self::default();
            }
        };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // Meant for another process if it names one that is not us.
        let ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|limit| ours && *limit > 0);
        Self {
            socket: Some(socket),
            watchdog: limit.map(Duration::from_micros),
        }
    }

    /// Tells it.
    pub fn tell(&self, event: Event<'_>) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(text(event).as_bytes()) {
            warn!(%error, ?event, "cannot tell the service manager");
        }
    }

    /// Says again and again that the runtime still runs tasks, if that is wanted; never comes back.
    pub async fn keep_alive(&self) {
        let Some(limit) = self.watchdog else {
            return std::future::pending().await;
        };
        loop {
            self.tell(Event::Watchdog);
            tokio::time::sleep(limit / 3).await;
        }
    }
}

fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(path)?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not stop us.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn text(event: Event<'_>) -> String {
    match event {
        Event::Ready(status) => {
            // A line break would begin another field.
            format!("READY=1\nSTATUS={}", status.replace('\n', " "))
        }
        Event::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
            format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
        }
        Event::Stopping => "STOPPING=1\nSTATUS=requests in flight may finish".to_owned(),
        Event::Watchdog => "WATCHDOG=1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_arrives_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("registry-proxy-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (receiver, target) in [
            (UnixDatagram::bind(&path), path.clone().into_os_string()),
            (
                UnixDatagram::bind_addr(&abstract_address),
                format!("@{name}").into(),
            ),
        ] {
            let receiver = receiver.unwrap();
            let notifier = Notifier {
                socket: Some(connect(&target).unwrap()),
                watchdog: None,
            };
            notifier.tell(Event::Ready("fine\nREADY=0"));
            let mut datagram = [0; 256];
            let length = receiver.recv(&mut datagram).unwrap();
            assert_eq!(&datagram[..length], b"READY=1\nSTATUS=fine READY=0");
        }
        assert!(connect(OsStr::new("relative")).is_err());
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let said = text(Event::Reloading);
        let at = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(at.parse::<u64>().unwrap() > 0);
    }
}
