//! What must hold for every network and every client.

mod cases;
mod oracle;
mod shares;

use std::collections::HashSet;

use ipnet::IpNet;
use oci_mirror::reference::RepoName;
use proptest::prelude::*;

use super::order::{Choice, Client, Policy, Tier, Wanted};
use super::{Network, Reason};
use crate::geo::{Asn, Coordinates, Countries, CountryCode, Place};
use crate::network::{Bandwidth, Health, Host, HostId, Kind, NewHost, Switch, Visibility};
use crate::presence::{HostPosition, HostSet};

const ALL: Policy = Policy {
    min_mirrors: usize::MAX,
    limit: usize::MAX,
};
/// The size of every blob.
const SIZE: u64 = 1 << 20;

const COUNTRIES: [&str; 6] = ["DE", "FR", "PT", "US", "JP", "BR"];

fn repo() -> RepoName {
    "fedora/fedora".parse().unwrap()
}

fn host(number: u32, country: &str, mbit: u64) -> Host {
    let url = format!("https://m{number}.example");
    let mut new = NewHost::new(
        format!("m{number}").parse().unwrap(),
        vec![url.parse().unwrap()],
    );
    new.country = country.parse().ok();
    new.bandwidth = Bandwidth::from_mbit(mbit).unwrap();
    Host::new(HostId(number), new)
}

fn client_in(country: &str, address: [u8; 4]) -> Client {
    let place = country.parse().map(Place::in_country).unwrap_or_default();
    Client {
        address: address.into(),
        place,
        wanted: Countries::default(),
    }
}

/// A blob of `repository` that these hosts hold.
fn held_by<'a>(verified: &'a HostSet, repository: &'a RepoName) -> Wanted<'a> {
    Wanted {
        verified,
        repository: Some(repository),
        size: Some(SIZE),
    }
}

/// The order of all hosts of a network that all hold the blob.
fn names(network: &Network, client: &Client, policy: Policy) -> Vec<String> {
    let order = network.order(
        client,
        &held_by(&HostSet::full(network.hosts().len()), &repo()),
        policy,
    );
    order
        .iter()
        .map(|choice| network.host(choice.host).name.to_string())
        .collect()
}

prop_compose! {
    fn any_country()(choice in 0_usize..COUNTRIES.len() + 1) -> Option<CountryCode> {
        COUNTRIES.get(choice).map(|code| code.parse().unwrap())
    }
}

prop_compose! {
    fn any_point()(known: bool, latitude in -90.0..=90.0, longitude in -180.0..=180.0) -> Option<Coordinates> {
        Coordinates::new(latitude, longitude).filter(|_| known)
    }
}

