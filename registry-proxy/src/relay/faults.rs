//! Whatever a mirror does wrong, and wherever: the bytes are right or the connection breaks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected};
use oci_mirror::digest::Algorithm;
use oci_mirror::size::ByteSize;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::pieces::PieceHasher;
use tempfile::TempDir;

use super::*;
use crate::metalink::pieces::PieceCache;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 3 * MIB + MIB / 2;

/// A blob of four pieces, no two of them alike.
static BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| content(SIZE));

fn content(size: u64) -> Vec<u8> {
    let byte = |at: u64| u8::try_from((at ^ (at >> 8) ^ (at >> 16).wrapping_mul(31)) & 255);
    (0..size).map(|at| byte(at).unwrap()).collect()
}

/// What a mirror does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The byte at this place of the blob is another one.
    Flip(u64),
    /// The connection is closed before this byte.
    Cut(u64),
    /// Nothing comes from this byte on, and the connection stays.
    Stall(u64),
    /// From this byte on one comes now and then.
    Trickle(u64),
    /// This status, with the bytes.
    Status(u16),
    /// The whole for a part.
    Whole,
    /// A part of another place.
    Elsewhere,
    /// The bytes are said to be packed.
    Encoded,
    /// One byte less is announced and sent.
    Short,
    /// The answer leads to itself.
    Loop,
    /// The connection is closed at once.
    Close,
}

/// A mirror on loopback, which serves until the test ends.
fn mirror(blob: &'static [u8], fault: Fault) -> Source {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            // A client may be gone before it has its answer.
            thread::spawn(move || answer(client.unwrap(), blob, fault, address).ok());
        }
    });
    Source {
        host: HostId(7),
        url: format!("http://{address}/blob"),
        policy: Policy::Any,
    }
}

fn answer(
    mut client: TcpStream,
    blob: &[u8],
    fault: Fault,
    address: SocketAddr,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if fault == Fault::Close {
        return Ok(());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let size = blob.len() as u64;
    let range = head
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes="));
    let part = match range.and_then(|range| range.split_once('-')) {
        Some((first, last)) if fault != Fault::Whole => {
            first.parse().unwrap()..last.parse::<u64>().unwrap() + 1
        }
        _ => 0..size,
    };
    let (mut status, mut said) = (200, part.clone());
    if range.is_some() && fault != Fault::Whole {
        status = 206;
    }
    let mut fields = String::new();
    let mut length = part.end - part.start;
    match fault {
        Fault::Status(other) => status = other,
        Fault::Elsewhere => {
            status = 206;
            said = part.start + 1..part.end;
        }
        Fault::Encoded => fields.push_str("content-encoding: gzip\r\n"),
        Fault::Short => length -= 1,
        Fault::Loop => {
            status = 302;
            fields = format!("location: http://{address}/blob\r\n");
        }
        _ => {}
    }
    if status == 206 {
        let (first, last) = (said.start, said.end - 1);
        fields = format!("{fields}content-range: bytes {first}-{last}/{size}\r\n");
    }
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n"
    );
    client.write_all(head.as_bytes())?;
    let mut bytes = blob[at(part.start)..at(part.start + length)].to_vec();
    match fault {
        Fault::Flip(place) if part.contains(&place) => bytes[at(place - part.start)] ^= 1,
        Fault::Cut(place) | Fault::Stall(place) | Fault::Trickle(place) => {
            let kept = place.clamp(part.start, part.end) - part.start;
            let rest = bytes.split_off(at(kept));
            client.write_all(&bytes)?;
            match fault {
                Fault::Trickle(_) => {
                    for byte in rest {
                        client.write_all(&[byte])?;
                        thread::sleep(Duration::from_millis(20));
                    }
                }
                // Until the other side has had enough.
                Fault::Stall(_) if !rest.is_empty() => drop(client.read(&mut [0])?),
                _ => {}
            }
            return Ok(());
        }
        _ => {}
    }
    client.write_all(&bytes)
}

fn at(place: u64) -> usize {
    place.try_into().unwrap()
}

