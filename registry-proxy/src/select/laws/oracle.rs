//! The order, found the slow way: every host judged by itself, all sorted, and the list cut.

use std::cmp::Reverse;
use std::collections::HashSet;

use proptest::prelude::*;

use super::super::rank::{ClientKey, HostKey, score};
use super::*;
use crate::network::Kind;

/// Where a candidate stands, were there no others.
#[derive(Debug, Clone, PartialEq)]
struct Candidate {
    tier: Tier,
    /// The longest netblock around the client.
    netblock: Reverse<u8>,
    band: usize,
    score: f64,
    name: String,
    server: String,
}

fn candidate(host: &Host, holds: bool, client: &Client) -> Option<Candidate> {
    let here = client.place.country;
    let is_open = host.allowed_countries.is_empty()
        || here.is_some_and(|it| host.allowed_countries.contains(&it));
    let is_closed = here.is_some_and(|it| host.denied_countries.contains(&it));
    let fits = host.max_blob_size.is_none_or(|max| max >= SIZE);
    let is_used = host.standing().is_ok()
        && host.carries(&repo())
        && host.repository_failure(&repo()).is_none();
    if !(is_used && holds && fits && is_open && !is_closed) {
        return None;
    }
    let is_asked = !client.wanted.is_empty();
    let around = host.netblocks.iter();
    let longest = around
        .filter(|block| block.contains(&client.address) && !is_asked)
        .map(ipnet::IpNet::prefix_len)
        .max();
    let numbers = || host.asns.iter().chain(&host.peer_asns);
    let is_in_network = !is_asked
        && client
            .place
            .asn
            .is_some_and(|asn| numbers().any(|it| *it == asn));
    let countries: Vec<CountryCode> = if is_asked {
        client.wanted.iter().collect()
    } else {
        here.into_iter().collect()
    };
    let is_server = host.kind == Kind::Server;
    let is_in_country = is_server && host.country.is_some_and(|it| countries.contains(&it));
    let continents: HashSet<_> = countries.iter().filter_map(|it| it.continent()).collect();
    let continent = host.country.and_then(CountryCode::continent);
    let is_near = !is_server || continent.is_some_and(|it| continents.contains(&it));
    let tier = match () {
        () if longest.is_some() => Tier::Netblock,
        () if is_in_network => Tier::Asn,
        () if host.is_private() => return None,
        () if is_in_country => Tier::Country,
        () if is_near => Tier::Continent,
        () => Tier::Elsewhere,
    };
    let point = client.place.coordinates.filter(|_| !is_asked);
    let band = match (point, host.coordinates) {
        _ if tier < Tier::Continent => 0,
        (None, _) => 0,
        (Some(_), _) if !is_server => 2,
        (Some(_), None) => 5,
        (Some(point), Some(there)) => {
            let distance = point.distance_km(there);
            let borders = [500.0, 1000.0, 2000.0, 4000.0, 8000.0];
            borders.iter().filter(|border| distance > **border).count()
        }
    };
    Some(Candidate {
        tier,
        netblock: Reverse(longest.unwrap_or_default()),
        band,
        score: score(
            ClientKey::of(client.address),
            HostKey::of(host.name.as_str()),
            host.weight(),
        ),
        name: host.name.to_string(),
        server: host.download_url()?.to_string(),
    })
}

fn expected(
    hosts: &[Host],
    held: &HostSet,
    client: &Client,
    policy: Policy,
) -> Vec<(String, Tier)> {
    let mut candidates: Vec<Candidate> = (0..)
        .zip(hosts)
        .filter_map(|(number, host)| candidate(host, held.contains(HostPosition(number)), client))
        .collect();
    candidates.sort_by(|a, b| {
        let places = |it: &Candidate| (it.tier, it.netblock, it.band);
        places(a).cmp(&places(b)).then(a.score.total_cmp(&b.score))
    });
    let mut servers = HashSet::new();
    let mut list = Vec::new();
    for candidate in candidates {
        let room = match candidate.tier {
            Tier::Elsewhere => policy.min_mirrors.min(policy.limit),
            _ => policy.limit,
        };
        if list.len() < room && servers.insert(candidate.server) {
            list.push((candidate.name, candidate.tier));
        }
    }
    list
}

fn found(hosts: Vec<Host>, held: &HostSet, client: &Client, policy: Policy) -> Vec<(String, Tier)> {
    let network = Network::new(hosts);
    let order = network.order(client, &held_by(held, &repo()), policy);
    let named = |choice: Choice| (network.host(choice.host).name.to_string(), choice.tier);
    order.into_iter().map(named).collect()
}

proptest! {
    #[test]
    fn the_order_is_the_one_found_slowly(
        hosts in prop::collection::vec(any_host(), 0..40),
        held in prop::collection::vec(prop::bool::weighted(0.8), 40),
        client in any_client(),
        min_mirrors in 0_usize..8,
        limit in 0_usize..12,
    ) {
        let hosts = numbered(hosts);
        let held: HostSet = (0..40).map(HostPosition).filter(|host| held[host.index()]).collect();
        for policy in [Policy { min_mirrors, limit }, ALL] {
            let expected = expected(&hosts, &held, &client, policy);
            prop_assert_eq!(found(hosts.clone(), &held, &client, policy), expected);
        }
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter(
        hosts in prop::collection::vec(any_host(), 0..40).prop_map(numbered),
        shuffled in any::<prop::sample::Index>(),
        client in any_client(),
    ) {
        let everyone = HostSet::full(hosts.len());
        let mut others = hosts.clone();
        others.rotate_left(shuffled.index(hosts.len().max(1)));
        let half = others.len() / 2;
        others[..half].reverse();
        let policy = Policy { min_mirrors: 5, limit: 10 };
        prop_assert_eq!(found(hosts, &everyone, &client, policy), found(others, &everyone, &client, policy));
    }

    #[test]
    fn whoever_leaves_or_comes_moves_nobody_else(
        hosts in prop::collection::vec(any_host(), 1..40).prop_map(numbered),
        gone in any::<prop::sample::Index>(),
        client in any_client(),
    ) {
        let everyone = HostSet::full(hosts.len());
        let mut fewer = hosts.clone();
        let leaver = fewer.remove(gone.index(hosts.len()));
        // Another entry of its server may take its place.
        let server: HashSet<String> = hosts
            .iter()
            .filter(|host| host.download_url() == leaver.download_url())
            .map(|host| host.name.to_string())
            .collect();
        let others = |mut list: Vec<(String, Tier)>| {
            list.retain(|(name, _)| !server.contains(name));
            list
        };
        let before = others(found(hosts, &everyone, &client, ALL));
        prop_assert_eq!(before, others(found(fewer, &everyone, &client, ALL)));
    }
}
