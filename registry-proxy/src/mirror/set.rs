//! `mirror set`.

use clap::Args;

use super::fields::{Clearable, Fields};
use crate::db::{Database, Error};
use crate::network::{BaseUrl, HostName};

/// What is to be other than it is.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which mirror
    name: HostName,
    /// Where it serves the tree, in place of all URLs it has; may be given several times
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<BaseUrl>,
    #[command(flatten)]
    fields: Fields,
    /// A field to empty, before others are filled; may be given several times
    #[arg(long, value_name = "FIELD")]
    clear: Vec<Clearable>,
}

impl Arguments {
    /// Changes the mirror; its name, and which fields are other than before.
    pub(super) fn run(
        self,
        database: &mut Database,
    ) -> Result<(HostName, Vec<&'static str>), Error> {
        let Self {
            name,
            urls,
            fields,
            clear,
        } = self;
        let changed = database.change_host(&name, |mut host| {
            for field in clear {
                field.clear(&mut host);
            }
            if !urls.is_empty() {
                host.urls = urls;
            }
            fields.apply(&mut host);
            host.accepted()
        })?;
        Ok((name, changed))
    }
}
