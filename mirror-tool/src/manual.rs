//! Manual pages and shell completions, made from the definition of the command line.
//!
//! A packager writes them at build time, a user at any time; neither can tell something else than the
//! program itself does, since there is no second text to keep right.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// A page of section 1 of the manual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The name of its file: `mirror-tool-export.1`.
    pub file_name: String,
    /// The page, as `man` reads it.
    pub roff: String,
}

/// What a shell must be told to complete the command line of `command`.
pub fn completions(mut command: Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    text(&script)
}

/// The pages of `command`: first its own, then one for each subcommand.
pub fn pages(command: Command) -> Vec<Page> {
    // `help` would be a subcommand with a page that says nothing.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    collect(&command, &mut pages);
    pages
}

/// Writes the pages of `command` into a directory, which is made if it is not there.
pub fn write_pages(command: Command, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for page in pages(command) {
        let path = dir.join(&page.file_name);
        fs::write(&path, page.roff).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn collect(command: &Command, pages: &mut Vec<Page>) {
    let man = Man::new(command.clone());
    let mut roff = Vec::new();
    man.render(&mut roff)
        .expect("writing into memory does not fail");
    pages.push(Page {
        file_name: man.get_filename(),
        roff: text(&roff),
    });
    for subcommand in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        collect(subcommand, pages);
    }
}

/// Both generators write text, though into any writer of bytes.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_subcommand_has_a_page_and_every_option_is_on_it() {
        let pages = pages(Cli::command());
        assert_eq!(pages[0].file_name, "mirror-tool.1");
        let command = Cli::command();
        for subcommand in command.get_subcommands() {
            let name = format!("mirror-tool-{}", subcommand.get_name());
            let page = pages
                .iter()
                .find(|page| page.file_name == format!("{name}.1"))
                .unwrap_or_else(|| panic!("{name} has no page"));
            assert!(page.roff.contains(&format!(".TH {name} 1")), "{name}");
            for option in subcommand.get_arguments().filter_map(|a| a.get_long()) {
                let written = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.roff.contains(&written), "{option} of {name}");
            }
            let listed = format!("{}(1)", name.replace('-', "\\-"));
            assert!(pages[0].roff.contains(&listed), "{name} on the main page");
        }
        assert_eq!(pages.len(), 1 + command.get_subcommands().count());
    }

    #[test]
    fn pages_are_sound_roff() {
        for Page { file_name, roff } in pages(Cli::command()) {
            for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
                assert!(roff.contains(section), "{file_name} lacks {section}");
            }
            for line in roff.lines() {
                // A line that starts with a dot is a request; text that does would vanish.
                let request = line.split([' ', '\\']).next().unwrap_or_default();
                let known = [
                    ".TH", ".SH", ".SS", ".TP", ".IP", ".RS", ".RE", ".br", ".sp", ".ie", ".el",
                ];
                assert!(
                    !request.starts_with(['.', '\'']) || known.contains(&request),
                    "{file_name}: {line}"
                );
                assert!(!line.contains(char::is_control), "{file_name}: {line}");
            }
        }
    }

    #[test]
    fn completions_name_every_subcommand_in_every_shell() {
        for shell in Shell::value_variants() {
            let script = completions(Cli::command(), *shell);
            for subcommand in Cli::command().get_subcommands() {
                assert!(script.contains(subcommand.get_name()), "{shell}");
            }
            assert!(script.contains("exclude-tags"), "{shell}");
        }
    }

    #[test]
    fn pages_are_written_into_a_directory_that_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let man1 = dir.path().join("share/man/man1");
        write_pages(Cli::command(), &man1).unwrap();
        for page in pages(Cli::command()) {
            let written = fs::read_to_string(man1.join(page.file_name)).unwrap();
            assert_eq!(written, page.roff);
        }
        let error = write_pages(Cli::command(), Path::new("/dev/null/man1")).unwrap_err();
        assert!(error.to_string().contains("/dev/null/man1"), "{error}");
    }
}