prop_compose! {
    /// Hosts of every kind, in a world small enough that they meet the clients below.
    fn any_host()(
        country in any_country(),
        coordinates in any_point(),
        mbit in 1_u64..20_000,
        blocks in prop::collection::vec((0_u8..4, prop::sample::select(vec![8_u8, 16, 24, 32])), 0..3),
        asns in prop::collection::vec(1_u32..4, 0..2),
        peers in prop::collection::vec(1_u32..4, 0..2),
        private in prop::bool::weighted(0.2),
        state in 0_u8..12,
        globs in prop::option::weighted(0.2, prop::sample::select(vec!["fedora/*", "debian/**"])),
        allowed in prop::option::weighted(0.2, any_country()),
        denied in prop::option::weighted(0.2, any_country()),
        kind in prop::sample::select(vec![Kind::Server, Kind::Server, Kind::Server, Kind::Cdn]),
        max_blob_size in prop::option::weighted(0.2, prop::sample::select(vec![SIZE - 1, SIZE, SIZE + 1])),
        is_failing in prop::bool::weighted(0.1),
        excluded in prop::bool::weighted(0.1),
    ) -> Host {
        let mut host = host(0, "", mbit);
        host.kind = kind;
        host.max_blob_size = max_blob_size;
        if is_failing {
            host.failing_repositories = vec![(repo(), "it answers nothing".to_owned())];
        }
        if excluded {
            host.excluded_repositories = vec!["fedora/*".parse().unwrap()];
        }
        host.country = country;
        host.coordinates = coordinates;
        let block = |(third, length)| IpNet::new([192, 0, third, 1].into(), length).unwrap();
        host.netblocks = blocks.into_iter().map(block).collect();
        host.asns = asns.into_iter().map(Asn).collect();
        host.peer_asns = peers.into_iter().map(Asn).collect();
        host.visibility = if private { Visibility::Private } else { Visibility::Public };
        host.repositories = globs.iter().map(|glob| glob.parse().unwrap()).collect();
        host.allowed_countries = allowed.flatten().into_iter().collect();
        host.denied_countries = denied.flatten().into_iter().collect();
        match state {
            0 => host.admin = Switch::Disabled { reason: "test".into() },
            1 => host.health = Health::Failing { crawls: 1, reason: "test".into() },
            2 => host.health = Health::Quarantined { reason: "test".into() },
            3 => host.urls = vec!["rsync://m.example/x".parse().unwrap()],
            // Two entries of one server.
            4..6 => host.urls = vec![format!("https://shared{state}.example").parse().unwrap()],
            _ => {}
        }
        host
    }
}

prop_compose! {
    fn any_client()(
        country in any_country(),
        third in 0_u8..5,
        last: u8,
        asn in prop::option::of(1_u32..5),
        coordinates in any_point(),
        wanted in prop::option::weighted(0.3, prop::collection::vec(any_country(), 1..4)),
    ) -> Client {
        let place = country.map(Place::in_country).unwrap_or_default();
        let place = Place { asn: asn.map(Asn), coordinates, ..place };
        let wanted = wanted.into_iter().flatten().flatten().collect();
        Client { address: [192, 0, third, last].into(), place, wanted }
    }
}

/// Numbers the hosts, so that names and positions differ, and servers unless they are meant not to.
fn numbered(hosts: Vec<Host>) -> Vec<Host> {
    let number = |(number, host): (u32, Host)| {
        let name = format!("m{number}").parse().unwrap();
        let own = host.urls[0].as_str() == "https://m0.example";
        let url = format!("https://m{number}.example").parse().unwrap();
        Host {
            id: HostId(number),
            name,
            urls: if own { vec![url] } else { host.urls },
            ..host
        }
    };
    (0..).zip(hosts).map(number).collect()
}

fn network(hosts: Vec<Host>) -> Network {
    Network::new(numbered(hosts))
}

