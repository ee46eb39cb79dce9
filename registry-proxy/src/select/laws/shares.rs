//! Clients are shared out by weight, in every tier and whatever the weights.

use std::collections::HashMap;

use super::*;

/// Puts a host into a tier for the clients below.
fn enter(host: &mut Host, tier: Tier) {
    let country = |code: &str| code.parse().ok();
    match tier {
        Tier::Netblock => host.netblocks = vec!["100.0.0.0/7".parse().unwrap()],
        Tier::Asn => host.peer_asns = vec![Asn(64500)],
        Tier::Country => host.country = country("DE"),
        Tier::Continent => host.country = country("FR"),
        Tier::Elsewhere => host.country = country("JP"),
    }
}

#[test]
fn clients_are_shared_out_by_weight() {
    let tiers = [
        Tier::Netblock,
        Tier::Asn,
        Tier::Country,
        Tier::Continent,
        Tier::Elsewhere,
    ];
    // Each has a tenth of the whole at least.
    let weights = [
        [100, 200, 400, 800, 1500_u32].map(|it| it + 350),
        [1, 1, 1, 1, 1],
        [1130, 1027, 4021, 1999, 1500],
        [20_000, 60_000, 25_000, 40_000, 21_000],
        [7, 11, 9, 6, 8],
    ];
    for (tier, mbits) in tiers.into_iter().zip(weights) {
        let total: u32 = mbits.iter().sum();
        let mut hosts: Vec<Host> = (0..)
            .zip(mbits)
            .map(|(number, mbit)| host(number, "", mbit.into()))
            .collect();
        for host in &mut hosts {
            enter(host, tier);
        }
        let network = Network::new(hosts);
        let mut first: HashMap<String, u32> = HashMap::new();
        // Neighbouring networks, as an operator hands them out: the hardest input for a weak hash.
        let clients = 60_000_u32;
        for number in 0..clients {
            let [_, a, b, c] = number.to_be_bytes();
            let mut client = client_in("DE", [100 + a, b, c, 1]);
            client.place.asn = Some(Asn(64500));
            let policy = Policy {
                min_mirrors: 5,
                limit: 1,
            };
            *first
                .entry(names(&network, &client, policy).remove(0))
                .or_default() += 1;
        }
        for (number, mbit) in mbits.iter().enumerate() {
            let share =
                f64::from(*first.get(&format!("m{number}")).unwrap_or(&0)) / f64::from(clients);
            let expected = f64::from(*mbit) / f64::from(total);
            assert!(
                (share / expected - 1.0).abs() < 0.05,
                "{tier}: m{number}: {share} instead of {expected}"
            );
        }
    }
}
