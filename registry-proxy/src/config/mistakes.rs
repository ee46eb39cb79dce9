//! All that is wrong with the text of a configuration, not only the first of it.
//!
//! serde stops at the first mistake. So what it names is taken out of the document, and it is asked
//! again, until nothing is left to complain of.

use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::Config;

/// Most mistakes looked for: a file with more is no configuration of ours.
const MOST: usize = 100;

/// Parses a configuration; the mistakes in it, in the order they were found, if there are any.
pub(super) fn parse(text: &str) -> Result<Config, Vec<Error>> {
    let (table, mut mistakes) = DeTable::parse_recoverable(text);
    let span = table.span();
    let mut table = table.into_inner();
    for _ in 0..MOST {
        let read = Config::deserialize(Deserializer::from(Spanned::new(
            span.clone(),
            table.clone(),
        )));
        match read {
            Ok(config) if mistakes.is_empty() => return Ok(config),
            Ok(_) => break,
            Err(mistake) => {
                let place = mistake.span();
                mistakes.push(mistake);
                if !place.is_some_and(|place| take_out(&mut table, &place)) {
                    break;
                }
            }
        }
    }
    for mistake in &mut mistakes {
        mistake.set_input(Some(text));
    }
    Err(mistakes)
}

/// Removes the innermost setting at a place; whether there was one.
fn take_out(table: &mut DeTable<'_>, place: &Range<usize>) -> bool {
    let covers = |span: Range<usize>| span.start <= place.start && place.end <= span.end;
    for (_, value) in table.iter_mut() {
        // A section that is wrong as a whole is named by its own span.
        let is_within = covers(value.span()) && value.span() != *place;
        if let DeValue::Table(inner) = value.get_mut()
            && (is_within || place_is_in(inner, place))
            && take_out(inner, place)
        {
            return true;
        }
    }
    let found = table
        .iter()
        .find(|(key, value)| covers(key.span()) || covers(value.span()))
        .map(|(key, _)| key.clone());
    found.is_some_and(|key| table.remove(&key).is_some())
}

/// Whether a table has a setting there: the span of `[section]` is that of its first line alone.
fn place_is_in(table: &DeTable<'_>, place: &Range<usize>) -> bool {
    table.iter().any(|(key, value)| {
        let begins = key.span().start <= place.start && place.end <= key.span().end;
        let holds = value.span().start <= place.start && place.end <= value.span().end;
        begins
            || holds
            || matches!(value.get_ref(), DeValue::Table(inner) if place_is_in(inner, place))
    })
}
