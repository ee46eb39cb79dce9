//! `registry-proxy site`: organisations with one or several mirrors.

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{self, table};
use super::{Missing, Off, Whose, open};
use crate::db::{Database, Mirrors};
use crate::network::{BaseUrl, NewSite, Site, SiteName};

/// What to do with sites, and how to answer.
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
    /// Enter a site; its mirrors name it by `mirror add --site` or `mirror set --site`
    Add {
        /// What to call it: 1 to 64 letters, digits, `.`, `_`, `-`
        name: SiteName,
        /// Where people can read about it
        #[arg(long)]
        url: Option<BaseUrl>,
    },
    /// Change what is said of a site
    Set {
        /// Which site
        name: SiteName,
        /// Where people can read about it; without it, nowhere
        #[arg(long)]
        url: Option<BaseUrl>,
    },
    /// All sites, one a line
    List,
    /// All that is known of one site
    Show {
        /// Which site
        name: SiteName,
    },
    /// Put all mirrors of a site back into service
    Enable {
        /// Which site
        name: SiteName,
        #[command(flatten)]
        whose: Whose,
    },
    /// Take all mirrors of a site out of service
    Disable {
        /// Which site
        name: SiteName,
        #[command(flatten)]
        off: Off,
    },
    /// Forget a site
    Remove {
        /// Which site
        name: SiteName,
        /// Forget its mirrors and all that was found out about them, too
        #[arg(long)]
        with_mirrors: bool,
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
        Command::Show { name } => {
            let text = shown(&database.site(&name)?);
            (name, text)
        }
        Command::Remove { name, with_mirrors } => {
            let mirrors = if with_mirrors {
                Mirrors::Removed
            } else {
                Mirrors::Kept
            };
            let mirrors = database.remove_site(&name, mirrors)?;
            return Ok(if json {
                output::json(&json!({"removed": name, "mirrors": mirrors}))?
            } else {
                format!("{name} is forgotten, with {} mirrors\n", mirrors.len())
            });
        }
        Command::Add { name, url } => {
            let site = NewSite {
                url,
                ..NewSite::new(name.clone())
            };
            database.add_site(&site)?;
            let text = format!("entered {name}\n");
            (name, text)
        }
        Command::Set { name, url } => {
            let site = NewSite {
                url,
                ..NewSite::new(name.clone())
            };
            let text = match &*database.change_site(&site)? {
                [] => format!("{name} is as it was\n"),
                fields => format!("changed {name}: {}\n", fields.join(", ")),
            };
            (name, text)
        }
        Command::Enable { name, whose } => {
            database.set_site_switch(&name, whose.by(), None)?;
            let text = format!("site {name} is enabled\n");
            (name, text)
        }
        Command::Disable { name, off } => {
            database.set_site_switch(&name, off.whose.by(), Some(off.reason()))?;
            let text = format!("site {name} is disabled\n");
            (name, text)
        }
    };
    if json {
        let site = database.site(&name)?;
        return Ok(output::json(&json!({"site": site}))?);
    }
    Ok(text)
}

fn list(database: &Database, as_json: bool) -> Result<String> {
    let sites = database.sites()?;
    if as_json {
        return Ok(output::json(&sites)?);
    }
    if sites.is_empty() {
        return Ok("there are no sites\n".to_owned());
    }
    let mut rows = vec![
        ["NAME", "MIRRORS", "ACCOUNTS", "STATUS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(sites.iter().map(|site| {
        vec![
            site.name.to_string(),
            site.mirrors.len().to_string(),
            site.accounts.len().to_string(),
            status(site),
        ]
    }));
    Ok(table(&rows))
}

fn shown(site: &Site) -> String {
    let names = |names: Vec<String>| match &*names {
        [] => "-".to_owned(),
        names => names.join(" "),
    };
    let url = site.url.as_ref().map(ToString::to_string);
    let rows = [
        ("name", site.name.to_string()),
        ("status", status(site)),
        ("url", url.unwrap_or_else(|| "-".to_owned())),
        (
            "mirrors",
            names(site.mirrors.iter().map(ToString::to_string).collect()),
        ),
        (
            "accounts",
            names(site.accounts.iter().map(ToString::to_string).collect()),
        ),
    ];
    table(&rows.map(|(name, value)| vec![name.to_owned(), value]))
}

fn status(site: &Site) -> String {
    let off = |who: &str, reason: &str| match reason {
        "" => format!("disabled by {who}"),
        reason => format!("disabled by {who}: {reason}"),
    };
    let admin = site.admin.reason();
    let own = site.own.reason();
    let admin = admin.map(|reason| off("an administrator", reason));
    let own = own.map(|reason| off("its own people", reason));
    let both: Vec<String> = admin.into_iter().chain(own).collect();
    match &*both {
        [] => "enabled".to_owned(),
        both => both.join("; "),
    }
}
