//! Weighted rendezvous hashing: a stable, stateless way to share clients out by weight.
//!
//! Each pair of client and host hashes to a number `u` between 0 and 1, and the host's score for the
//! client is `-ln(u) / weight`, an exponentially distributed time with the weight as its rate. The host
//! with the smallest score comes first: it wins with a probability equal to its share of the
//! weights, whoever else takes part, and the second is what the first would be without the winner.
//! The method is that of [Weighted HRW and its applications][draft].
//!
//! The hash is our own arithmetic so that every process, on any machine, gives the same order.
//!
//! [draft]: https://datatracker.ietf.org/doc/html/draft-ietf-bess-weighted-hrw

use std::net::IpAddr;

/// What stands for a client: its network, so that neighbours behind one resolver or NAT, and a phone
/// that changes its address, keep their mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey(u64);

/// What stands for a host: its name, which outlives a re-created database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostKey(u64);

impl ClientKey {
    /// The key of the /24 (IPv4) or /48 (IPv6) an address is in.
    pub fn of(address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => u64::from(u32::from(address) >> 8) | 1 << 63,
            // 48 bits, so the two families cannot meet.
            IpAddr::V6(address) => u64::try_from(u128::from(address) >> 80).unwrap_or_default(),
        };
        Self(mix(network))
    }

    /// Its bits, well mixed.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl HostKey {
    /// The key of the host called `name`.
    pub fn of(name: &str) -> Self {
        // FNV-1a, then mixed, since similar names must not give similar keys.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(mix(hash))
    }
}

/// How long `client` would wait for the host; the smallest comes first.
///
/// A weight of zero waits for ever.
pub fn score(client: ClientKey, host: HostKey, weight: f64) -> f64 {
    -unit(client, host).ln() / weight
}

/// A number that [`score`] is never below, found without a logarithm: enough to pass over nearly all
/// hosts of a large tier. `patience` is the reciprocal of the weight.
pub fn lower_bound(client: ClientKey, host: HostKey, patience: f64) -> f64 {
    // -ln(u) >= 1 - u; what rounding may add to the right side is taken off again, and more.
    (1.0 - unit(client, host)) * patience * (1.0 - 1e-9)
}

/// A number between 0 and 1, both excluded, so that its logarithm is finite and negative.
#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits fit the mantissa exactly"
)]
fn unit(client: ClientKey, host: HostKey) -> f64 {
    let hash = mix(client.0 ^ host.0.rotate_left(32));
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// A bijection in which every bit of the input changes every bit of the output with probability one half
/// (the finaliser of `SplitMix64`).
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(text: &str) -> ClientKey {
        ClientKey::of(text.parse().unwrap())
    }

    #[test]
    fn a_network_is_one_client() {
        assert_eq!(client("192.0.2.1"), client("192.0.2.255"));
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.9"));
        assert_ne!(client("192.0.2.1"), client("192.0.3.1"));
        assert_eq!(client("2001:db8:1:2::3"), client("2001:db8:1:ffff::"));
        assert_ne!(client("2001:db8:1::"), client("2001:db8:2::"));
    }

    /// Changing the arithmetic moves every client of every installation at once; if that is meant,
    /// this test is the place to say so.
    #[test]
    fn the_hash_is_what_it_was() {
        assert_eq!(HostKey::of("mirror.example").0, 0xc4ea_f2d6_5621_fec1);
        assert_eq!(client("192.0.2.1").0, 0x76e1_db95_d151_2832);
        let score = score(client("192.0.2.1"), HostKey::of("mirror.example"), 100.0);
        assert!((score - 0.008_506_033_669).abs() < 1e-11, "{score}");
    }

    proptest! {
        #[test]
        fn the_bound_is_never_above_the_score(client: u64, host: u64, weight in 1e-3_f64..1e7) {
            let (client, host) = (ClientKey(client), HostKey(host));
            prop_assert!(lower_bound(client, host, 1.0 / weight) <= score(client, host, weight));
        }
    }

    #[test]
    fn nothing_comes_last() {
        let (client, host) = (client("192.0.2.1"), HostKey::of("m"));
        assert!(score(client, host, 0.0).is_infinite());
        assert!(score(client, host, 1.0).is_finite());
    }
}
