//! `mirror explain`.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::Args;
use oci_mirror::digest::Digest;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::{Catalog, Tree};

use super::output::table;
use crate::config::Config;
use crate::db::Database;
use crate::geo::{Countries, Geo};
use crate::presence::HostSet;
use crate::select::{Client, Network, Policy, Wanted};
use crate::snapshot::MAX_MIRRORS;

/// For whom, and for what.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The client's address
    #[arg(long, value_name = "IP")]
    client: IpAddr,
    /// The blob it wants; without one, what mirrors hold is not asked
    #[arg(long, value_name = "DIGEST")]
    blob: Option<Digest>,
    /// The repository it is part of
    #[arg(long, value_name = "NAME")]
    repository: Option<RepoName>,
}

/// One line per mirror, those the client would be sent to first.
pub(super) fn text(
    arguments: &Arguments,
    _as_json: bool,
    database: &Database,
    config: &Config,
) -> Result<String> {
    let geo = Geo::open(&config.geoip)?;
    let client = Client {
        address: arguments.client,
        place: geo.locate(arguments.client),
        wanted: Countries::default(),
    };
    let hosts = database.hosts()?;
    let (verified, size) = match &arguments.blob {
        None => (HostSet::full(hosts.len()), None),
        Some(digest) => {
            let catalog = Tree::open(&config.tree).and_then(|tree| Catalog::load(&tree, None))?;
            let id = catalog
                .id(digest)
                .with_context(|| format!("the tree does not hold {digest}"))?;
            let verified = database.presence(&catalog, &hosts)?.of(id).clone();
            (verified, Some(catalog.blob(id).size))
        }
    };
    let network = Network::new(hosts);
    let policy = Policy {
        min_mirrors: config.redirect.min_mirrors,
        limit: MAX_MIRRORS,
    };
    let wanted = Wanted {
        verified: &verified,
        repository: arguments.repository.as_ref(),
        size,
    };
    let explained = network.explain(&client, &wanted, policy);

    let unknown = || "unknown".to_owned();
    let mut text = format!(
        "client {}: country {}, {}\n",
        client.address,
        client
            .place
            .country
            .map_or_else(unknown, |country| country.to_string()),
        client
            .place
            .asn
            .map_or_else(|| "AS unknown".to_owned(), |asn| asn.to_string()),
    );
    let mut rows = vec![
        ["RANK", "NAME", "TIER", "WEIGHT", "KM", "WHY NOT"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for entry in explained {
        let dash = || "-".to_owned();
        let (rank, tier, reason) = match &entry.taken {
            Ok(taken) => (
                taken.rank.to_string(),
                taken.tier.to_string(),
                String::new(),
            ),
            Err(reason) => (dash(), dash(), reason.to_string()),
        };
        rows.push(vec![
            rank,
            network.host(entry.host).name.to_string(),
            tier,
            format!("{:.0}", entry.weight),
            entry
                .distance_km
                .map_or_else(dash, |distance| format!("{distance:.0}")),
            reason,
        ]);
    }
    text.push_str(&table(&rows));
    Ok(text)
}
