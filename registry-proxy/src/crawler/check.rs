//! One question to a mirror: do you have this blob, and are its bytes right?

use std::ops::Range;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};
use http::{Method, StatusCode};
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::excerpt::Excerpt;
use oci_mirror::tree::pieces::PieceHash;

use super::identity::Identity;
use super::wire::exchange::{Exchange, Failure, Question, Way};
use crate::db::Cost;

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A connection to be made.
    pub connect: Duration,
    /// The next byte.
    pub silence: Duration,
    /// A whole answer, beside the time that its bytes take at the slowest speed; a tarpit ends here.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            grace: Duration::from_secs(60),
        }
    }
}

/// What a mirror answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All bytes asked for were read and are right.
    Right,
    /// There, with the right length.
    There,
    /// Not there.
    Missing,
    /// There and wrong.
    Damaged(String),
    /// It could not be told.
    Unknown(String),
    /// Nobody is there to ask.
    Unreachable(String),
}

/// What a mirror says that sends the whole of a file where a part is asked for. Clients cannot go on with a
/// broken transfer there.
pub const NO_RANGES: &str = "answers Range with 200";

/// Asks one mirror, over one connection that is kept alive.
#[derive(Debug)]
pub struct Mirror {
    way: Way,
    /// Bytes of blobs read so far.
    pub bytes: u64,
}

impl Mirror {
    /// One at the end of this way.
    pub(super) fn new(way: Way) -> Self {
        Self { way, bytes: 0 }
    }

    /// Whether a blob is there with the right length; reads it where `HEAD` cannot tell.
    ///
    /// Servers get `HEAD` wrong in ways that harm no client: they refuse it, or name no length, or 0. And a
    /// page sent for everything may name none either. So `HEAD` is believed when it says that the file is
    /// as it should be or is not there, and all else is for the bytes to show: all of them, if they are no
    /// more than `most`, or else the first.
    pub async fn look(&mut self, url: &str, size: u64, digest: &Digest, most: u64) -> Answer {
        let question = Question::new(Method::HEAD, url, 0, Identity::Crawler);
        let exchange = match self.ask(question).await {
            Err(failure) => return failure.into(),
            Ok(exchange) => exchange,
        };
        let refused = [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED]
            .contains(&exchange.status());
        match head(exchange.status(), exchange.headers(), size) {
            Ok(Some(_)) => Answer::There,
            Err(answer @ (Answer::Missing | Answer::Unknown(_))) if !refused => answer,
            _ if size <= most => self.read(url, size, digest).await,
            _ => self.first_byte(url, size).await,
        }
    }

    /// Whether a blob is there with the right length, as the answer for its first byte says.
    async fn first_byte(&mut self, url: &str, size: u64) -> Answer {
        let range = 0..1;
        let question = Question {
            range: Some(range.clone()),
            ..Question::new(Method::GET, url, 1, Identity::Crawler)
        };
        match self.ask(question).await {
            Err(failure) => failure.into(),
            Ok(exchange) => match part(exchange.status(), exchange.headers(), &range, size) {
                Ok(()) => Answer::There,
                Err(answer) => answer,
            },
        }
    }

    /// Reads a whole blob and compares length and digest.
    pub async fn read(&mut self, url: &str, size: u64, digest: &Digest) -> Answer {
        self.read_as(Identity::Crawler, url, size, digest).await
    }

    /// The same, as whom is said.
    pub async fn read_as(
        &mut self,
        identity: Identity,
        url: &str,
        size: u64,
        digest: &Digest,
    ) -> Answer {
        let question = Question::new(Method::GET, url, size, identity);
        let mut exchange = match self.ask(question).await {
            Err(failure) => return failure.into(),
            Ok(exchange) => exchange,
        };
        if let Err(answer) = head(exchange.status(), exchange.headers(), size) {
            return answer;
        }
        let mut hasher = digest.algorithm().hasher();
        let found = match self
            .body(&mut exchange, size, |bytes| hasher.update(bytes))
            .await
        {
            Ok(()) => hasher.finish(),
            Err(answer) => return answer,
        };
        if found == *digest {
            Answer::Right
        } else {
            Answer::Damaged(format!("bytes with the digest {found}"))
        }
    }

