//! Floods of frames: what a client of HTTP/2 may send without end, and what it may leave untaken.
//!
//! Frames are written as they go over the wire, since no client would write them. Beside every flood
//! whole pulls go on; what the front end takes for it is bounded, and in the end it is rid of it.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::victim::{LARGE_PATH, Victim, await_until};

/// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// Flags of HEADERS.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What GOAWAY says of a client that asks for too much.
const ENHANCE_YOUR_CALM: u32 = 11;

/// Connections of a flood.
const FLOOD: usize = 16;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()];
    [&head.concat(), payload].concat()
}

/// The fields of `GET http://x/…`.
fn fields(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[0x82, 0x86, 0x41, 1, b'x', 4, length], path.as_bytes()].concat()
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(path))
}

/// What a connection begins with; `window` is what each stream may be sent at first.
fn beginning(window: u32) -> Vec<u8> {
    let window = [&[0, 4][..], &window.to_be_bytes()].concat();
    let settings = frame(SETTINGS, 0, 0, &window);
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()
}

/// The number of a stream, from the number of a request on its connection.
fn stream(number: usize) -> u32 {
    u32::try_from(2 * number + 1).unwrap()
}

/// The codes of the GOAWAY frames among what a server has sent.
fn goaways(mut got: &[u8]) -> Vec<u32> {
    let mut codes = Vec::new();
    while let Some((head, rest)) = got.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let Some((payload, rest)) = rest.split_at_checked(length.try_into().unwrap()) else {
            break;
        };
        if head[3] == GOAWAY {
            codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        got = rest;
    }
    codes
}

/// Pulls again and again while each of some connections sends `begin`, and then what `frames` gives for
/// 0, 1, 2, …, until the front end closes it. Returns what each was sent.
#[track_caller]
fn flood(victim: &Victim, begin: &[u8], frames: impl Fn(usize) -> Vec<u8> + Sync) -> Vec<Vec<u8>> {
    let (is_over, open) = (AtomicBool::new(false), AtomicUsize::new(FLOOD));
    let attack = || {
        let mut stream = victim.connect();
        let mut answers = stream.try_clone().unwrap();
        thread::scope(|scope| {
            // Read all the time, so that nothing is held up by what was not taken.
            let reading = scope.spawn(move || {
                let mut got = Vec::new();
                drop(answers.read_to_end(&mut got));
                got
            });
            let mut sent = stream.write_all(begin);
            let mut numbers = 0..;
            while sent.is_ok() && !is_over.load(Ordering::Relaxed) {
                let number = numbers.next().unwrap_or_default();
                sent = stream.write_all(&frames(number));
            }
            open.fetch_sub(1, Ordering::Relaxed);
            // It may be closed already.
            drop(stream.shutdown(Shutdown::Both));
            reading.join().unwrap()
        })
    };
    thread::scope(|scope| {
        let attackers: Vec<_> = (0..FLOOD).map(|_| scope.spawn(attack)).collect();
        // The threads end whatever becomes of the pulls.
        let over = Over(&is_over);
        for _ in 0..3 {
            victim.pull();
        }
        await_until("the front end is rid of the flood", || {
            open.load(Ordering::Relaxed) == 0
        });
        drop(over);
        let ended = attackers.into_iter();
        ended.map(|attacker| attacker.join().unwrap()).collect()
    })
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A flood that shall cost little and leave nothing behind.
#[track_caller]
fn outlasts(
    victim: &Victim,
    begin: &[u8],
    frames: impl Fn(usize) -> Vec<u8> + Sync,
) -> Vec<Vec<u8>> {
    let (descriptors, memory) = (victim.descriptors(), victim.memory());
    let got = flood(victim, begin, frames);
    let grown = victim.memory().saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes more");
    victim.await_descriptors(descriptors);
    victim.pull();
    got
}

#[test]
fn requests_taken_back_at_once_end_the_connection() {
    const BATCH: usize = 500;
    let victim = Victim::start();
    let got = outlasts(&victim, &beginning(65_535), |turn| {
        let requests = (turn * BATCH..(turn + 1) * BATCH).map(stream);
        let cancel = 8_u32.to_be_bytes();
        let both = |id| [get(id, LARGE_PATH), frame(RST_STREAM, 0, id, &cancel)].concat();
        requests.flat_map(both).collect()
    });
    for got in got {
        assert_eq!(goaways(&got), [ENHANCE_YOUR_CALM]);
    }
}

#[test]
fn fields_that_go_on_and_on_end_the_connection() {
    let victim = Victim::start();
    // Long ones, and small ones of which many make no long head.
    for length in [16_000, 1] {
        let field = [&[0, 1, b'a'][..], &string(&vec![b'x'; length])].concat();
        let begin = [beginning(65_535), frame(HEADERS, 0, 1, &fields("/v2/"))].concat();
        let got = outlasts(&victim, &begin, |_| frame(CONTINUATION, 0, 1, &field));
        for got in got {
            assert_eq!(goaways(&got), [ENHANCE_YOUR_CALM], "{length}");
        }
    }
}

/// A string of a field, with its length before it.
fn string(text: &[u8]) -> Vec<u8> {
    const PREFIX: usize = 127;
    let mut bytes = Vec::new();
    if text.len() < PREFIX {
        bytes.push(u8::try_from(text.len()).unwrap());
    } else {
        bytes.push(127);
        let mut rest = text.len() - PREFIX;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
    }
    [&bytes, text].concat()
}

#[test]
fn frames_that_ask_for_nothing_are_no_requests() {
    // Each has an answer of its own, which keeps no connection alive: neither before a request nor after.
    let victim = Victim::with("header-time = \"2s\"\nidle-time = \"2s\"\n");
    let asked = [beginning(65_535), get(1, "/v2/")].concat();
    for begin in [beginning(65_535), asked] {
        outlasts(&victim, &begin, |_| frame(SETTINGS, 0, 0, &[]).repeat(1000));
        outlasts(&victim, &begin, |_| frame(PING, 0, 0, &[7; 8]).repeat(1000));
    }
}

#[test]
fn bodies_without_content_end_the_connection() {
    let victim = Victim::with("header-time = \"2s\"\nidle-time = \"2s\"\n");
    let request = frame(HEADERS, END_HEADERS, 1, &fields("/v2/"));
    let begin = [beginning(65_535), request].concat();
    outlasts(&victim, &begin, |_| frame(DATA, 0, 1, &[]).repeat(1000));
}

#[test]
fn streams_that_nobody_takes_are_bounded_and_cut_off() {
    const STREAMS: usize = 32;
    let victim = Victim::with("stall-time = \"3s\"\n");
    for window in [0, 1, 65_535, (1 << 31) - 1] {
        let (descriptors, memory) = (victim.descriptors(), victim.memory());
        let all: Vec<u8> = (0..4 * STREAMS)
            .flat_map(|it| get(stream(it), LARGE_PATH))
            .collect();
        let slow: Vec<_> = (0..FLOOD)
            .map(|_| {
                let mut stream = victim.connect();
                stream.write_all(&beginning(window)).unwrap();
                stream.write_all(&all).unwrap();
                stream
            })
            .collect();
        victim.pull();
        // Up to two pieces of a file for each of as many streams as there may be.
        let grown = victim.memory().saturating_sub(memory);
        let most = (FLOOD * STREAMS * (256 << 10)) as u64;
        assert!(grown < most, "{window}: {grown} bytes more");
        victim.await_descriptors(descriptors);
        drop(slow);
        victim.pull();
    }
}
