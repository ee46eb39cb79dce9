//! `mirror token`: by what a mirror is known when it checks in.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::output;
use crate::checkin::Token;
use crate::db::Database;
use crate::network::HostName;

/// The arguments of `mirror token`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which mirror
    name: HostName,
    /// Take back the token it has; a private mirror is crawled again
    #[arg(long)]
    revoke: bool,
}

impl Arguments {
    /// Makes a token, or takes it back, and says so: the only time that it is shown.
    pub(super) fn run(&self, database: &mut Database, as_json: bool) -> Result<String> {
        let name = &self.name;
        if self.revoke {
            let had = database.revoke_token(name)?;
            return Ok(match (as_json, had) {
                (true, had) => output::json(&json!({"mirror": name, "revoked": had}))?,
                (false, true) => format!("{name} cannot check in any more\n"),
                (false, false) => format!("{name} has no token\n"),
            });
        }
        let token = Token::new()?;
        database.set_token(name, &token, Timestamp::now())?;
        if as_json {
            return Ok(output::json(
                &json!({"mirror": name, "token": token.reveal()}),
            )?);
        }
        Ok(format!("{}\n", token.reveal()))
    }
}
