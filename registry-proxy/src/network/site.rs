//! A site: an organisation with one or several hosts, and what is said of it when it is entered.

use serde::{Deserialize, Serialize};

use super::{AccountName, BaseUrl, HostName, Reason, SiteName, Switch};

/// What somebody says about a site when entering it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NewSite {
    /// Its name.
    pub name: SiteName,
    /// Where people can read about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<BaseUrl>,
    /// Why an administrator does not want its hosts used, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Reason>,
    /// Why its own people do not want them used, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_by_site: Option<Reason>,
}

impl NewSite {
    /// A site of which nothing is known but the name.
    pub fn new(name: SiteName) -> Self {
        Self {
            name,
            url: None,
            disabled: None,
            disabled_by_site: None,
        }
    }
}

/// A site of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// Where people can read about it.
    pub url: Option<BaseUrl>,
    /// Whether an administrator wants its hosts used.
    pub admin: Switch,
    /// Whether its own people want them used.
    pub own: Switch,
    /// Its hosts.
    pub mirrors: Vec<HostName>,
    /// Who looks after it.
    pub accounts: Vec<AccountName>,
}
