//! How the demo speaks: headings, facts and notes on standard output.

use std::io::{self, IsTerminal as _, Write as _};

/// Opens a chapter.
pub(crate) fn step(title: &str) -> io::Result<()> {
    let (bold, plain) = if io::stdout().is_terminal() {
        ("\u{1b}[1m", "\u{1b}[0m")
    } else {
        ("", "")
    };
    say(&format!("\n{bold}{title}{plain}"))
}

/// Says what something is.
pub(crate) fn fact(name: &str, value: &str) -> io::Result<()> {
    say(&format!("   {name:<14} {value}"))
}

/// Says anything else.
pub(crate) fn note(line: &str) -> io::Result<()> {
    say(&format!("   {line}"))
}

fn say(line: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result,
    }
}
