//! The PROXY protocol, versions 1 and 2: how a proxy that passes on bytes says whose they are.
//!
//! [The specification](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt) puts a header before
//! everything else on a connection, TLS included. [`parse`] is a pure function; [`read`] asks the socket
//! for no byte of which it is not known that it belongs to the header, so nothing has to be put back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The client's address; `None` if the proxy speaks for itself (a health check) or does not know.
    pub source: Option<SocketAddr>,
    /// Whether the client spoke TLS to the proxy.
    pub encrypted: bool,
}

/// How far a header has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many more bytes, at least, belong to the header.
    More(usize),
    /// The header is complete, and ends where the bytes do.
    Done(Header),
}

/// Reads the header a connection begins with, and not a byte more.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header, Error> {
    let mut bytes = Vec::with_capacity(V1_MAX);
    loop {
        match parse(&bytes)? {
            Progress::Done(header) => return Ok(header),
            Progress::More(more) => {
                let have = bytes.len();
                bytes.resize(have + more, 0);
                stream
                    .read_exact(&mut bytes[have..])
                    .await
                    .map_err(Error::Read)?;
            }
        }
    }
}

/// Parses the bytes of a header that have come so far.
///
/// ```
/// use oci_mirror::http::server::proxy_protocol::{Progress, parse};
/// let Ok(Progress::Done(header)) = parse(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n") else { panic!() };
/// assert_eq!(header.source, "192.0.2.7:4711".parse().ok());
/// assert_eq!(parse(b"PROXY TCP4 19"), Ok(Progress::More(2)));
/// assert!(parse(b"GET / HTTP/1.1\r\n").is_err());
/// ```
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let beginning = &bytes[..bytes.len().min(SIGNATURE.len())];
    if SIGNATURE.starts_with(beginning) {
        return match bytes.len() {
            // Version 1 is at least as long.
            have @ 0..12 => Ok(Progress::More(SIGNATURE.len() - have)),
            have @ 12..V2_FIXED => Ok(Progress::More(V2_FIXED - have)),
            _ => version_2(bytes),
        };
    }
    if bytes.starts_with(V1_BEGINNING) || V1_BEGINNING.starts_with(bytes) {
        return version_1(bytes);
    }
    Err(Malformed::NoHeader)
}

fn version_1(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return match bytes.len() {
            0..V1_MIN => Ok(Progress::More(V1_MIN - bytes.len())),
            V1_MIN..V1_MAX => Ok(Progress::More(1)),
            _ => Err(Malformed::TooLong),
        };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed::Line)?;
    if end + 1 != bytes.len() {
        return Err(Malformed::Line);
    }
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(Malformed::Line);
    let source = match word()? {
        // Whatever else the line has is to be ignored.
        "UNKNOWN" => None,
        "TCP4" => Some(pair::<Ipv4Addr>([word()?, word()?, word()?, word()?])?),
        "TCP6" => Some(pair::<Ipv6Addr>([word()?, word()?, word()?, word()?])?),
        _ => return Err(Malformed::Line),
    };
    if source.is_some() && words.next().is_some() {
        return Err(Malformed::Line);
    }
    Ok(Progress::Done(Header {
        source,
        encrypted: false,
    }))
}

/// Source and destination address, source and destination port: the source of them.
fn pair<A>([source, destination, port, other]: [&str; 4]) -> Result<SocketAddr, Malformed>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let address = |text: &str| text.parse::<A>().map_err(|_| Malformed::Line);
    let number = |text: &str| match text.parse::<u16>() {
        Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(Malformed::Line),
    };
    address(destination)?;
    number(other)?;
    Ok(SocketAddr::new(address(source)?.into(), number(port)?))
}

