//! Files of lines `CIDR ASN`: which network announces a prefix, as tables of BGP routes are published.
//!
//! A longer prefix is cut out of the shorter ones around it once, when the file is read, so that a lookup
//! is what it is in any other table. Blank lines and those that begin with `#` say nothing;
//! what else is no such line refuses the file, since a table half read sends clients the wrong way.

use std::collections::HashMap;

use ipnet::IpNet;
use oci_mirror::excerpt::Excerpt;

use super::table::{NOWHERE, Table};
use super::{Asn, Place};

/// Longest line, in bytes: the longest prefix has 43, and some announce one from many networks.
pub const MAX_LINE: usize = 256;

/// Most prefixes; the Internet has 1.3 million.
pub const MAX_PREFIXES: usize = 8 << 20;

/// What is wrong with a file of prefixes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line is something else.
    #[error("line {number}: {text} is not a network and its number such as `192.0.2.0/24 64496`")]
    Line {
        /// Which line, from 1.
        number: usize,
        /// What stands there.
        text: Box<str>,
    },
    /// A line is too long.
    #[error("line {number} has more than {MAX_LINE} bytes")]
    LongLine {
        /// Which line, from 1.
        number: usize,
    },
    /// There are too many.
    #[error("it has more than {MAX_PREFIXES} prefixes")]
    TooMany,
}

/// A prefix: its first and its last address, and the number of its place.
type Prefix<A> = (A, A, u32);

/// Lays out the content of a file.
pub(super) fn table(bytes: &[u8]) -> Result<Table, Error> {
    let (mut v4, mut v6) = (Vec::<Prefix<u32>>::new(), Vec::<Prefix<u128>>::new());
    let mut numbers: HashMap<Asn, u32> = HashMap::new();
    let mut places = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.len() > MAX_LINE {
            return Err(Error::LongLine { number });
        }
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let (netblock, asn) = parse(line).ok_or_else(|| Error::Line {
            number,
            text: Excerpt(&String::from_utf8_lossy(line)).into(),
        })?;
        if v4.len() + v6.len() == MAX_PREFIXES {
            return Err(Error::TooMany);
        }
        let place = *numbers.entry(asn).or_insert_with(|| {
            places.push(Place {
                asn: Some(asn),
                ..Place::default()
            });
            // There are fewer than there are prefixes.
            u32::try_from(places.len() - 1).unwrap_or(NOWHERE)
        });
        match netblock {
            IpNet::V4(it) => v4.push((it.network().into(), it.broadcast().into(), place)),
            IpNet::V6(it) => v6.push((it.network().into(), it.broadcast().into(), place)),
        }
    }
    let v4 = flattened(v4, |last| last.checked_add(1));
    let v6 = flattened(v6, |last| last.checked_add(1));
    Ok(Table::of_runs(places, v4, v6))
}

/// A line's two fields.
fn parse(line: &[u8]) -> Option<(IpNet, Asn)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let (netblock, origin) = (fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    Some((netblock.parse().ok()?, first_of(origin)?))
}

/// The first network of `64496`, `AS64496`, `64496_64497` or `{64496,64497}`.
fn first_of(origin: &str) -> Option<Asn> {
    let inner = match origin.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => origin,
    };
    let mut all = inner.split(['_', ',']).map(str::parse);
    let first = all.next()?.ok()?;
    all.all(|asn: Result<Asn, _>| asn.is_ok()).then_some(first)
}

/// Where each run of addresses begins, and its place, that of the longest prefix around it; of two for the
/// same prefix, the first. `next` is the address after one, if there is any.
fn flattened<A: Copy + Ord>(
    mut prefixes: Vec<Prefix<A>>,
    next: impl Fn(A) -> Option<A>,
) -> Vec<(A, u32)> {
    // What contains others comes before them. The order is stable, so the first of the same stays first.
    prefixes.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    prefixes.dedup_by_key(|(first, last, _)| (*first, *last));
    let mut runs = Vec::new();
    let mut around: Vec<(A, u32)> = Vec::new();
    for (first, last, place) in prefixes {
        close(&mut runs, &mut around, &next, |end| end < first);
        begin(&mut runs, first, place);
        around.push((last, place));
    }
    close(&mut runs, &mut around, &next, |_| true);
    runs
}

