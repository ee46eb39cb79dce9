//! Standard output, which is data: written whole, and a reader that went away is no error.
//!
//! Much of it was written by others: reasons by operators, evidence by mirrors. None of it may move the
//! cursor or colour the terminal, so what is not meant to be seen is shown by its number.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

use crate::network::reason::is_hidden;

/// Writes text to standard output.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A value as JSON, in which nothing but line ends controls a terminal.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let mut shown = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        // Whatever JSON escapes by itself is no longer there; the rest is between quotes.
        if is_hidden(character) && character != '\n' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown.push('\n');
    Ok(shown)
}

/// Text of others for people to read.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Lays rows out in columns; the last column is not padded.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let shown = |row: &Vec<String>| row.iter().map(|cell| shown(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let rows = [
            vec!["a".to_owned(), "b".to_owned()],
            vec!["long".to_owned(), String::new()],
        ];
        assert_eq!(table(&rows), "a     b\nlong\n");
    }

    #[test]
    fn nothing_shown_moves_the_terminal() {
        let evil = "a\u{1b}[2Jb\r\nc\u{9b}31m\u{202e}d\u{7f}\u{e0041}";
        let cells = [vec![evil.to_owned(), evil.to_owned()]];
        assert_eq!(
            shown(evil),
            r"a\u{1b}[2Jb\r\nc\u{9b}31m\u{202e}d\u{7f}\u{e0041}"
        );
        let value = serde_json::json!({"reason": evil});
        let json = json(&value).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap(),
            value
        );
        for text in [json, table(&cells)] {
            assert!(!text.chars().any(|c| is_hidden(c) && c != '\n'), "{text:?}");
        }
        assert_eq!(
            shown("Umzug nach Köln \"bald\" हिन्दी"),
            "Umzug nach Köln \"bald\" हिन्दी"
        );
    }
}
