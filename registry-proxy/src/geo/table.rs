//! A geographic database laid out flat: an address is found by one table and a short search.
//!
//! The search tree of the MaxMind format is made to be small on disk: a lookup follows a pointer for
//! each bit of the address and then parses a record. [`Table`] walks the tree once and keeps where each
//! run of addresses with the same record begins, and each distinct record parsed. Whatever a lookup
//! in the file would have found is found here, and where that would have failed there is nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maxminddb::{MaxMindDbError, Reader};

use super::Place;
use super::record::Record;

/// One database.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// What the records say; the continent is that of the record, not of our own table.
    places: Vec<Place>,
    v4: Runs<u32>,
    v6: Runs<u128>,
}

/// A run without a record.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Set in a run of IPv6 addresses that hold an IPv4 address after so many bits as the rest says: a file
/// enters 6to4, Teredo and the like by pointing at its tree of IPv4 addresses once more.
const HOLDS_V4: u32 = 1 << 31;

/// The bits before an IPv4 address in a tree for both families.
const V4_DEPTH: u8 = 96;

impl Table {
    /// Lays out a database. A tree with far more paths than nodes is not one that anybody has written.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, MaxMindDbError> {
        let reader = Reader::from_source(bytes)?;
        let metadata = reader.metadata();
        let tree = SearchTree {
            bytes,
            nodes: metadata.node_count,
            record_bits: metadata.record_size,
        };
        let mut walk = Walk {
            steps: 16 * u64::from(tree.nodes) + (1 << 16),
            tree,
            reader: &reader,
            numbers: HashMap::new(),
            places: Vec::new(),
        };
        let (v4, v6) = if metadata.ip_version == 4 {
            (walk.v4(0)?, Runs::new(Vec::new()))
        } else {
            let mut v4_root = 0;
            for _ in 0..V4_DEPTH {
                v4_root = walk
                    .tree
                    .children(v4_root)
                    .map_or(v4_root, |(zero, _)| zero);
            }
            (walk.v4(v4_root)?, walk.v6(v4_root)?)
        };
        let places = walk.places;
        Ok(Self { places, v4, v6 })
    }

    /// What runs of addresses say; each has the number of its place.
    pub(super) fn of_runs(places: Vec<Place>, v4: Vec<(u32, u32)>, v6: Vec<(u128, u32)>) -> Self {
        let (v4, v6) = (Runs::new(v4), Runs::new(v6));
        Self { places, v4, v6 }
    }

    /// What the database says of an address, which must not be a mapped one.
    pub(super) fn find(&self, address: IpAddr) -> Option<&Place> {
        let number = match address {
            IpAddr::V4(address) => self.v4.find(address.into()),
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                match self.v6.find(bits) {
                    NOWHERE => NOWHERE,
                    number if number & HOLDS_V4 == 0 => number,
                    number => self.v4.find(held(bits, number & !HOLDS_V4)),
                }
            }
        };
        self.places.get(number as usize)
    }
}

/// The IPv4 address that an IPv6 address holds after `depth` bits.
fn held(bits: u128, depth: u32) -> u32 {
    let after = bits.checked_shl(depth).unwrap_or_default();
    u32::try_from(after >> V4_DEPTH).unwrap_or_default()
}

/// Where each run of addresses begins, and the number of its place.
#[derive(Debug, Default)]
struct Runs<A> {
    /// Ascending, from zero on.
    starts: Vec<A>,
    places: Vec<u32>,
    /// For each value of the first 16 bits, the first run that begins with that or more.
    first: Vec<u32>,
}

/// An address as a number.
trait Bits: Copy + Ord {
    /// Its first 16 bits.
    fn first(self) -> usize;
}

impl Bits for u32 {
    fn first(self) -> usize {
        (self >> 16) as usize
    }
}

impl Bits for u128 {
    fn first(self) -> usize {
        (self >> 112) as usize
    }
}

impl<A: Bits> Runs<A> {
    fn new(runs: Vec<(A, u32)>) -> Self {
        let mut first = Vec::with_capacity((1 << 16) + 1);
        for (number, (start, _)) in (0..).zip(&runs) {
            first.resize(first.len().max(start.first() + 1), number);
        }
        first.resize((1 << 16) + 1, u32::try_from(runs.len()).unwrap_or(NOWHERE));
        let (starts, places) = runs.into_iter().unzip();
        Self {
            starts,
            places,
            first,
        }
    }

    /// The number of the place of an address.
    fn find(&self, address: A) -> u32 {
        let at = address.first();
        let (Some(&from), Some(&to)) = (self.first.get(at), self.first.get(at + 1)) else {
            return NOWHERE;
        };
        let near = &self.starts[from as usize..to as usize];
        let begun = from as usize + near.partition_point(|start| *start <= address);
        begun
            .checked_sub(1)
            .and_then(|run| self.places.get(run))
            .copied()
            .unwrap_or(NOWHERE)
    }
}

/// The binary tree at the beginning of a file.
#[derive(Debug, Clone, Copy)]
struct SearchTree<'a> {
    bytes: &'a [u8],
    nodes: u32,
    record_bits: u16,
}

