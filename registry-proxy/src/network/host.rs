//! A mirror.

use ipnet::IpNet;
use oci_mirror::reference::RepoName;
use serde::{Deserialize, Serialize};

use super::standing::{Health, Inactive};
use super::{Bandwidth, BaseUrl, HostId, HostName, RepoGlob};
use crate::geo::{Asn, Coordinates, CountryCode};

/// Who may be sent to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visibility {
    /// Everybody.
    #[default]
    Public,
    /// Only clients in the host's netblocks and autonomous systems.
    Private,
}

/// What somebody says about a mirror when entering it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NewHost {
    /// Its name, unique in the network.
    pub name: HostName,
    /// Where it serves the tree. The first http or https URL is the one that is crawled and that
    /// clients are sent to.
    pub urls: Vec<BaseUrl>,
    /// The country it is in.
    #[serde(default)]
    pub country: Option<CountryCode>,
    /// Where exactly.
    #[serde(default)]
    pub coordinates: Option<Coordinates>,
    /// What it can send.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// Networks whose clients it serves first.
    #[serde(default)]
    pub netblocks: Vec<IpNet>,
    /// Autonomous systems it is in.
    #[serde(default)]
    pub asns: Vec<Asn>,
    /// Autonomous systems it is well connected to, treated as its own.
    #[serde(default)]
    pub peer_asns: Vec<Asn>,
    /// Who may be sent to it.
    #[serde(default)]
    pub visibility: Visibility,
    /// The repositories it carries; none means all.
    #[serde(default)]
    pub repositories: Vec<RepoGlob>,
    /// The only countries it serves; none means all.
    #[serde(default)]
    pub allowed_countries: Vec<CountryCode>,
    /// Countries it does not serve.
    #[serde(default)]
    pub denied_countries: Vec<CountryCode>,
}

impl NewHost {
    /// A public host of default bandwidth that carries everything, at an unknown place.
    pub fn new(name: HostName, urls: Vec<BaseUrl>) -> Self {
        Self {
            name,
            urls,
            country: None,
            coordinates: None,
            bandwidth: Bandwidth::default(),
            netblocks: Vec::new(),
            asns: Vec::new(),
            peer_asns: Vec::new(),
            visibility: Visibility::default(),
            repositories: Vec::new(),
            allowed_countries: Vec::new(),
            denied_countries: Vec::new(),
        }
    }
}

/// Whether an administrator wants a host used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Admin {
    /// Yes.
    #[default]
    Enabled,
    /// No.
    Disabled {
        /// Why; may be empty.
        reason: String,
    },
}

/// A mirror of the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// Its name.
    pub name: HostName,
    /// Where it serves the tree.
    pub urls: Vec<BaseUrl>,
    /// The country it is in.
    pub country: Option<CountryCode>,
    /// Where exactly.
    pub coordinates: Option<Coordinates>,
    /// What it can send.
    pub bandwidth: Bandwidth,
    /// Networks whose clients it serves first.
    pub netblocks: Vec<IpNet>,
    /// Autonomous systems it is in.
    pub asns: Vec<Asn>,
    /// Autonomous systems treated as its own.
    pub peer_asns: Vec<Asn>,
    /// Who may be sent to it.
    pub visibility: Visibility,
    /// The repositories it carries; none means all.
    pub repositories: Vec<RepoGlob>,
    /// The only countries it serves; none means all.
    pub allowed_countries: Vec<CountryCode>,
    /// Countries it does not serve.
    pub denied_countries: Vec<CountryCode>,
    /// Whether an administrator wants it used.
    pub admin: Admin,
    /// What the crawler found.
    pub health: Health,
}

impl Host {
    /// A host as it is when it has just been entered.
    pub fn new(id: HostId, new: NewHost) -> Self {
        Self {
            id,
            name: new.name,
            urls: new.urls,
            country: new.country,
            coordinates: new.coordinates,
            bandwidth: new.bandwidth,
            netblocks: new.netblocks,
            asns: new.asns,
            peer_asns: new.peer_asns,
            visibility: new.visibility,
            repositories: new.repositories,
            allowed_countries: new.allowed_countries,
            denied_countries: new.denied_countries,
            admin: Admin::Enabled,
            health: Health::Healthy,
        }
    }

    /// Whether the host is in use, and if not, why.
    pub fn standing(&self) -> Result<(), Inactive> {
        if let Admin::Disabled { reason } = &self.admin {
            return Err(Inactive::DisabledByAdmin {
                reason: reason.clone(),
            });
        }
        match &self.health {
            Health::Healthy => {}
            Health::Failing { crawls, reason } => {
                return Err(Inactive::Failing {
                    crawls: *crawls,
                    reason: reason.clone(),
                });
            }
            Health::Quarantined { reason } => {
                return Err(Inactive::Quarantined {
                    reason: reason.clone(),
                });
            }
        }
        self.download_url().map(|_| ()).ok_or(Inactive::NoHttpUrl)
    }

    /// The URL the crawler reads and clients are sent to: only what was verified may be handed out.
    pub fn download_url(&self) -> Option<&BaseUrl> {
        self.urls.iter().find(|url| url.is_http())
    }

    /// Whether only clients of its own networks may be sent to it.
    pub fn is_private(&self) -> bool {
        self.visibility == Visibility::Private
    }

    /// Whether it is meant to hold the content of `repository`.
    pub fn carries(&self, repository: &RepoName) -> bool {
        self.repositories.is_empty()
            || self
                .repositories
                .iter()
                .any(|glob| glob.matches(repository))
    }

    /// Its share of the load against other hosts of the same tier.
    pub fn weight(&self) -> f64 {
        f64::from(self.bandwidth.mbit()) * self.health.factor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let new = NewHost::new(
            "m".parse().unwrap(),
            vec!["https://m.example".parse().unwrap()],
        );
        Host::new(HostId(1), new)
    }

    #[test]
    fn each_reason_to_be_inactive_is_given() {
        assert_eq!(host().standing(), Ok(()));
        let disabled = Host {
            admin: Admin::Disabled {
                reason: "moving".into(),
            },
            ..host()
        };
        assert!(
            disabled
                .standing()
                .unwrap_err()
                .to_string()
                .contains("moving")
        );
        for health in [
            Health::Failing {
                crawls: 1,
                reason: "refused".into(),
            },
            Health::Failing {
                crawls: 4,
                reason: "refused".into(),
            },
            Health::Quarantined {
                reason: "refused".into(),
            },
        ] {
            let host = Host { health, ..host() };
            assert!(host.standing().unwrap_err().to_string().contains("refused"));
            assert!(host.weight() == 0.0);
        }
        let rsync_only = Host {
            urls: vec!["rsync://m.example/x".parse().unwrap()],
            ..host()
        };
        assert_eq!(rsync_only.standing(), Err(Inactive::NoHttpUrl));
    }

    #[test]
    fn clients_are_sent_to_the_first_url_they_can_use() {
        let urls = [
            "rsync://m.example/x",
            "http://m.example/1",
            "https://m.example/2",
        ];
        let host = Host {
            urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
            ..host()
        };
        assert_eq!(host.download_url().unwrap().as_str(), "http://m.example/1");
    }

    #[test]
    fn no_patterns_means_every_repository() {
        let name = "fedora/fedora".parse().unwrap();
        assert!(host().carries(&name));
        let picky = Host {
            repositories: vec!["debian/*".parse().unwrap()],
            ..host()
        };
        assert!(!picky.carries(&name));
    }
}
