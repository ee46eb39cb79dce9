//! A line to a server that stops in the middle of an answer until it is let go on, or is cut there.
//!
//! So a test can change things while a real client is in the middle of a pull, however fast or slow the
//! machine is.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A relay on loopback. Its threads end with the connections, which end with the client.
pub(crate) struct HeldLine {
    address: SocketAddr,
    gate: Arc<Gate>,
}

struct Gate {
    /// How many more bytes the server may say; `None` for as many as it likes.
    left: Mutex<Option<usize>>,
    changed: Condvar,
    /// After how many bytes of the server each connection ends.
    cut: Mutex<Option<usize>>,
}

impl HeldLine {
    /// A line to `server` that passes on so many bytes of its answers and then holds.
    pub(crate) fn to(server: &str, bytes: usize) -> Self {
        Self::with(server, Some(bytes))
    }

    /// A line to `server` that holds nothing back.
    pub(crate) fn open(server: &str) -> Self {
        Self::with(server, None)
    }

    fn with(server: &str, bytes: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate {
            left: Mutex::new(bytes),
            changed: Condvar::new(),
            cut: Mutex::new(None),
        });
        let (server, held) = (server.to_owned(), Arc::clone(&gate));
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                // A server that is gone leaves its client with a closed connection.
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || relay(from, to, None));
                let gate = Arc::clone(&held);
                thread::spawn(move || relay(server, client, Some(&gate)));
            }
        });
        Self { address, gate }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes the server has said, of the `bytes` it may.
    pub(crate) fn said_of(&self, bytes: usize) -> usize {
        bytes - self.gate.left.lock().unwrap().unwrap_or(bytes)
    }

    /// Waits until the line holds.
    #[track_caller]
    pub(crate) fn wait(&self) {
        let left = self.gate.left.lock().unwrap();
        let limit = Duration::from_secs(60);
        let waits = |left: &mut Option<usize>| *left != Some(0);
        let (_left, timeout) = self
            .gate
            .changed
            .wait_timeout_while(left, limit, waits)
            .unwrap();
        assert!(!timeout.timed_out(), "nobody has loaded so much");
    }

    /// Cuts each connection from now on, after so many bytes of the server.
    pub(crate) fn cut_after(&self, bytes: usize) {
        *self.gate.cut.lock().unwrap() = Some(bytes);
    }

    /// Lets everything through from now on.
    pub(crate) fn release(&self) {
        *self.gate.left.lock().unwrap() = None;
        self.gate.changed.notify_all();
    }
}

impl Gate {
    /// Waits until something may pass; how much of `bytes` that is.
    fn pass(&self, bytes: usize) -> usize {
        let left = self.left.lock().unwrap();
        let mut left = self
            .changed
            .wait_while(left, |left| *left == Some(0))
            .unwrap();
        let Some(some) = left.as_mut() else {
            return bytes;
        };
        let passed = bytes.min(*some);
        *some -= passed;
        self.changed.notify_all();
        passed
    }
}

/// Copies until either side ends, which ends the other.
fn relay(mut from: TcpStream, mut to: TcpStream, gate: Option<&Gate>) {
    let mut room = gate.and_then(|gate| *gate.cut.lock().unwrap());
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let length = room.map_or(length, |room| room.min(length));
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let passed = gate.map_or(rest.len(), |gate| gate.pass(rest.len()));
            if to.write_all(&rest[..passed]).is_err() {
                return;
            }
            rest = &rest[passed..];
        }
        room = room.map(|room| room - length);
        if room == Some(0) {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    // The other side may be gone before.
    let _ = to.shutdown(Shutdown::Write);
}
