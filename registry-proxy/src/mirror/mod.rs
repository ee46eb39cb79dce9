//! `registry-proxy mirror`: entering mirrors, showing them, taking them out of service.

mod add;
mod explain;
mod output;
mod show;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

pub use output::print;

use crate::config::Config;
use crate::db::Database;
use crate::network::HostName;

/// What to do with mirrors.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enter a mirror; it gets its first clients after its first crawl
    Add(add::Arguments),
    /// All mirrors, one a line
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// All that is known of one mirror, and the evidence against it
    Show {
        /// Which mirror
        name: HostName,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put a mirror back into service
    Enable {
        /// Which mirror
        name: HostName,
    },
    /// Take a mirror out of service
    Disable {
        /// Which mirror
        name: HostName,
        /// Why; shown wherever the mirror is
        #[arg(long, default_value = "by the operator")]
        reason: String,
    },
    /// Forget a mirror and all that was found out about it
    Remove {
        /// Which mirror
        name: HostName,
    },
    /// Which mirrors a client would be sent to, and why not to the others
    Explain(explain::Arguments),
}

/// Does it.
pub async fn run(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    let path = config.database.clone();
    let open = move || match command {
        // Only entering a mirror makes a database: a mistyped path must not look like an empty network.
        Command::Add(_) => Database::open(&path).map(|database| (database, command)),
        _ => Database::open_existing(&path).map(|database| (database, command)),
    };
    let opened = tokio::task::spawn_blocking(open).await?;
    let (mut database, command) = opened.context("cannot get at the mirrors")?;
    let text = match command {
        Command::Add(arguments) => {
            let host = arguments.into_host(config).await?;
            database.add_host(&host)?;
            format!(
                "entered {}; it gets clients once `registry-proxy crawl` has verified what it holds\n",
                host.name
            )
        }
        Command::List { json } => show::list(&database, json)?,
        Command::Show { name, json } => show::one(&database, &name, json)?,
        Command::Enable { name } => {
            database.set_disabled(&name, None)?;
            format!("{name} is enabled\n")
        }
        Command::Disable { name, reason } => {
            database.set_disabled(&name, Some(&reason))?;
            format!("{name} is disabled\n")
        }
        Command::Remove { name } => {
            database.remove_host(&name)?;
            format!("{name} is forgotten\n")
        }
        Command::Explain(arguments) => explain::text(&arguments, false, &database, config)?,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