proptest! {
    #[test]
    fn the_order_is_lawful(
        hosts in prop::collection::vec(any_host(), 0..40),
        held in prop::collection::vec(any::<bool>(), 40),
        client in any_client(),
        min_mirrors in 0_usize..8,
        limit in 0_usize..12,
    ) {
        let network = network(hosts);
        let verified: HostSet = (0..40).map(HostPosition).filter(|host| held[host.index()]).collect();
        let policy = Policy { min_mirrors, limit };
        let repository = repo();
        let wanted = held_by(&verified, &repository);
        let order = network.order(&client, &wanted, policy);

        prop_assert_eq!(&order, &network.order(&client, &wanted, policy), "same input, same order");
        let distinct: HashSet<_> = order.iter().map(|choice| choice.host).collect();
        prop_assert_eq!(distinct.len(), order.len(), "nobody twice");
        prop_assert!(order.len() <= limit);
        prop_assert!(order.is_sorted_by_key(|choice| choice.tier), "nearer tiers first");
        for Choice { host: position, tier } in &order {
            let host = network.host(*position);
            prop_assert!(host.standing().is_ok() && host.carries(&repo()) && verified.contains(*position));
            let country = client.place.country;
            prop_assert!(country.is_none_or(|country| !host.denied_countries.contains(&country)));
            let allowed = &host.allowed_countries;
            prop_assert!(allowed.is_empty() || country.is_some_and(|country| allowed.contains(&country)));
            prop_assert!(!host.is_private() || *tier <= Tier::Asn, "private beyond its networks");
            prop_assert_eq!(network.tier(*position, &client), Some(*tier), "the tier is the first that fits");
        }
        let elsewhere = order.iter().filter(|choice| choice.tier == Tier::Elsewhere).count();
        prop_assert!(elsewhere == 0 || order.len() <= min_mirrors, "the far away only fill up");
        prop_assert!(network.order(&client, &wanted, ALL).starts_with(
            &order.iter().filter(|choice| choice.tier < Tier::Elsewhere).copied().collect::<Vec<_>>()),
            "a shorter list is the start of the longer one");
    }

    #[test]
    fn every_candidate_is_listed_when_there_is_room(
        hosts in prop::collection::vec(any_host(), 0..40),
        client in any_client(),
    ) {
        let network = network(hosts);
        let everyone = HostSet::full(network.hosts().len());
        let repository = repo();
        let wanted = held_by(&everyone, &repository);
        let order = network.order(&client, &wanted, ALL);
        let explained = network.explain(&client, &wanted, ALL);
        prop_assert_eq!(explained.len(), network.hosts().len(), "every host is explained");
        for (explanation, choice) in explained.iter().zip(&order) {
            prop_assert_eq!(explanation.host, choice.host);
            prop_assert!(explanation.rank.is_ok());
        }
        for left_out in &explained[order.len()..] {
            let full = matches!(left_out.rank, Ok(_) | Err(Reason::EnoughNearer | Reason::ListFull));
            prop_assert!(!full, "{:?} has no good reason to be left out", left_out);
        }
    }

    #[test]
    fn longer_netblocks_come_first(hosts in prop::collection::vec(any_host(), 0..40), client in any_client()) {
        let network = network(hosts);
        let order = network.order(&client, &held_by(&HostSet::full(40), &repo()), ALL);
        let longest = |choice: &Choice| {
            let blocks = network.host(choice.host).netblocks.iter();
            blocks.filter(|block| block.contains(&client.address)).map(IpNet::prefix_len).max().unwrap_or_default()
        };
        let lengths: Vec<u8> = order.iter().filter(|c| c.tier == Tier::Netblock).map(longest).collect();
        prop_assert!(lengths.is_sorted_by(|a, b| a >= b), "{:?}", lengths);
    }

    #[test]
    fn a_host_that_leaves_moves_only_its_own_clients(
        countries in prop::collection::vec((0_usize..6, 1_u64..5000), 2..20),
        gone: prop::sample::Index,
        third: u8,
    ) {
        let hosts: Vec<Host> =
            (0..).zip(&countries).map(|(number, (country, mbit))| host(number, COUNTRIES[*country], *mbit)).collect();
        let gone = gone.index(hosts.len());
        let mut fewer = hosts.clone();
        let leaver = fewer.remove(gone).name.to_string();
        let client = client_in("DE", [198, 18, third, 1]);
        let mut before = names(&Network::new(hosts), &client, ALL);
        before.retain(|name| *name != leaver);
        prop_assert_eq!(before, names(&Network::new(fewer), &client, ALL));
    }

    #[test]
    fn hosts_added_elsewhere_change_nothing_nearer(
        near in prop::collection::vec(1_u64..5000, 1..10),
        far in prop::collection::vec(1_u64..50_000, 1..20),
        third: u8,
    ) {
        let near: Vec<Host> = (0..).zip(near).map(|(number, mbit)| host(number, "DE", mbit)).collect();
        let mut all = near.clone();
        all.extend((100..).zip(far).map(|(number, mbit)| host(number, "JP", mbit)));
        let client = client_in("DE", [198, 18, third, 1]);
        let before = names(&Network::new(near), &client, ALL);
        prop_assert_eq!(&names(&Network::new(all), &client, ALL)[..before.len()], &before[..]);
    }
}