impl SearchTree<'_> {
    /// Where a node leads for the next bit being 0 and 1; `None` for what is no node.
    fn children(&self, node: u32) -> Option<(u32, u32)> {
        if node >= self.nodes {
            return None;
        }
        let length = usize::from(self.record_bits) / 4;
        let at = (node as usize).checked_mul(length)?;
        let node = self.bytes.get(at..at.checked_add(length)?)?;
        let number = |high: u8, low: &[u8]| {
            low.iter().fold(u32::from(high), |number, byte| {
                number << 8 | u32::from(*byte)
            })
        };
        match length {
            6 | 8 => {
                let (zero, one) = node.split_at(length / 2);
                Some((number(0, zero), number(0, one)))
            }
            // The byte in the middle has the highest four bits of both.
            7 => {
                let both = node[3];
                Some((number(both >> 4, &node[..3]), number(both & 15, &node[4..])))
            }
            _ => None,
        }
    }
}

struct Walk<'a> {
    tree: SearchTree<'a>,
    reader: &'a Reader<&'a [u8]>,
    /// How many more nodes may be looked at.
    steps: u64,
    /// The number of the place at each pointer into the data.
    numbers: HashMap<u32, u32>,
    places: Vec<Place>,
}

impl Walk<'_> {
    fn v4(&mut self, root: u32) -> Result<Runs<u32>, MaxMindDbError> {
        let mut runs = Vec::new();
        let mut pending = vec![(root, 0_u32, 0_u8)];
        while let Some((node, address, depth)) = pending.pop() {
            match self.tree.children(node) {
                Some((zero, one)) if depth < 32 => {
                    self.step()?;
                    pending.push((one, address | 1 << (31 - depth), depth + 1));
                    pending.push((zero, address, depth + 1));
                }
                _ => {
                    let place = self.place(node, Ipv4Addr::from(address).into());
                    extend(&mut runs, address, place);
                }
            }
        }
        Ok(Runs::new(runs))
    }

    fn v6(&mut self, v4_root: u32) -> Result<Runs<u128>, MaxMindDbError> {
        let mut runs = Vec::new();
        let mut pending = vec![(0, 0_u128, 0_u8)];
        while let Some((node, address, depth)) = pending.pop() {
            match self.tree.children(node) {
                Some(_) if node == v4_root && depth <= V4_DEPTH => {
                    extend(&mut runs, address, HOLDS_V4 | u32::from(depth));
                }
                Some((zero, one)) if depth < 128 => {
                    self.step()?;
                    pending.push((one, address | 1 << (127 - depth), depth + 1));
                    pending.push((zero, address, depth + 1));
                }
                _ => {
                    let place = self.place(node, Ipv6Addr::from(address).into());
                    extend(&mut runs, address, place);
                }
            }
        }
        Ok(Runs::new(runs))
    }

    fn step(&mut self) -> Result<(), MaxMindDbError> {
        self.steps = self.steps.checked_sub(1).ok_or_else(|| {
            MaxMindDbError::invalid_database("the search tree has too many paths for its nodes")
        })?;
        Ok(())
    }

    /// The number of the place that `pointer` leads to, `address` being one that leads there.
    fn place(&mut self, pointer: u32, address: IpAddr) -> u32 {
        if pointer <= self.tree.nodes {
            return NOWHERE;
        }
        if let Some(number) = self.numbers.get(&pointer) {
            return *number;
        }
        let found = self.reader.lookup(address);
        let record = found.and_then(|found| found.decode::<Record<'_>>());
        let number = match record {
            Ok(Some(record)) => {
                self.places.push(record.place());
                // A number with the highest bit would mean something else.
                u32::try_from(self.places.len() - 1)
                    .ok()
                    .filter(|number| number & HOLDS_V4 == 0)
                    .unwrap_or(NOWHERE)
            }
            Ok(None) | Err(_) => NOWHERE,
        };
        self.numbers.insert(pointer, number);
        number
    }
}

/// Enters that from `start` on addresses are at `place`.
fn extend<A>(runs: &mut Vec<(A, u32)>, start: A, place: u32) {
    if runs.last().is_none_or(|(_, last)| *last != place) {
        runs.push((start, place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_from_its_first_address_to_its_last() {
        let runs = Runs::new(vec![
            (0_u32, 7),
            (0x0001_0005, 8),
            (0x0001_0009, 9),
            (0xffff_0000, 1),
        ]);
        for (address, place) in [
            (0, 7),
            (0x0001_0004, 7),
            (0x0001_0005, 8),
            (0x0001_0008, 8),
            (0x0001_0009, 9),
            (0xfffe_ffff, 9),
            (0xffff_0000, 1),
            (u32::MAX, 1),
        ] {
            assert_eq!(runs.find(address), place, "{address:x}");
        }
        assert_eq!(Runs::<u32>::new(Vec::new()).find(5), NOWHERE);
        assert_eq!(Runs::<u128>::default().find(5), NOWHERE);
    }

    #[test]
    fn an_address_held_by_another_is_taken_out() {
        let six_to_four = u128::from("2002:c000:201::".parse::<Ipv6Addr>().unwrap());
        assert_eq!(held(six_to_four, 16), 0xc000_0201);
        assert_eq!(held(0xc000_0201, 96), 0xc000_0201);
    }
}
