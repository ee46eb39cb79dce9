//! A relay that counts what goes through it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;

/// A relay; it ends with the process.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    bytes: Arc<[AtomicU64; 2]>,
}

impl Relay {
    /// Listens for those who want to go to `target`.
    pub(crate) fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let bytes: Arc<[AtomicU64; 2]> = Arc::default();
        let counters = Arc::clone(&bytes);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else {
                    continue;
                };
                // Small messages must not wait in a relay that is not there in the world.
                drop((client.set_nodelay(true), server.set_nodelay(true)));
                let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone())
                else {
                    continue;
                };
                let counters = Arc::clone(&counters);
                let others = Arc::clone(&counters);
                thread::spawn(move || pass(from_client, server, &counters[0]));
                thread::spawn(move || pass(from_server, client, &others[1]));
            }
        });
        Ok(Self { address, bytes })
    }

    /// Bytes sent and received by clients since the last time.
    pub(crate) fn take(&self) -> (u64, u64) {
        let [sent, received] = &*self.bytes;
        (
            sent.swap(0, Ordering::Relaxed),
            received.swap(0, Ordering::Relaxed),
        )
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, bytes: &AtomicU64) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        bytes.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}
