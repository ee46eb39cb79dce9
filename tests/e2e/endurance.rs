//! What hostile and merely bad clients may not do: stop others' pulls, or fill memory and descriptors.
//!
//! Every test has a front end of its own, counts its descriptors and reads its memory from outside. No
//! limit on memory is tight; what a leak or a buffer per client would take is far beyond it.

use std::convert::Infallible;
use std::future::Ready;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use oci_mirror::http::Body;
use oci_mirror::http::server::{Limits, Server};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::victim::{DEADLINE, LARGE, LARGE_PATH, Victim, await_until, download, request};

#[test]
fn slowloris_stops_nobody_and_is_cut_off() {
    let victim = Victim::start();
    let before = victim.descriptors();
    let mut attackers: Vec<TcpStream> = (0..500).map(|_| victim.connect()).collect();
    // Byte by byte, a head that never ends.
    for byte in b"GET /v2/ HTTP/1.1\r\nX-A: b" {
        for attacker in &mut attackers {
            // Those given up already are of no interest.
            drop(attacker.write_all(&[*byte]));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    victim.pull();
    await_until("attackers are cut off", || {
        for attacker in &mut attackers {
            drop(attacker.write_all(b"x"));
        }
        victim.pull();
        victim.descriptors() <= before + 4
    });
}

#[test]
fn ten_thousand_idle_connections_stop_nobody() {
    const IDLE: usize = 10_000;
    let victim = Victim::with("idle-time = \"1h\"\n");
    let (descriptors, memory) = (victim.descriptors(), victim.memory());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let idle = runtime.block_on(async {
        let mut idle = Vec::with_capacity(IDLE);
        for number in 0..IDLE {
            // From many addresses: ports are not what runs out.
            let socket = TcpSocket::new_v4().unwrap();
            let from = Ipv4Addr::new(127, 1, 0, u8::try_from(number % 250).unwrap() + 1);
            socket.bind((from, 0).into()).unwrap();
            let mut stream = socket.connect(victim.address).await.unwrap();
            let asked = request("/healthz", "keep-alive");
            stream.write_all(asked.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            idle.push(stream);
        }
        idle
    });
    assert!(victim.descriptors() >= IDLE, "some were not kept");
    victim.pull();
    let grown = victim.memory().saturating_sub(memory);
    assert!(grown < IDLE as u64 * (48 << 10), "{grown} bytes more");
    drop(idle);
    victim.await_descriptors(descriptors);
    victim.pull();
}

#[test]
fn clients_that_hardly_read_take_no_memory() {
    const SLOW: u64 = 300;
    let victim = Victim::start();
    let (descriptors, memory) = (victim.descriptors(), victim.memory());
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| victim.connect()).collect();
    for stream in &mut slow {
        stream
            .write_all(request(LARGE_PATH, "close").as_bytes())
            .unwrap();
    }
    for _ in 0..5 {
        for stream in &mut slow {
            stream.read_exact(&mut [0]).unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    victim.pull();
    let grown = victim.memory().saturating_sub(memory);
    assert!(grown < SLOW * (160 << 10), "{grown} bytes more");
    drop(slow);
    victim.await_descriptors(descriptors);
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let victim = Victim::start();
    let (descriptors, memory) = (victim.descriptors(), victim.memory());
    for number in 0..2000 {
        let mut stream = victim.connect();
        let asked = request(LARGE_PATH, "keep-alive").repeat(1 + number % 3);
        stream.write_all(asked.as_bytes()).unwrap();
        if number % 4 == 0 {
            drop(stream.shutdown(Shutdown::Write));
        }
    }
    victim.pull();
    victim.await_descriptors(descriptors);
    let grown = victim.memory().saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

#[test]
fn a_download_outlives_the_call_to_stop() {
    let victim = Victim::start();
    let mut stream = victim.connect();
    stream
        .write_all(request(LARGE_PATH, "close").as_bytes())
        .unwrap();
    let mut beginning = [0; 17];
    stream.read_exact(&mut beginning).unwrap();
    let id = Pid::from_raw(victim.process.id().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    await_until("nobody else is let in", || {
        TcpStream::connect(victim.address).is_err()
    });
    assert_eq!(download(&mut stream).1, LARGE);
    await_until("the front end ends", || {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", victim.process.id()));
        status.map_or(true, |status| status.contains(") Z "))
    });
}

fn answer(_: Request<Incoming>) -> Ready<Result<Response<Body>, Infallible>> {
    std::future::ready(Ok(Response::new(Body::from("hello"))))
}

/// Beyond the limit one waits, and those who wait are served when others leave.
#[test]
fn a_flood_waits_at_the_limit() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let limits = Limits {
        connections: 8,
        ..Limits::default()
    };
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let server = runtime.block_on(Server::bind(&listen, limits)).unwrap();
    let address = server.local_addresses()[0];
    let shutdown = CancellationToken::new();
    let running = runtime.spawn(server.run(|_| service_fn(answer), shutdown.clone()));
    let mut open: Vec<TcpStream> = (0..8)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
            .write_all(request("/", "keep-alive").as_bytes())
            .unwrap();
    };
    // To the last byte, so that the next answer is not taken for this one.
    let is_answered = |stream: &mut TcpStream| {
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        answer.starts_with(b"HTTP/1.1 200")
    };
    for stream in &mut open {
        ask(stream);
        assert!(is_answered(stream));
    }
    let mut flood: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for stream in &mut flood {
        ask(stream);
    }
    // Those inside go on as before, and none of the others has an answer.
    for stream in &mut open {
        ask(stream);
        assert!(is_answered(stream));
    }
    for stream in &mut flood {
        stream.set_nonblocking(true).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
    }
    drop(open);
    for mut stream in flood {
        assert!(is_answered(&mut stream));
    }
    shutdown.cancel();
    runtime.block_on(running).unwrap();
}
