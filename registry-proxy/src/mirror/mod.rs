//! `registry-proxy mirror`, `site`, `account`, `import` and `export`: entering what the network consists
//! of, showing it, taking it out of service.
//!
//! Each command answers in text, or with `--json` in one JSON value.

pub mod account;
mod add;
mod explain;
mod fields;
pub mod import;
mod output;
mod set;
mod show;
pub mod site;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

pub use output::print;

use crate::config::Config;
use crate::db::Database;
use crate::network::{By, HostName, Reason};

/// What to do with mirrors, and how to answer.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// What to do with mirrors.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enter a mirror; it gets its first clients after its first crawl
    Add(Box<add::Arguments>),
    /// Change what is said of a mirror
    Set(Box<set::Arguments>),
    /// All mirrors, one a line
    List,
    /// All that is known of one mirror, and the evidence against it
    Show {
        /// Which mirror
        name: HostName,
    },
    /// Put a mirror back into service
    Enable {
        /// Which mirror
        name: HostName,
        /// Whose switch
        #[command(flatten)]
        whose: Whose,
        /// End its quarantine too; if it still sends wrong bytes, the next crawl begins it anew
        #[arg(long)]
        clear_quarantine: bool,
    },
    /// Take a mirror out of service
    Disable {
        /// Which mirror
        name: HostName,
        /// Whose switch, and why
        #[command(flatten)]
        off: Off,
    },
    /// Forget a mirror and all that was found out about it
    Remove {
        /// Which mirror
        name: HostName,
    },
    /// Which mirrors a client would be sent to, and why not to the others
    Explain(explain::Arguments),
}

/// Whose switch is turned.
#[derive(Debug, Clone, Copy, Args)]
pub struct Whose {
    /// Turn the switch of its own people, not the administrator's
    #[arg(long)]
    by_site: bool,
}

impl Whose {
    fn by(self) -> By {
        if self.by_site { By::Site } else { By::Admin }
    }
}

/// How something is taken out of service.
#[derive(Debug, Args)]
pub struct Off {
    #[command(flatten)]
    whose: Whose,
    /// Why; shown wherever the mirror is [default: by the operator, or by the site]
    #[arg(long)]
    reason: Option<Reason>,
}

impl Off {
    fn reason(&self) -> &str {
        let default = if self.whose.by_site {
            "by the site"
        } else {
            "by the operator"
        };
        self.reason.as_ref().map_or(default, Reason::as_str)
    }
}

/// Whether a database that is not there is made: only by entering something, since a mistyped path must not
/// look like an empty network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Made,
    Wrong,
}

fn open(path: &std::path::Path, missing: Missing) -> anyhow::Result<Database> {
    let opened = match missing {
        Missing::Made => Database::open(path),
        Missing::Wrong => Database::open_existing(path),
    };
    opened.context("cannot get at the mirrors")
}

/// Does it.
pub async fn run(arguments: Arguments, config: &Config) -> anyhow::Result<ExitCode> {
    let Arguments { json, command } = arguments;
    let path: PathBuf = config.database.clone();
    let missing = match command {
        Command::Add(_) => Missing::Made,
        _ => Missing::Wrong,
    };
    let mut database = tokio::task::spawn_blocking(move || open(&path, missing)).await??;
    let text = match command {
        Command::Add(arguments) => {
            let host = arguments.into_host(config).await?;
            database.add_host(&host)?;
            let text = format!(
                "entered {}; it gets clients once `registry-proxy crawl` has verified what it holds\n",
                host.name
            );
            changed(&database, &host.name, None, json, text)?
        }
        Command::Set(arguments) => {
            let (name, fields) = arguments.run(&mut database)?;
            let text = match &*fields {
                [] => format!("{name} is as it was\n"),
                fields => format!("changed {name}: {}\n", fields.join(", ")),
            };
            changed(&database, &name, Some(&fields), json, text)?
        }
        Command::List => show::list(&database, json)?,
        Command::Show { name } => show::one(&database, &name, config, json)?,
        Command::Enable {
            name,
            whose,
            clear_quarantine,
        } => {
            database.set_switch(&name, whose.by(), None)?;
            if clear_quarantine {
                database.clear_quarantine(&name)?;
            }
            let text = match database.host(&name)?.host.standing() {
                Ok(()) => format!("{name} is enabled\n"),
                Err(objection) => {
                    let objection = output::shown(&objection.to_string());
                    format!("{name} is enabled, and not used all the same: {objection}\n")
                }
            };
            changed(&database, &name, None, json, text)?
        }
        Command::Disable { name, off } => {
            database.set_switch(&name, off.whose.by(), Some(off.reason()))?;
            let text = format!("{name} is disabled\n");
            changed(&database, &name, None, json, text)?
        }
        Command::Remove { name } => {
            database.remove_host(&name)?;
            if json {
                output::json(&json!({"removed": name}))?
            } else {
                format!("{name} is forgotten\n")
            }
        }
        Command::Explain(arguments) => explain::text(&arguments, json, &database, config)?,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The answer to a change: the text, or the mirror as it is now.
fn changed(
    database: &Database,
    name: &HostName,
    fields: Option<&[&str]>,
    as_json: bool,
    text: String,
) -> anyhow::Result<String> {
    if !as_json {
        return Ok(text);
    }
    let mut answer = json!({"mirror": show::value(database, &database.host(name)?)?});
    if let Some(fields) = fields {
        answer["changed"] = json!(fields);
    }
    Ok(output::json(&answer)?)
}