    /// Reads one piece of a blob of `size` bytes and compares it with its hash.
    pub async fn piece(
        &mut self,
        identity: Identity,
        url: &str,
        size: u64,
        range: Range<u64>,
        expected: &PieceHash,
    ) -> Answer {
        let length = range.end.saturating_sub(range.start);
        let question = Question {
            range: Some(range.clone()),
            ..Question::new(Method::GET, url, length, identity)
        };
        let mut exchange = match self.ask(question).await {
            Err(failure) => return failure.into(),
            Ok(exchange) => exchange,
        };
        if let Err(answer) = part(exchange.status(), exchange.headers(), &range, size) {
            return answer;
        }
        let mut hasher = Algorithm::Sha256.hasher();
        let found = match self
            .body(&mut exchange, length, |bytes| hasher.update(bytes))
            .await
        {
            Ok(()) => hasher.finish(),
            Err(answer) => return answer,
        };
        if found == Digest::Sha256(*expected) {
            Answer::Right
        } else {
            Answer::Damaged(format!("a piece with the digest {found}"))
        }
    }

    /// A small file that is no blob, of at most `most` bytes; a longer one is damaged.
    pub async fn fetch(&mut self, url: &str, most: u64) -> Result<Vec<u8>, Answer> {
        let question = Question::new(Method::GET, url, most, Identity::Crawler);
        let mut exchange = self.ask(question).await?;
        match exchange.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
                return Err(Answer::Missing);
            }
            status => return Err(Answer::Unknown(format!("status {status}"))),
        }
        let mut content = Vec::new();
        loop {
            match exchange
                .chunk(&self.way.pace)
                .await
                .map_err(Answer::Unknown)?
            {
                None => return Ok(content),
                Some(chunk) if (content.len() + chunk.len()) as u64 > most => {
                    return Err(Answer::Damaged(format!("more than {most} bytes")));
                }
                Some(chunk) => content.extend_from_slice(&chunk),
            }
        }
    }

    /// What was asked and read so far, by all who ask this mirror at the same pace.
    pub fn cost(&self) -> Cost {
        self.way.pace.cost()
    }

    /// Asks anything; for what is tried besides.
    pub(super) async fn ask(&mut self, question: Question<'_>) -> Result<Exchange, Failure> {
        self.way.ask(question).await
    }

    /// Reads a body of exactly `size` bytes, and no more of a longer one.
    pub(super) async fn body(
        &mut self,
        exchange: &mut Exchange,
        size: u64,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Answer> {
        let mut received: u64 = 0;
        while let Some(chunk) = exchange
            .chunk(&self.way.pace)
            .await
            .map_err(Answer::Unknown)?
        {
            received += chunk.len() as u64;
            self.bytes += chunk.len() as u64;
            if received > size {
                let wrong = format!("more than the {size} bytes it should have");
                return Err(Answer::Damaged(wrong));
            }
            take(&chunk);
        }
        if received == size {
            Ok(())
        } else {
            let wrong = format!("{received} bytes instead of {size}");
            Err(Answer::Damaged(wrong))
        }
    }
}

/// What status and header fields say of a whole blob of `size` bytes; the length if they name it and it is
/// right.
pub fn head(status: StatusCode, headers: &HeaderMap, size: u64) -> Result<Option<u64>, Answer> {
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
            return Err(Answer::Missing);
        }
        status => return Err(Answer::Unknown(format!("status {status}"))),
    }
    plain(headers)?;
    length(headers, size)
}

/// What status and header fields say of a part of a blob of `size` bytes.
pub fn part(
    status: StatusCode,
    headers: &HeaderMap,
    range: &Range<u64>,
    size: u64,
) -> Result<(), Answer> {
    match status {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK => return Err(Answer::Unknown(NO_RANGES.to_owned())),
        status => return head(status, headers, size).map(drop),
    }
    plain(headers)?;
    let Some(field) = headers.get(CONTENT_RANGE) else {
        return Err(Answer::Unknown("206 without Content-Range".to_owned()));
    };
    let text = String::from_utf8_lossy(field.as_bytes());
    let wrong = || {
        let (first, last) = (range.start, range.end.saturating_sub(1));
        format!(
            "Content-Range {} instead of bytes {first}-{last}/{size}",
            Excerpt(&text)
        )
    };
    match content_range(&text) {
        Some((sent, _)) if sent != *range => Err(Answer::Unknown(wrong())),
        Some((_, Some(whole))) if whole != size => Err(Answer::Damaged(wrong())),
        Some(_) => length(headers, range.end.saturating_sub(range.start)).map(drop),
        None => Err(Answer::Unknown(wrong())),
    }
}

