//! `mirror explain`.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::Args;
use oci_mirror::digest::Digest;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::{Catalog, Tree, TreePath};
use serde::Serialize;

use super::output::table;
use crate::config::Config;
use crate::db::Database;
use crate::geo::{CountryCode, Geo, Sources};
use crate::presence::HostSet;
use crate::select::told::{About, Asker, Told};
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
    /// Countries whose mirrors it asks for, as by `?country=CC,CC`
    #[arg(long, value_name = "CC", value_delimiter = ',')]
    country: Vec<CountryCode>,
}

/// The same as `?mirrorlist` says, and private mirrors as well.
#[derive(Debug, Serialize)]
struct Explained<'a> {
    repository: Option<&'a RepoName>,
    digest: Option<Digest>,
    size: Option<u64>,
    client: Asker,
    #[serde(flatten)]
    told: Told,
}

/// All mirrors, those the client would be sent to first: one a line, or as JSON.
pub(super) fn text(
    arguments: &Arguments,
    as_json: bool,
    database: &Database,
    config: &Config,
) -> Result<String> {
    let geo = Geo::open(&Sources::from(config))?;
    let client = Client {
        address: arguments.client,
        place: geo.locate(arguments.client),
        wanted: arguments.country.iter().copied().collect(),
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

    let path = arguments.blob.map(TreePath::Blob);
    let explained = Explained {
        repository: arguments.repository.as_ref(),
        digest: arguments.blob,
        size,
        client: Asker::of(&client),
        told: Told::new(&network, explained, path.as_ref()),
    };
    if as_json {
        let json = serde_json::to_string_pretty(&explained)?;
        return Ok(format!("{json}\n"));
    }
    Ok(explained.text())
}

impl Explained<'_> {
    fn text(&self) -> String {
        let unknown = |what: &str| format!("{what} unknown");
        let Asker { country, asn, .. } = &self.client;
        let mut text = format!(
            "client {}: {}, {}\n",
            self.client
                .address
                .map_or_else(|| "unknown".to_owned(), |address| address.to_string()),
            country.map_or_else(|| unknown("country"), |code| format!("country {code}")),
            asn.map_or_else(|| unknown("AS"), |asn| asn.to_string()),
        );
        let mut rows = vec![
            ["RANK", "NAME", "TIER", "WEIGHT", "KM", "WHY NOT"]
                .map(str::to_owned)
                .to_vec(),
        ];
        let row = |rank: String, about: &About, why: &str| {
            let name = about.name.clone();
            let weight = format!("{:.0}", about.weight);
            let km = about.kilometres();
            vec![rank, name, about.tier(), weight, km, why.to_owned()]
        };
        let listed = self.told.mirrors.iter();
        rows.extend(listed.map(|it| row(it.rank.to_string(), &it.about, "")));
        let left_out = self.told.left_out.iter();
        rows.extend(left_out.map(|it| row("-".to_owned(), &it.about, &it.why)));
        text.push_str(&table(&rows));
        text
    }
}
