//! Exit statuses: how a command ended, as a number for scripts.

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::export::config;
use crate::say::say;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: all is well.
    Fine,
    /// 1: nothing was achieved.
    Failed,
    /// 2: wrong usage, most of which the parser tells.
    Usage,
    /// 3: the tree was checked and damage was found.
    Damage,
    /// 4: some images failed, the rest was exported.
    Partial,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Damage => 3,
            Exit::Partial => 4,
        })
    }
}

/// Prints the error of a failed command once, as one chain, and gives the status to exit with.
pub fn report(result: anyhow::Result<Exit>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            say(format_args!("error: {error:#}"));
            of(&error).into()
        }
    }
}

/// The status a command that could not be run ends with.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    if error.is::<Usage>() || error.is::<config::Error>() {
        Exit::Usage
    } else {
        Exit::Failed
    }
}

/// Wrong usage that the parser of arguments cannot tell.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub &'static str);

/// The status of a command whose result was to be `printed`.
///
/// A reader that has gone away (`mirror-tool list | head`) is no error, and whatever keeps a result
/// from being printed must not hide that it is a bad one.
pub(crate) fn told(printed: io::Result<()>, exit: Exit) -> anyhow::Result<Exit> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit),
        Err(error) if exit != Exit::Fine => {
            say(format_args!("error: {NOT_WRITTEN}: {error}"));
            Ok(exit)
        }
        printed => printed.map(|()| exit).context(NOT_WRITTEN),
    }
}

const NOT_WRITTEN: &str = "cannot write to standard output";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_result_from_being_printed_does_not_hide_it() {
        use io::ErrorKind::{BrokenPipe, StorageFull};
        for (failure, exit, status) in [
            (None, Exit::Fine, Some(Exit::Fine)),
            (None, Exit::Damage, Some(Exit::Damage)),
            (Some(BrokenPipe), Exit::Fine, Some(Exit::Fine)),
            (Some(BrokenPipe), Exit::Damage, Some(Exit::Damage)),
            (Some(StorageFull), Exit::Partial, Some(Exit::Partial)),
            (Some(StorageFull), Exit::Fine, None),
        ] {
            let printed = failure.map_or(Ok(()), |kind| Err(kind.into()));
            assert_eq!(told(printed, exit).ok(), status, "{failure:?} {exit:?}");
        }
    }
}