/// A tree with the blob, or without.
struct Site {
    _directory: TempDir,
    relay: Arc<Relay>,
    tree: Tree,
    digest: Digest,
    pieces: Option<Arc<Known>>,
    size: u64,
}

impl Site {
    fn new(blob: &[u8], has_it: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let digest = Algorithm::Sha256.digest(blob);
        let file = TreePath::Blob(digest).under(directory.path());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        if has_it {
            std::fs::write(file, blob).unwrap();
        }
        let size = blob.len() as u64;
        let pieces = PieceHasher::new(size).map(|mut hasher| {
            hasher.update(blob);
            hasher.finish()
        });
        let limits = Limits {
            connect: Duration::from_secs(60),
            head: Duration::from_secs(60),
            silence: Duration::from_secs(1),
        };
        let relay = Relay::within(limits, &Config::default());
        Self {
            relay: Arc::new(relay),
            tree: Tree::open(directory.path()).unwrap(),
            _directory: directory,
            pieces: Some(PieceCache::default().keep(digest, pieces)),
            digest,
            size,
        }
    }

    fn order(&self, sources: &[Source], part: Option<Range<u64>>) -> Order {
        Order {
            digest: self.digest,
            size: self.size,
            id: BlobId(3),
            pieces: self.pieces.clone(),
            part,
            sources: sources.to_vec(),
            tree: self.tree.clone(),
            remembered: Arc::default(),
        }
    }