fn version_2(bytes: &[u8]) -> Result<Progress, Malformed> {
    let (fixed, rest) = bytes.split_at(V2_FIXED);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if fixed[12] >> 4 != 2 {
        return Err(Malformed::Version);
    }
    let is_local = match fixed[12] & 0x0f {
        0 => true,
        1 => false,
        _ => return Err(Malformed::Command),
    };
    if length > V2_MAX {
        return Err(Malformed::TooLong);
    }
    if rest.len() < length {
        return Ok(Progress::More(length - rest.len()));
    }
    if rest.len() > length {
        return Err(Malformed::Length);
    }
    if is_local {
        return Ok(Progress::Done(Header {
            source: None,
            encrypted: false,
        }));
    }
    let (source, fields) = match fixed[13] {
        TCP_OVER_IPV4 => {
            let (addresses, fields) = rest.split_first_chunk::<12>().ok_or(Malformed::Length)?;
            let [a, b, c, d, ..] = *addresses;
            let port = u16::from_be_bytes([addresses[8], addresses[9]]);
            (Some((Ipv4Addr::new(a, b, c, d).into(), port)), fields)
        }
        TCP_OVER_IPV6 => {
            let (addresses, fields) = rest.split_first_chunk::<36>().ok_or(Malformed::Length)?;
            let (source, _) = addresses
                .split_first_chunk::<16>()
                .ok_or(Malformed::Length)?;
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            (Some((Ipv6Addr::from(*source).into(), port)), fields)
        }
        // Unix sockets, datagrams and what is to come: no address for us, and no telling where its end is.
        _ => (None, &[][..]),
    };
    Ok(Progress::Done(Header {
        source: source.map(|(address, port): (IpAddr, u16)| SocketAddr::new(address, port)),
        encrypted: encrypted(fields)?,
    }))
}

/// Whether one of the fields after the addresses says that the client spoke TLS.
fn encrypted(mut fields: &[u8]) -> Result<bool, Malformed> {
    let mut encrypted = false;
    while let Some((&[kind, high, low], rest)) = fields.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Field)?;
        if kind == PP2_TYPE_SSL {
            // One byte of flags, then the four bytes of how the client's certificate was verified.
            let flags = value.first().ok_or(Malformed::Field)?;
            encrypted = flags & PP2_CLIENT_SSL != 0;
        }
        fields = rest;
    }
    match fields {
        [] => Ok(encrypted),
        _ => Err(Malformed::Field),
    }
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_BEGINNING: &[u8] = b"PROXY ";
/// `PROXY UNKNOWN` and the end of the line.
const V1_MIN: usize = 15;
/// The specification's own bound.
const V1_MAX: usize = 107;
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// Longest rest of a version 2 header: addresses take 36 bytes, and a field with a client's certificate
/// name some hundreds.
const V2_MAX: usize = 4096;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const PP2_TYPE_SSL: u8 = 0x20;
const PP2_CLIENT_SSL: u8 = 0x01;

/// Why the bytes are no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The connection begins with something else.
    #[error("it does not begin with a PROXY header")]
    NoHeader,
    /// The header does not end.
    #[error("the PROXY header is too long")]
    TooLong,
    /// A line of version 1 is not as it should be.
    #[error("the line of the PROXY header is malformed")]
    Line,
    /// A binary header of another version.
    #[error("the version of the PROXY header is not 2")]
    Version,
    /// Neither LOCAL nor PROXY.
    #[error("the PROXY header has an unknown command")]
    Command,
    /// The addresses do not fit into the length.
    #[error("the length of the PROXY header does not fit its addresses")]
    Length,
    /// A field does not fit into the length.
    #[error("a field of the PROXY header is malformed")]
    Field,
}

