//! How a check-in is packed: base64, of any kind, around what must not unpack to more than may be read.

use std::io::{self, Read};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Malformed;
use crate::checkin::xmlrpc::{Argument, Type};

/// The bytes that an argument stands for.
pub(super) fn decode(argument: &Argument) -> Result<Vec<u8>, Malformed> {
    let bytes = base64(&argument.text)?;
    // A text that was handed over as bytes.
    if argument.kind == Type::Bytes && !bytes.starts_with(b"BZh") {
        let text = String::from_utf8(bytes).map_err(|_| Malformed::Base64)?;
        return base64(&text);
    }
    Ok(bytes)
}

/// Either alphabet, with or without padding, in any number of lines.
fn base64(text: &str) -> Result<Vec<u8>, Malformed> {
    const ANY: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    ANY.decode(digits).map_err(|_| Malformed::Base64)
}

/// Fails where there is more than may be read.
pub(super) struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// Reads at most so many bytes.
    pub(super) fn new(reader: R, left: u64) -> Self {
        Self { reader, left }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}
