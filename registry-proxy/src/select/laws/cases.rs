//! Networks small enough to say who comes first.

use super::*;
use crate::select::Explanation;

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
        let same = |it: &&Explanation| matches!(it.rank, Err(Reason::SameServer { .. }));
        assert_eq!((listed, explained.iter().filter(same).count()), (5, 7));
    }
}