/// Every client would take the decoded bytes, or the encoded ones, for damage.
pub(super) fn plain(headers: &HeaderMap) -> Result<(), Answer> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    match encodings.find(|encoding| *encoding != "identity") {
        None => Ok(()),
        Some(encoding) => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            let wrong = format!("Content-Encoding {}", Excerpt(&encoding));
            Err(Answer::Damaged(wrong))
        }
    }
}

fn length(headers: &HeaderMap, size: u64) -> Result<Option<u64>, Answer> {
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length != size => Err(Answer::Damaged(format!(
            "Content-Length {length} instead of {size}"
        ))),
        length => Ok(length),
    }
}

/// The bytes that a `Content-Range` names, and the length of the whole if it does.
fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits)
    };
    let (unit, rest) = text.split_once(' ')?;
    let (part, whole) = rest.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let whole = match whole {
        "*" => None,
        whole => Some(number(whole)?),
    };
    let is_sound = unit.eq_ignore_ascii_case("bytes") && first <= last;
    is_sound.then_some((first..last.checked_add(1)?, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_an_answer_tells_right_from_wrong_and_from_neither() {
        let head = |status: u16, fields: &[(&'static str, &'static str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            super::head(StatusCode::from_u16(status).unwrap(), &fields.collect(), 10)
        };
        assert_eq!(head(200, &[("content-length", "10")]), Ok(Some(10)));
        assert_eq!(head(200, &[]), Ok(None));
        assert_eq!(head(200, &[("content-encoding", "identity")]), Ok(None));
        for fields in [
            &[("content-length", "11")][..],
            &[("content-length", "10"), ("content-encoding", "br")],
        ] {
            assert!(matches!(head(200, fields), Err(Answer::Damaged(_))));
        }
        for status in [403, 404, 410] {
            assert_eq!(head(status, &[]), Err(Answer::Missing));
        }
        for status in [204, 206, 304, 400, 401, 408, 429, 451, 500, 502, 503] {
            let answer = head(status, &[("content-length", "10")]);
            assert!(matches!(answer, Err(Answer::Unknown(_))), "{status}");
        }
    }

    #[test]
    fn the_head_of_a_part_tells_whose_part_it_is() {
        let part = |status: u16, fields: &[(&'static str, &'static str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let status = StatusCode::from_u16(status).unwrap();
            super::part(status, &fields.collect(), &(10..20), 100)
        };
        for right in ["bytes 10-19/100", "Bytes 10-19/*"] {
            assert_eq!(part(206, &[("content-range", right)]), Ok(()), "{right}");
        }
        assert_eq!(part(404, &[]), Err(Answer::Missing));
        assert_eq!(part(200, &[]), Err(Answer::Unknown(NO_RANGES.to_owned())));
        for odd in [
            "bytes 0-9/100",
            "bytes 10-18/100",
            "bytes 10-20/100",
            "bytes */100",
            "bytes 10-19",
            "bytes +10-19/100",
            "bytes 19-10/100",
            "bytes 10-18446744073709551615/100",
            "lines 10-19/100",
            "",
        ] {
            let answer = part(206, &[("content-range", odd)]);
            assert!(
                matches!(answer, Err(Answer::Unknown(_))),
                "{odd}: {answer:?}"
            );
        }
        for fields in [
            &[("content-range", "bytes 10-19/101")][..],
            &[
                ("content-range", "bytes 10-19/100"),
                ("content-length", "9"),
            ],
            &[
                ("content-range", "bytes 10-19/100"),
                ("content-encoding", "gzip"),
            ],
        ] {
            let answer = part(206, fields);
            assert!(matches!(answer, Err(Answer::Damaged(_))), "{answer:?}");
        }
        for status in [206, 416, 500, 302] {
            assert!(
                matches!(part(status, &[]), Err(Answer::Unknown(_))),
                "{status}"
            );
        }
    }
}