/// Ends the innermost prefixes `while` they end before what comes.
fn close<A: Copy + PartialEq>(
    runs: &mut Vec<(A, u32)>,
    around: &mut Vec<(A, u32)>,
    next: impl Fn(A) -> Option<A>,
    ends: impl Fn(A) -> bool,
) {
    while let Some((last, _)) = around.pop_if(|(last, _)| ends(*last)) {
        let outer = around.last().map_or(NOWHERE, |(_, place)| *place);
        if let Some(after) = next(last) {
            begin(runs, after, outer);
        }
    }
}

/// Enters that from `start` on addresses are at `place`, whatever was said of it before.
fn begin<A: Copy + PartialEq>(runs: &mut Vec<(A, u32)>, start: A, place: u32) {
    runs.pop_if(|(known, _)| *known == start);
    if runs.last().is_none_or(|(_, last)| *last != place) {
        runs.push((start, place));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn found(text: &str, address: &str) -> Option<u32> {
        let table = table(text.as_bytes()).unwrap();
        let asn = table.find(address.parse().unwrap()).and_then(|it| it.asn);
        asn.map(|asn| asn.0)
    }

    #[test]
    fn the_longest_prefix_announces_an_address() {
        let text = "# routes\n\n10.0.0.0/8\t1\r\n10.1.0.0/16 AS2\n  10.1.2.0/24   3_4 \n\
                    10.1.2.0/24 9\n10.1.3.7/24 {5,6}\n255.255.255.255/32 as7\n2001:db8::/32 8";
        for (address, asn) in [
            ("9.255.255.255", None),
            ("10.0.0.0", Some(1)),
            ("10.1.0.0", Some(2)),
            ("10.1.2.0", Some(3)),
            ("10.1.2.255", Some(3)),
            ("10.1.3.0", Some(5)),
            ("10.1.4.0", Some(2)),
            ("10.2.0.0", Some(1)),
            ("11.0.0.0", None),
            ("255.255.255.255", Some(7)),
            ("2001:db8:ffff::", Some(8)),
            ("2001:db9::", None),
        ] {
            assert_eq!(found(text, address), asn, "{address}");
        }
    }

    #[test]
    fn any_other_line_refuses_the_file_by_its_number() {
        for line in [
            "192.0.2.0/24",
            "192.0.2.0 1",
            "192.0.2.0/33 1",
            "192.0.2.0/24 1 2",
            "192.0.2.0/24,1",
            "192.0.2.0/24 {1",
            "192.0.2.0/24 1_",
            "192.0.2.0/24 4294967296",
            "192.0.2.0/24 1_x",
            "MZ\u{0}",
        ] {
            let error = table(format!("10.0.0.0/8 1\n\n{line}\n").as_bytes()).err();
            let Some(Error::Line { number: 3, .. }) = error else {
                panic!("{line}: {error:?}");
            };
        }
        let long = format!("# {}\n", "x".repeat(MAX_LINE));
        assert_eq!(
            table(long.as_bytes()).err(),
            Some(Error::LongLine { number: 1 })
        );
        assert!(table(b"10.0.0.0/8 \xff").is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            blocks in prop::collection::vec((any::<[u8; 4]>(), 0_u8..=32, 1_u32..6), 0..40),
            near: prop::sample::Index,
            offset in -1_i64..=1,
        ) {
            // All within one /24 half of the time, so that they contain each other.
            let blocks: Vec<(IpNet, u32)> = blocks.into_iter().map(|(mut address, length, asn)| {
                if address[0] < 128 {
                    address[..3].copy_from_slice(&[192, 0, 2]);
                }
                (IpNet::new(address.into(), length).unwrap().trunc(), asn)
            }).collect();
            let lines: Vec<String> = blocks.iter().map(|(block, asn)| format!("{block} {asn}")).collect();
            let table = table(lines.join("\n").as_bytes()).unwrap();
            let borders: Vec<IpAddr> = blocks
                .iter()
                .flat_map(|(block, _)| [block.network(), block.broadcast()])
                .chain(["192.0.2.1".parse().unwrap()])
                .collect();
            let IpAddr::V4(border) = borders[near.index(borders.len())] else { unreachable!() };
            let number = (i64::from(u32::from(border)) + offset).rem_euclid(1 << 32);
            let address = std::net::Ipv4Addr::from(u32::try_from(number).unwrap()).into();
            let longest = blocks
                .iter()
                .filter(|(block, _)| block.contains(&address))
                .rev()
                .max_by_key(|(block, _)| block.prefix_len());
            let found = table.find(address).and_then(|place| place.asn);
            prop_assert_eq!(found, longest.map(|(_, asn)| Asn(*asn)));
        }
    }
}
