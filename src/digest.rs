//! Content digests: the names under which everything in a registry is found and checked.
//!
//! A [`Digest`] keeps the bytes of the hash, not its text, so that comparing is a memory compare
//! and a table of a million digests stays small. Text exists only at the edges. The grammar is that
//! of the [OCI image specification][spec]; only the two registered algorithms are accepted, because
//! bytes under an algorithm we cannot compute could never be verified.
//!
//! [spec]: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::excerpt::Excerpt;

/// A registered hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which every registry speaks.
    Sha256,
    /// SHA-512, optional in the specification but legal everywhere a digest is.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, in the order in which the tree lists them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name used in digests and in paths of the tree: `sha256` or `sha512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the hexadecimal part of a digest, in characters.
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// A hasher that will yield a digest of this algorithm.
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Self::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    /// The digest of `bytes` under this algorithm.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest of all that `reader` has left, whatever its length.
    ///
    /// ```
    /// use oci_mirror::digest::Algorithm;
    /// let read = Algorithm::Sha256.digest_of(b"{}".as_slice()).unwrap();
    /// assert_eq!(read, Algorithm::Sha256.digest(b"{}"));
    /// ```
    pub fn digest_of(self, mut reader: impl io::Read) -> io::Result<Digest> {
        let mut hasher = self.hasher();
        let mut buffer = vec![0; BUFFER];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(length) => hasher.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How much is read at once.
const BUFFER: usize = 128 << 10;

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            other => Err(Error::Algorithm(Excerpt(other).into())),
        }
    }
}

/// A hash in progress.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// SHA-256 state.
    Sha256(sha2::Sha256),
    /// SHA-512 state.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(state) => Digest::Sha256(state.finalize().into()),
            Self::Sha512(state) => Digest::Sha512(state.finalize().into()),
        }
    }
}

/// A digest, kept as the bytes of the hash.
///
/// Digests order by algorithm, then by value, which is also the order of their text.
///
/// ```
/// use oci_mirror::digest::{Algorithm, Digest};
/// let digest = Algorithm::Sha256.digest(b"{}");
/// assert!(digest.to_string().starts_with("sha256:44136fa355b3678a"));
/// assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Digest {
    /// A SHA-256 value.
    Sha256([u8; 32]),
    /// A SHA-512 value.
    Sha512([u8; 64]),
}

impl Digest {
    /// The algorithm that made this digest.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The bytes of the hash: 32 or 64 of them.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The hexadecimal part, lower case.
    pub fn hex(&self) -> Hex<'_> {
        Hex(self.as_bytes())
    }

    /// Parses the two halves of a digest, as they stand in a path of the tree.
    pub fn from_parts(algorithm: Algorithm, hex: &str) -> Result<Self, Error> {
        let wrong = || Error::Hex {
            algorithm,
            found: Excerpt(hex).into(),
        };
        if hex.len() != algorithm.hex_len() {
            return Err(wrong());
        }
        match algorithm {
            Algorithm::Sha256 => decode_hex(hex).map(Self::Sha256),
            Algorithm::Sha512 => decode_hex(hex).map(Self::Sha512),
        }
        .ok_or_else(wrong)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (algorithm, hex) = text
            .split_once(':')
            .ok_or_else(|| Error::Shape(Excerpt(text).into()))?;
        Self::from_parts(algorithm.parse()?, hex)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Displays bytes as lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Hex<'a>(
    /// The bytes to show.
    pub &'a [u8],
);

impl Hex<'_> {
    /// Appends the digits to `text`: for who writes many of them.
    ///
    /// ```
    /// let mut text = b"0x".to_vec();
    /// oci_mirror::digest::Hex(&[0xfa, 7]).append_to(&mut text);
    /// assert_eq!(text, b"0xfa07");
    /// ```
    pub fn append_to(&self, text: &mut Vec<u8>) {
        self.in_chunks(|digits| text.extend_from_slice(digits));
    }

    /// Appends the digits to `text`.
    pub fn push_to(&self, text: &mut String) {
        self.in_chunks(|digits| text.push_str(std::str::from_utf8(digits).unwrap_or_default()));
    }

    fn in_chunks(&self, mut take: impl FnMut(&[u8])) {
        for chunk in self.0.chunks(CHUNK) {
            let mut digits = [[0; 2]; CHUNK];
            for (pair, byte) in digits.iter_mut().zip(chunk) {
                *pair = PAIRS[usize::from(*byte)];
            }
            take(digits[..chunk.len()].as_flattened());
        }
    }
}

/// How many bytes are turned into digits at a time: those of the shorter digest.
const CHUNK: usize = 32;

/// The two digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = Ok(());
        self.in_chunks(|digits| {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            written = written.and_then(|()| f.write_str(digits));
        });
        written
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no `:` between algorithm and value.
    #[error("digest {0} is not of the form algorithm:hex")]
    Shape(Box<str>),
    /// The algorithm is not one we can compute.
    #[error("digest algorithm {0} is neither sha256 nor sha512")]
    Algorithm(Box<str>),
    /// The value has the wrong length or a character other than `0-9a-f`.
    #[error("{found} is not {} lower-case hexadecimal digits of a {algorithm} digest", .algorithm.hex_len())]
    Hex {
        /// The algorithm that was named.
        algorithm: Algorithm,
        /// What stood in place of the value.
        found: Box<str>,
    },
}

/// Lower-case digits only: an upper-case digest is a different name for the same bytes, and the
/// specification forbids it.
fn decode_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // Looked at once at the end, so that nothing in the loop depends on what is read.
    let mut seen = 0;
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
        seen |= high | low;
        *byte = high << 4 | low & 15;
    }
    (seen < 16).then_some(bytes)
}

/// The value of each digit; more than 15 for what is none.
const NIBBLES: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        values[PAIRS[value as usize][1] as usize] = value;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values_agree_with_sha2sum() {
        assert_eq!(
            Algorithm::Sha256.digest(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert!(
            Algorithm::Sha512
                .digest(b"abc")
                .to_string()
                .starts_with("sha512:ddaf35a193617aba")
        );
    }

    #[test]
    fn rejects_what_is_not_a_digest() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for text in [
            String::new(),
            hex.to_owned(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("sha512:{hex}"),
            format!("md5:{}", &hex[..32]),
            format!("sha256:{}é", &hex[2..]),
            "sha256:../../../etc/passwd".to_owned(),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_then_parse_is_identity(bytes: [u8; 32], wide: [[u8; 32]; 2]) {
            let short = Digest::Sha256(bytes);
            prop_assert_eq!(short.to_string().parse::<Digest>(), Ok(short));
            let mut joined = [0; 64];
            joined[..32].copy_from_slice(&wide[0]);
            joined[32..].copy_from_slice(&wide[1]);
            let long = Digest::Sha512(joined);
            prop_assert_eq!(long.to_string().parse::<Digest>(), Ok(long));
        }

        #[test]
        fn parsing_never_panics_and_accepts_only_its_own_output(text in ".{0,200}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