    /// The bytes that arrive, if all do, and whether the first mirror is suspected then.
    async fn read(&self, sources: &[Source], part: Option<Range<u64>>) -> (Option<Bytes>, bool) {
        let order = self.order(sources, part);
        let remembered = Arc::clone(&order.remembered);
        let response = self.relay.respond(order).unwrap();
        let read = response.into_body().collect().await.ok();
        let suspected = remembered.suspects.take(HostId(7)) == [BlobId(3)];
        (read.map(Collected::to_bytes), suspected)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_boundary_is_made_good_or_breaks_the_connection() {
    let (whole, lost) = (Site::new(&BLOB, true), Site::new(&BLOB, false));
    let good = mirror(&BLOB, Fault::None);
    for boundary in [0, MIB, 2 * MIB, 3 * MIB, SIZE] {
        let places = [boundary.saturating_sub(1), boundary, boundary + 1];
        for place in places.into_iter().filter(|place| *place < SIZE) {
            for fault in [Fault::Flip(place), Fault::Cut(place)] {
                let bad = mirror(&BLOB, fault);
                let alone = [bad.clone()];
                let (read, suspected) = whole.read(&alone, None).await;
                assert!(read.unwrap() == *BLOB && suspected, "{fault:?}");
                let (read, _) = lost.read(&[bad, good.clone()], None).await;
                assert!(read.unwrap() == *BLOB, "{fault:?}");
                let (read, _) = lost.read(&alone, None).await;
                assert!(read.is_none(), "{fault:?} has a good end");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_none_to_the_question_is_not_used() {
    let (whole, lost) = (Site::new(&BLOB, true), Site::new(&BLOB, false));
    let good = mirror(&BLOB, Fault::None);
    let part = MIB + 5..2 * MIB + 7;
    for fault in [
        Fault::Status(404),
        Fault::Status(503),
        Fault::Status(203),
        Fault::Whole,
        Fault::Elsewhere,
        Fault::Encoded,
        Fault::Short,
        Fault::Loop,
        Fault::Close,
        Fault::Stall(MIB + 100),
        Fault::Trickle(MIB + 100),
    ] {
        let bad = mirror(&BLOB, fault);
        let expected = &BLOB[at(part.start)..at(part.end)];
        let alone = [bad.clone()];
        let (read, suspected) = whole.read(&alone, Some(part.clone())).await;
        assert!(read.unwrap() == expected && suspected, "{fault:?}");
        let sources = [bad, good.clone()];
        let (read, _) = lost.read(&sources, Some(part.clone())).await;
        assert!(read.unwrap() == expected, "{fault:?}");
        let (read, _) = lost.read(&alone, Some(part.clone())).await;
        assert!(read.is_none(), "{fault:?} has a good end");
    }
}

#[tokio::test]
async fn any_part_is_what_the_tree_would_send() {
    let site = Site::new(&BLOB, false);
    let sources = [mirror(&BLOB, Fault::None)];
    for part in [
        0..1,
        0..MIB,
        MIB - 1..MIB + 1,
        MIB..2 * MIB,
        5..SIZE,
        SIZE - 1..SIZE,
        0..SIZE,
    ] {
        let response = site.relay.respond(site.order(&sources, Some(part.clone())));
        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        let length = (part.end - part.start).to_string();
        assert_eq!(response.headers()[CONTENT_LENGTH], *length);
        let said = format!("bytes {}-{}/{SIZE}", part.start, part.end - 1);
        assert_eq!(response.headers()[CONTENT_RANGE], *said);
        let read = response.into_body().collect().await.unwrap().to_bytes();
        assert!(read == BLOB[at(part.start)..at(part.end)], "{part:?}");
    }
    assert!(site.relay.counts().from_mirrors.load(Relaxed) > 0);
    assert_eq!(site.relay.counts().from_tree.load(Relaxed), 0);
}

#[tokio::test]
async fn a_blob_without_pieces_is_checked_as_a_whole_and_a_large_one_is_left_alone() {
    static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| content(MIB));
    let small = Site::new(&SMALL, true);
    let bad = mirror(&SMALL, Fault::Flip(MIB - 1));
    let (read, suspected) = small.read(&[bad], Some(0..10)).await;
    assert!(read.unwrap() == SMALL[..10] && suspected);
    let mut large = Site::new(&BLOB, true);
    large.pieces = None;
    assert!(large.relay.respond(large.order(&[], None)).is_none());
}

#[tokio::test]
async fn where_there_is_no_room_nothing_is_begun_until_another_ends() {
    let site = Site::new(&BLOB, true);
    let mut config = Config::default();
    config.stream.memory = ByteSize(4 * MIB);
    let relay = Arc::new(Relay::new(&config));
    let respond = || relay.respond(site.order(&[], None));
    let (first, second) = (respond(), respond());
    assert!(first.is_some() && second.is_some() && respond().is_none());
    let read = second.unwrap().into_body().collect().await.unwrap();
    assert!(read.to_bytes() == *BLOB);
    assert!(respond().is_some());
    drop(first);
}

#[tokio::test]
async fn other_settings_forget_neither_what_is_held_nor_what_was_counted() {
    let site = Site::new(&BLOB, true);
    let respond = |relay: &Arc<Relay>| relay.respond(site.order(&[], None));
    let read = respond(&site.relay).unwrap().into_body().collect().await;
    assert!(read.unwrap().to_bytes() == *BLOB);
    let held = respond(&site.relay);
    let mut config = Config::default();
    config.stream.memory = ByteSize(4 * MIB);
    let next = Arc::new(Relay::new(&config).going_on_from(&site.relay));
    assert_eq!(next.counts().from_tree.load(Relaxed), SIZE);
    let (second, third) = (respond(&next), respond(&next));
    assert!(second.is_some() && third.is_none(), "half of it is held");
    drop(held);
    assert!(respond(&next).is_some());
}

#[tokio::test]
async fn no_mirror_is_where_the_crawler_may_not_go_unless_it_is_private() {
    let site = Site::new(&BLOB, true);
    let private = mirror(&BLOB, Fault::None);
    let public = Source {
        policy: Policy::PublicOnly,
        ..private.clone()
    };
    let (read, suspected) = site.read(std::slice::from_ref(&public), None).await;
    assert!(read.unwrap() == *BLOB && suspected);
    assert_eq!(site.relay.counts().from_mirrors.load(Relaxed), 0);
    let (read, suspected) = site.read(&[private, public], None).await;
    assert!(read.unwrap() == *BLOB && !suspected);
    assert_eq!(site.relay.counts().from_mirrors.load(Relaxed), SIZE);
}
