//! Values of the file that are texts with a grammar: through the same door as on the command line.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::{Deserialize as _, Deserializer, Error as _};

/// A text that is a `T`.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

/// The same for a key that may be left out.
pub(super) fn some_parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    parsed(deserializer).map(Some)
}

/// A list of texts each of which is a `T`.
pub(super) fn each_parsed<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    let each: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
    each.map(Some).map_err(D::Error::custom)
}

/// A number of jobs, within what the command line allows.
pub(super) fn jobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match u16::deserialize(deserializer)? {
        jobs @ 1..=256 => Ok(Some(jobs)),
        jobs => Err(D::Error::custom(format!("{jobs} is not in 1 to 256"))),
    }
}
