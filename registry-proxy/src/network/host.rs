//! A mirror.

use ipnet::IpNet;
use oci_mirror::reference::RepoName;
use serde::{Deserialize, Serialize};

use super::glob::{self, RepoGlob};
use super::standing::{Health, Inactive};
use super::{Bandwidth, BaseUrl, HostId, HostName, Kind, NewHost, SiteName, Switch};
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
    /// The site it belongs to.
    pub site: SiteName,
    /// What it is.
    pub kind: Kind,
    /// The length of the largest blob it may be asked for.
    pub max_blob_size: Option<u64>,
    /// Of the repositories it carries, those it does not.
    pub excluded_repositories: Vec<RepoGlob>,
    /// Whether an administrator wants it used.
    pub admin: Switch,
    /// Whether its own people want it used.
    pub own: Switch,
    /// Whether an administrator wants its site used.
    pub site_admin: Switch,
    /// Whether its own people want their site used.
    pub site_own: Switch,
    /// What the crawler found.
    pub health: Health,
    /// Repositories that could not be crawled there, with what was wrong: the host is not used for them.
    pub failing_repositories: Vec<(RepoName, String)>,
}

impl Host {
    /// A host as it is when it has just been entered.
    pub fn new(id: HostId, new: NewHost) -> Self {
        let site = new.site.unwrap_or_else(|| SiteName::from(&new.name));
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
            site,
            kind: new.kind,
            max_blob_size: new.max_blob_size.map(|size| size.0),
            excluded_repositories: new.excluded_repositories,
            admin: new.disabled.into(),
            own: new.disabled_by_site.into(),
            site_admin: Switch::Enabled,
            site_own: Switch::Enabled,
            health: Health::Healthy,
            failing_repositories: Vec::new(),
        }
    }

    /// All that speaks against using the host, in the order of [`Inactive`].
    pub fn objections(&self) -> Vec<Inactive> {
        let site = || self.site.clone();
        let off = |switch: &Switch, objection: &dyn Fn(String) -> Inactive| {
            switch.reason().map(|reason| objection(reason.to_owned()))
        };
        let health = match &self.health {
            Health::Healthy => None,
            Health::Failing { crawls, reason } => Some(Inactive::Failing {
                crawls: *crawls,
                reason: reason.clone(),
            }),
            Health::Quarantined { reason } => Some(Inactive::Quarantined {
                reason: reason.clone(),
            }),
        };
        let objections = [
            off(&self.site_admin, &|reason| Inactive::SiteDisabled {
                site: site(),
                reason,
            }),
            off(&self.admin, &|reason| Inactive::DisabledByAdmin { reason }),
            off(&self.site_own, &|reason| Inactive::SiteDisabledBySite {
                site: site(),
                reason,
            }),
            off(&self.own, &|reason| Inactive::DisabledBySite { reason }),
            health,
            self.download_url().is_none().then_some(Inactive::NoHttpUrl),
        ];
        objections.into_iter().flatten().collect()
    }

    /// Whether the host is in use, and if not, the first objection.
    pub fn standing(&self) -> Result<(), Inactive> {
        self.objections().into_iter().next().map_or(Ok(()), Err)
    }

    /// Whether nobody switched it off: then it is crawled, whatever was found last.
    pub fn is_wanted(&self) -> bool {
        !self.objections().iter().any(Inactive::is_intended)
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
        glob::are_for(&self.repositories, &self.excluded_repositories, repository)
    }

    /// What was wrong with `repository` there, if it is not used for it.
    pub fn repository_failure(&self, repository: &RepoName) -> Option<&str> {
        let mut failing = self.failing_repositories.iter();
        failing
            .find(|(name, _)| name == repository)
            .map(|(_, reason)| &**reason)
    }

    /// Its share of the load against other hosts of the same tier.
    pub fn weight(&self) -> f64 {
        f64::from(self.bandwidth.mbit()) * self.health.factor()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        let off = || Switch::from(Some("moving".to_owned()));
        for disabled in [
            Host {
                admin: off(),
                ..host()
            },
            Host {
                own: off(),
                ..host()
            },
            Host {
                site_admin: off(),
                ..host()
            },
            Host {
                site_own: off(),
                ..host()
            },
        ] {
            assert!(!disabled.is_wanted());
            let reason = disabled.standing().unwrap_err().to_string();
            assert!(reason.ends_with(": moving"), "{reason}");
        }
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
            assert!(
                host.is_wanted(),
                "else nobody would find out that it is well again"
            );
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
    fn all_objections_are_given_in_their_order() {
        let all = Host {
            admin: Switch::from(Some(String::new())),
            own: Switch::from(Some(String::new())),
            site_admin: Switch::from(Some(String::new())),
            site_own: Switch::from(Some(String::new())),
            health: Health::Quarantined { reason: "x".into() },
            urls: Vec::new(),
            ..host()
        };
        let said: Vec<_> = all.objections().iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "site m disabled by an administrator",
                "disabled by an administrator",
                "site m disabled by its own people",
                "disabled by its own people",
                "quarantined: x",
                "it has no http or https URL"
            ]
        );
        assert_eq!(all.standing().unwrap_err(), all.objections()[0]);
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
        let all_but_one = Host {
            excluded_repositories: vec!["fedora/*".parse().unwrap()],
            ..host()
        };
        assert!(!all_but_one.carries(&name));
        assert!(all_but_one.carries(&"debian/base".parse().unwrap()));
    }

    fn switch() -> impl Strategy<Value = Switch> {
        prop::option::of("[a-z]{0,4}").prop_map(|reason: Option<String>| Switch::from(reason))
    }

    prop_compose! {
        fn any_host()(
            (admin, own, site_admin, site_own) in (switch(), switch(), switch(), switch()),
            state in 0..3,
            crawls in 1..6_u32,
            is_http in any::<bool>(),
        ) -> Host {
            let reason = "x".to_owned();
            let health = match state {
                0 => Health::Healthy,
                1 => Health::Failing { crawls, reason },
                _ => Health::Quarantined { reason },
            };
            let url = if is_http { "https://m.example" } else { "rsync://m.example/x" };
            let urls = vec![url.parse().unwrap()];
            Host { urls, admin, own, site_admin, site_own, health, ..host() }
        }
    }

    proptest! {
        #[test]
        fn a_host_is_in_use_if_nothing_speaks_against_it(host in any_host()) {
            let objections = host.objections();
            prop_assert_eq!(host.standing().is_ok(), objections.is_empty());
            prop_assert_eq!(host.standing().err(), objections.first().cloned());
            let switches = [&host.admin, &host.own, &host.site_admin, &host.site_own];
            let off = switches.iter().filter(|switch| switch.reason().is_some()).count();
            prop_assert_eq!(host.is_wanted(), off == 0);
            let broken = usize::from(host.health != Health::Healthy);
            let unusable = usize::from(host.download_url().is_none());
            prop_assert_eq!(objections.len(), off + broken + unusable);
        }

        #[test]
        fn what_was_entered_is_known_again(host in any_host()) {
            let new = NewHost { site: None, ..NewHost::from(&host) };
            let entered = Host::new(host.id, new);
            let healthy = Host {
                site_admin: Switch::Enabled,
                site_own: Switch::Enabled,
                health: Health::Healthy,
                ..host
            };
            prop_assert_eq!(entered, healthy);
        }
    }
}