/// Why no header could be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke off.
    #[error("cannot read the PROXY header")]
    Read(#[source] io::Error),
    /// There is something else.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn v2_of(source: SocketAddr, fields: &[u8]) -> Vec<u8> {
        let (family, address) = match source.ip() {
            IpAddr::V4(ip) => (TCP_OVER_IPV4, [ip.octets(), [127, 0, 0, 1]].concat()),
            IpAddr::V6(ip) => (TCP_OVER_IPV6, [ip.octets(), [9; 16]].concat()),
        };
        let ports = [source.port().to_be_bytes(), [1, 187]].concat();
        v2(0x21, family, &[&address, &ports, fields].concat())
    }

    fn v1_of(source: SocketAddr) -> Vec<u8> {
        let (family, other) = match source {
            SocketAddr::V4(_) => ("TCP4", "127.0.0.1"),
            SocketAddr::V6(_) => ("TCP6", "::1"),
        };
        let (ip, port) = (source.ip(), source.port());
        format!("PROXY {family} {ip} {other} {port} 443\r\n").into_bytes()
    }

    #[track_caller]
    fn source(bytes: &[u8]) -> Option<SocketAddr> {
        match parse(bytes) {
            Ok(Progress::Done(header)) => header.source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_nobody() {
        for bytes in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n".to_vec(),
            v2(0x20, 0, &[]),
            v2(0x20, TCP_OVER_IPV4, b"whatever"),
            v2(0x21, 0, b"ignored"),
            v2(0x21, 0x31, &[b'x'; 216]),
        ] {
            assert_eq!(source(&bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_a_header_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            &v2(0x11, TCP_OVER_IPV4, &[0; 12]),
            &v2(0x22, TCP_OVER_IPV4, &[0; 12]),
            &v2(0x21, TCP_OVER_IPV4, &[0; 11]),
            &v2(0x21, TCP_OVER_IPV6, &[0; 35]),
            &v2(0x21, TCP_OVER_IPV4, &[0; 14]),
            &v2(
                0x21,
                TCP_OVER_IPV4,
                &[[0; 12].as_slice(), &[4, 0, 2, 1]].concat(),
            ),
            &v2(
                0x21,
                TCP_OVER_IPV4,
                &[[0; 12].as_slice(), &[PP2_TYPE_SSL, 0, 0]].concat(),
            ),
            &v2(0x21, 0, &vec![0; V2_MAX + 1]),
            &[b"PROXY ".as_slice(), &[b'x'; 101]].concat(),
        ] {
            assert!(
                parse(bytes).is_err(),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn only_the_flag_of_the_client_says_tls() {
        let peer = "192.0.2.7:4711".parse().unwrap();
        for (flags, expected) in [(1, true), (7, true), (0, false), (2, false)] {
            let fields = [4, 0, 1, 0, PP2_TYPE_SSL, 0, 5, flags, 0, 0, 0, 0];
            let Ok(Progress::Done(header)) = parse(&v2_of(peer, &fields)) else {
                panic!("{flags}");
            };
            assert_eq!((header.source, header.encrypted), (Some(peer), expected));
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_never_asks_for_nothing(
            start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", SIGNATURE]),
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok(Progress::More(more)) = parse(&[start, &rest].concat()) {
                prop_assert!(more > 0);
            }
        }

        #[test]
        fn a_header_is_read_whole_and_nothing_behind_it(
            ip in any::<IpAddr>(), port in any::<u16>(), is_binary in any::<bool>(),
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let peer = SocketAddr::new(ip, port);
            let header = if is_binary { v2_of(peer, &[]) } else { v1_of(peer) };
            for end in 0..header.len() {
                let Ok(Progress::More(more)) = parse(&header[..end]) else {
                    return Err(TestCaseError::fail(format!("{:?}", &header[..end])));
                };
                prop_assert!(end + more <= header.len());
            }
            let bytes = [header, behind.clone()].concat();
            let mut stream = &bytes[..];
            let read = futures_util::FutureExt::now_or_never(read(&mut stream));
            let header = read.expect("bytes in memory do not wait").unwrap();
            prop_assert_eq!(header, Header { source: Some(peer), encrypted: false });
            prop_assert_eq!(stream, behind);
        }
    }
}
