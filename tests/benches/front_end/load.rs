//! Sends requests over connections that stay open, each as soon as the last was answered.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::peer::Peer;
use super::requests::Pool;

/// What one kind of request cost one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// CPU seconds for 100,000 requests.
    pub(crate) cpu: f64,
    /// Milliseconds in which 99 of 100 were answered.
    pub(crate) p99: f64,
}

impl Measured {
    /// The better of two measurements, figure by figure.
    pub(crate) fn best(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.min(other.cpu),
            p99: self.p99.min(other.p99),
        }
    }
}

/// Sends `requests` requests over `connections` connections, after a tenth as many that do not count.
pub(crate) fn measure(
    peer: &Peer,
    pool: &Pool,
    connections: usize,
    requests: usize,
) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        // From behind those that count, which a front end is not to have seen.
        let before_all = requests..requests + requests / 10;
        send(peer, pool, connections, before_all).await?;
        let before = peer.cpu()?;
        let mut times = send(peer, pool, connections, 0..requests).await?;
        let used = peer.cpu()? - before;
        times.sort_unstable();
        let p99 = times[times.len() * 99 / 100];
        #[expect(clippy::cast_precision_loss, reason = "a number of requests")]
        let cpu = used * 100_000.0 / times.len() as f64;
        Ok(Measured {
            cpu,
            p99: p99.as_secs_f64() * 1000.0,
        })
    })
}

async fn send(
    peer: &Peer,
    pool: &Pool,
    connections: usize,
    requests: Range<usize>,
) -> anyhow::Result<Vec<Duration>> {
    let next = Rc::new(Cell::new(requests.start));
    let mut clients = Vec::new();
    let pool = Rc::new(pool.clone());
    for _ in 0..connections {
        let (next, pool) = (Rc::clone(&next), Rc::clone(&pool));
        let stream = TcpStream::connect(peer.address).await?;
        stream.set_nodelay(true)?;
        clients.push(tokio::task::spawn_local(client(
            stream,
            pool,
            next,
            requests.end,
        )));
    }
    let mut times = Vec::with_capacity(requests.len());
    for client in clients {
        times.extend(client.await??);
    }
    Ok(times)
}

async fn client(
    mut stream: TcpStream,
    pool: Rc<Pool>,
    next: Rc<Cell<usize>>,
    end: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut answer = Vec::with_capacity(16 << 10);
    loop {
        let number = next.get();
        if number >= end {
            return Ok(times);
        }
        next.set(number + 1);
        let began = Instant::now();
        stream
            .write_all(&pool.requests[number % pool.requests.len()])
            .await?;
        answer.clear();
        loop {
            if stream.read_buf(&mut answer).await? == 0 {
                bail!("the server closed the connection");
            }
            if is_whole(&answer)? {
                break;
            }
        }
        times.push(began.elapsed());
        if answer.get(9..12) != Some(pool.status.as_bytes()) {
            bail!("unexpected: {}", String::from_utf8_lossy(&answer));
        }
    }
}

/// Whether head and body of a response have arrived.
fn is_whole(answer: &[u8]) -> anyhow::Result<bool> {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(false);
    };
    let name = b"content-length: ";
    let at = answer[..head]
        .windows(name.len())
        .position(|field| field.eq_ignore_ascii_case(name))
        .context("a response has no length")?
        + name.len();
    let digits = answer[at..].iter().take_while(|c| c.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Ok(answer.len() >= head + 4 + length)
}
