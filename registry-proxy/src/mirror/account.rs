//! `registry-proxy account`: who looks after which sites.

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::output::{self, table};
use super::{Missing, open};
use crate::db::Database;
use crate::network::account::Email;
use crate::network::{Account, AccountName, SiteName};

/// What to do with accounts, and how to answer.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enter somebody who looks after sites
    Add {
        /// What to call them: 1 to 64 letters, digits, `.`, `_`, `-`
        name: AccountName,
        /// Where to write to
        #[arg(long)]
        email: Option<Email>,
        /// A site they look after; may be given several times
        #[arg(long = "site", value_name = "SITE")]
        sites: Vec<SiteName>,
    },
    /// All accounts, one a line
    List,
    /// Let somebody look after a site
    Grant {
        /// Who
        name: AccountName,
        /// Which site
        site: SiteName,
    },
    /// Let somebody look after a site no longer
    Revoke {
        /// Who
        name: AccountName,
        /// Which site
        site: SiteName,
    },
    /// Forget an account; its sites stay
    Remove {
        /// Who
        name: AccountName,
    },
}

/// Does it; what to answer.
pub fn run(arguments: Arguments, path: &Path) -> Result<String> {
    let Arguments { json, command } = arguments;
    let missing = match command {
        Command::Add { .. } => Missing::Made,
        _ => Missing::Wrong,
    };
    let mut database = open(path, missing)?;
    let (name, text) = match command {
        Command::List => return list(&database, json),
        Command::Remove { name } => {
            database.remove_account(&name)?;
            return Ok(if json {
                output::json(&json!({"removed": name}))?
            } else {
                format!("{name} is forgotten\n")
            });
        }
        Command::Add { name, email, sites } => {
            let account = Account {
                name: name.clone(),
                email,
                sites,
            };
            database.add_account(&account, Timestamp::now())?;
            let text = format!("entered {name}\n");
            (name, text)
        }
        Command::Grant { name, site } => {
            database.grant(&name, &site)?;
            let text = format!("{name} looks after {site}\n");
            (name, text)
        }
        Command::Revoke { name, site } => {
            database.revoke(&name, &site)?;
            let text = format!("{name} does not look after {site}\n");
            (name, text)
        }
    };
    if json {
        let account = database.account(&name)?;
        return Ok(output::json(&json!({"account": account}))?);
    }
    Ok(text)
}

fn list(database: &Database, as_json: bool) -> Result<String> {
    let accounts = database.accounts()?;
    if as_json {
        return Ok(output::json(&accounts)?);
    }
    if accounts.is_empty() {
        return Ok("there are no accounts\n".to_owned());
    }
    let mut rows = vec![["NAME", "EMAIL", "SITES"].map(str::to_owned).to_vec()];
    rows.extend(accounts.iter().map(|account| {
        let sites: Vec<&str> = account.sites.iter().map(SiteName::as_str).collect();
        let email = account.email.as_ref().map(ToString::to_string);
        vec![
            account.name.to_string(),
            email.unwrap_or_else(|| "-".to_owned()),
            sites.join(" "),
        ]
    }));
    Ok(table(&rows))
}
