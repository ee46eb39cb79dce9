//! What must hold for every network and every client.

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

#[test]
fn nearer_bands_of_a_continent_come_first() {
    let at = |number, country: &str, point: &str| {
        let mut host = host(number, country, 100);
        host.coordinates = point.parse().ok();
        host
    };
    let hosts = vec![
        at(0, "FI", "60.17,24.94"),
        at(1, "ES", "40.42,-3.70"),
        at(2, "FR", "48.86,2.35"),
        host(3, "IT", 100_000),
        at(4, "US", "40.71,-74.01"),
        at(5, "AU", "-33.87,151.21"),
    ];
    let network = Network::new(hosts);
    for third in 0..50 {
        let mut client = client_in("PT", [198, 18, third, 1]);
        client.place.coordinates = "38.72,-9.14".parse().ok();
        assert_eq!(
            names(&network, &client, ALL),
            ["m1", "m2", "m0", "m3", "m4", "m5"]
        );
    }
}

#[test]
fn one_client_keeps_its_mirror_for_every_blob_of_a_pull() {
    let network = Network::new((0..20).map(|number| host(number, "DE", 1000)).collect());
    let one = names(&network, &client_in("DE", [198, 18, 7, 1]), ALL);
    let neighbour = names(&network, &client_in("DE", [198, 18, 7, 200]), ALL);
    assert_eq!(one, neighbour);
    assert_ne!(one, names(&network, &client_in("DE", [198, 18, 8, 1]), ALL));
}

#[test]
fn a_private_host_is_first_at_home_and_absent_elsewhere() {
    let mut home = host(0, "DE", 1);
    home.visibility = Visibility::Private;
    home.netblocks = vec!["198.18.7.0/24".parse().unwrap()];
    let network = Network::new(vec![home, host(1, "DE", 10_000)]);
    assert_eq!(
        names(&network, &client_in("DE", [198, 18, 7, 1]), ALL),
        ["m0", "m1"]
    );
    assert_eq!(
        names(&network, &client_in("DE", [198, 18, 8, 1]), ALL),
        ["m1"]
    );
    let explained = network.explain(
        &client_in("DE", [198, 18, 8, 1]),
        &held_by(&HostSet::full(2), &repo()),
        ALL,
    );
    assert_eq!(explained[1].rank, Err(Reason::Private));
}

#[test]
fn the_far_away_fill_up_to_the_minimum_only() {
    let mut hosts: Vec<Host> = (0..2).map(|number| host(number, "DE", 100)).collect();
    hosts.extend((2..20).map(|number| host(number, "JP", 100)));
    let network = Network::new(hosts);
    let policy = Policy {
        min_mirrors: 5,
        limit: 10,
    };
    assert_eq!(
        names(&network, &client_in("DE", [198, 18, 7, 1]), policy).len(),
        5
    );
    assert_eq!(
        names(&network, &client_in("JP", [198, 18, 7, 1]), policy).len(),
        10
    );
}

#[test]
fn a_delivery_network_is_behind_what_is_near_and_before_what_is_far() {
    let at = |number, country: &str, point: &str| {
        let mut host = host(number, country, 100);
        host.coordinates = point.parse().ok();
        host
    };
    let mut cdn = host(0, "US", 1);
    cdn.kind = Kind::Cdn;
    let hosts = vec![
        cdn,
        at(1, "ES", "40.42,-3.70"),
        at(2, "FI", "60.17,24.94"),
        at(3, "US", "40.71,-74.01"),
    ];
    let network = Network::new(hosts);
    let mut client = client_in("PT", [198, 18, 7, 1]);
    client.place.coordinates = "38.72,-9.14".parse().ok();
    assert_eq!(names(&network, &client, ALL), ["m1", "m0", "m2", "m3"]);
    // It is in no country, and near a client of whom nothing is known.
    let client = client_in("US", [198, 18, 7, 1]);
    assert_eq!(names(&network, &client, ALL)[..2], ["m3", "m0"]);
    let client = client_in("", [198, 18, 7, 1]);
    assert_eq!(names(&network, &client, ALL)[0], "m0");
}

#[test]
fn a_country_asked_for_comes_before_the_clients_own() {
    let mut home = host(0, "DE", 1000);
    home.netblocks = vec!["198.18.7.0/24".parse().unwrap()];
    let mut private = home.clone();
    private.name = "private".parse().unwrap();
    private.urls = vec!["https://private.example".parse().unwrap()];
    private.visibility = Visibility::Private;
    let mut picky = host(1, "JP", 10_000);
    picky.denied_countries = vec!["DE".parse().unwrap()];
    let hosts = vec![home, private, picky, host(2, "JP", 1), host(3, "BR", 1)];
    let network = Network::new(hosts);
    let mut client = client_in("DE", [198, 18, 7, 1]);
    let of = |codes: &[&str]| -> Countries {
        codes
            .iter()
            .map(|code| code.parse::<CountryCode>().unwrap())
            .collect()
    };
    client.wanted = of(&["JP"]);
    let names = |client: &Client| names(&network, client, ALL);
    assert_eq!(names(&client)[0], "m2");
    assert!(!names(&client).contains(&"private".to_owned()));
    assert!(!names(&client).contains(&"m1".to_owned()), "it denies DE");
    client.wanted = of(&["BR", "FR"]);
    // Nobody is in France, but one is on its continent.
    assert_eq!(names(&client)[..2], ["m3", "m0"]);
    client.wanted = of(&[]);
    assert_eq!(names(&client)[..2].len(), 2);
    assert!(names(&client).contains(&"private".to_owned()));
}

#[test]
fn two_entries_of_one_server_fill_one_place_of_the_list() {
    let mut hosts: Vec<Host> = (0..12).map(|number| host(number, "DE", 1000)).collect();
    for host in &mut hosts[..8] {
        host.urls = vec!["https://one.example".parse().unwrap()];
    }
    let network = Network::new(hosts);
    let policy = Policy {
        min_mirrors: 5,
        limit: 5,
    };
    for third in 0..50 {
        let client = client_in("DE", [198, 18, third, 1]);
        let everyone = HostSet::full(12);
        let repository = repo();
        let wanted = held_by(&everyone, &repository);
        let explained = network.explain(&client, &wanted, policy);
        let listed = explained.iter().filter(|it| it.rank.is_ok()).count();
        let same = |it: &&super::Explanation| matches!(it.rank, Err(Reason::SameServer { .. }));
        assert_eq!((listed, explained.iter().filter(same).count()), (5, 7));
    }
}
