//! Which blobs of a host are read this time, which part of them, and as whom.
//!
//! Pure: chance comes from a seed. In this order, as far as the bytes reach: blobs that were damaged and
//! those that may be; blobs of which nothing was ever read; in quarantine, those that were not read since
//! it began; those that clients ask for most; any. No blob twice.

use std::collections::HashSet;

use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::pieces;

use super::super::identity::Identity;
use super::super::visit::Depth;

/// Of so many readings of a host, one is made as a browser.
const BROWSER_SHARE: u64 = 4;

/// What may be chosen from.
#[derive(Debug)]
pub struct Choice<'a> {
    /// Blobs that were damaged: they are read whatever it costs.
    pub damaged: &'a [BlobId],
    /// Blobs that may be damaged.
    pub suspects: &'a [BlobId],
    /// Blobs of which nothing was ever read.
    pub new: &'a [BlobId],
    /// Blobs to be read whole before others, as only that ends a quarantine.
    pub unread: &'a [BlobId],
    /// What clients ask for most.
    pub popular: &'a [BlobId],
    /// All that is there.
    pub present: &'a [BlobId],
    /// How many bytes may be read.
    pub budget: u64,
    /// How thorough to be.
    pub depth: Depth,
    /// What chance is made of.
    pub seed: u64,
}

/// One blob to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Which.
    pub id: BlobId,
    /// How much of it.
    pub part: Part,
    /// As whom.
    pub by: By,
}

/// How much of a blob is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All.
    Whole,
    /// The piece with this number.
    Piece(u64),
}

/// As whom a blob is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// As one.
    One(Identity),
    /// As each, one after the other.
    Both,
}

impl By {
    /// The identities, in their order.
    pub const fn identities(self) -> &'static [Identity] {
        match self {
            Self::One(Identity::Crawler) => &[Identity::Crawler],
            Self::One(Identity::Browser) => &[Identity::Browser],
            Self::Both => &[Identity::Browser, Identity::Crawler],
        }
    }
}

impl Part {
    /// How many bytes of a blob of `size` bytes that are.
    pub const fn bytes(self, size: u64) -> u64 {
        let (Self::Piece(number), Some(length)) = (self, pieces::length_for(size)) else {
            return size;
        };
        let rest = size.saturating_sub(number.saturating_mul(length));
        if rest < length { rest } else { length }
    }
}

impl Reading {
    /// How many bytes it takes of a blob of `size` bytes.
    pub const fn cost(&self, size: u64) -> u64 {
        let times = self.by.identities().len() as u64;
        self.part.bytes(size).saturating_mul(times)
    }
}

/// Chooses; `size` says how long a blob is.
pub fn choose(choice: &Choice<'_>, size: impl Fn(BlobId) -> u64) -> Vec<Reading> {
    let mut chosen = Chosen {
        size,
        chance: Chance::new(choice.seed),
        left: choice.budget,
        met: HashSet::new(),
        readings: Vec::new(),
    };
    for &id in choice.damaged {
        chosen.take(id, Part::Whole, By::Both);
    }
    if choice.depth == Depth::Full {
        for &id in choice.suspects {
            chosen.take(id, Part::Whole, By::Both);
        }
        for &id in choice.present {
            let by = chosen.turn();
            chosen.take(id, Part::Whole, by);
        }
        return chosen.readings;
    }
    for &id in choice.suspects {
        if !chosen.try_take(id, Part::Whole, By::Both) {
            chosen.sample(id, By::Both);
        }
    }
    if choice.depth != Depth::Check {
        let popular: HashSet<BlobId> = choice.popular.iter().copied().collect();
        let (first, then) = choice.new.iter().partition(|id| popular.contains(id));
        chosen.sample_all(first);
        chosen.sample_all(then);
        for id in chosen.chance.shuffled(choice.unread.to_vec()) {
            let by = chosen.turn();
            chosen.try_take(id, Part::Whole, by);
        }
        chosen.sample_all(choice.popular.to_vec());
        chosen.sample_all(choice.present.to_vec());
    }
    if chosen.readings.is_empty() {
        // However little may be read: without one reading nothing is known at all.
        let from = [choice.suspects, choice.new, choice.present];
        if let Some(from) = from.into_iter().find(|from| !from.is_empty()) {
            let id = from[chosen.chance.index(from.len())];
            let (part, by) = (chosen.random_part(id), chosen.turn());
            chosen.take(id, part, by);
        }
    }
    chosen.readings
}

/// What was chosen so far.
struct Chosen<S> {
    size: S,
    chance: Chance,
    left: u64,
    met: HashSet<BlobId>,
    readings: Vec<Reading>,
}

impl<S: Fn(BlobId) -> u64> Chosen<S> {
    /// Whose turn it is: the first reading of each four is made as a browser.
    fn turn(&self) -> By {
        let is_browsers = (self.readings.len() as u64).is_multiple_of(BROWSER_SHARE);
        By::One(if is_browsers {
            Identity::Browser
        } else {
            Identity::Crawler
        })
    }

    /// A piece of it; all of it if it has none.
    fn random_part(&mut self, id: BlobId) -> Part {
        match pieces::count_for((self.size)(id)) {
            0 => Part::Whole,
            count => Part::Piece(self.chance.below(count)),
        }
    }

    /// Takes it whatever it costs, unless it was taken.
    fn take(&mut self, id: BlobId, part: Part, by: By) {
        if self.met.insert(id) {
            let reading = Reading { id, part, by };
            self.left = self.left.saturating_sub(reading.cost((self.size)(id)));
            self.readings.push(reading);
        }
    }

    /// Takes it if there are bytes left for it; whether it is taken, now or before.
    fn try_take(&mut self, id: BlobId, part: Part, by: By) -> bool {
        if self.met.contains(&id) {
            return true;
        }
        let fits = Reading { id, part, by }.cost((self.size)(id)) <= self.left;
        if fits {
            self.take(id, part, by);
        }
        fits
    }

    fn sample(&mut self, id: BlobId, by: By) {
        let part = self.random_part(id);
        self.try_take(id, part, by);
    }

    fn sample_all(&mut self, ids: Vec<BlobId>) {
        for id in self.chance.shuffled(ids) {
            if self.left == 0 {
                return;
            }
            let by = self.turn();
            self.sample(id, by);
        }
    }
}

/// Numbers by chance: `SplitMix64`.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The numbers that follow from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of the numbers below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The upper half of the product; the bias is far below what anybody could see.
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    fn shuffled(&mut self, mut ids: Vec<BlobId>) -> Vec<BlobId> {
        for end in (1..ids.len()).rev() {
            ids.swap(end, self.index(end + 1));
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn ids(numbers: impl IntoIterator<Item = u32>) -> Vec<BlobId> {
        numbers.into_iter().map(BlobId).collect()
    }

    fn choice(present: &[BlobId], budget: u64) -> Choice<'_> {
        Choice {
            damaged: &[],
            suspects: &[],
            new: &[],
            unread: &[],
            popular: &[],
            present,
            budget,
            depth: Depth::Incremental,
            seed: 1,
        }
    }

    #[test]
    fn what_was_never_read_comes_before_what_was_and_what_is_popular_before_that() {
        let present = ids(0..100);
        let (new, popular) = (ids(50..60), ids([3, 55]));
        let choice = Choice {
            new: &new,
            popular: &popular,
            ..choice(&present, 13 * 10)
        };
        let readings = choose(&choice, |_| 10);
        let order: Vec<u32> = readings.iter().map(|reading| reading.id.0).collect();
        assert_eq!(order.len(), 13);
        assert_eq!(order[0], 55);
        let mut then = order[1..10].to_vec();
        then.sort_unstable();
        assert_eq!(then, [50, 51, 52, 53, 54, 56, 57, 58, 59]);
        assert_eq!(order[10], 3);
    }

    #[test]
    fn of_a_large_blob_a_piece_is_read_and_of_a_small_one_all() {
        let present = ids(0..3);
        let sizes = [MIB, MIB + 1, 5000 * MIB];
        let size = |id: BlobId| sizes[id.index()];
        let readings = choose(&choice(&present, 100 * MIB), size);
        assert_eq!(readings.len(), 3);
        for reading in &readings {
            match (reading.id.0, reading.part) {
                (0, Part::Whole) => {}
                (1, Part::Piece(number)) => assert!(number < 2),
                (2, Part::Piece(number)) => assert!(number < 313),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(Part::Piece(1).bytes(MIB + 1), 1);
        assert_eq!(Part::Piece(312).bytes(5000 * MIB), 8 * MIB);
    }

    #[test]
    fn a_full_reading_is_of_all_bytes_whatever_the_budget() {
        let present = ids(0..9);
        let choice = Choice {
            damaged: &ids([4]),
            depth: Depth::Full,
            ..choice(&present, 0)
        };
        let readings = choose(&choice, |_| 5000 * MIB);
        assert_eq!(readings.len(), 9);
        assert!(readings.iter().all(|reading| reading.part == Part::Whole));
        assert_eq!((readings[0].id, readings[0].by), (BlobId(4), By::Both));
    }

    #[test]
    fn a_check_is_of_what_is_in_doubt_and_of_nothing_else() {
        let present = ids(0..9);
        let choice = Choice {
            suspects: &ids([4, 5]),
            depth: Depth::Check,
            ..choice(&present, MIB)
        };
        let readings = choose(&choice, |_| 10);
        assert_eq!(readings.len(), 2);
        assert!(readings.iter().all(|reading| reading.by == By::Both));
    }

    #[test]
    fn every_piece_and_every_blob_has_its_chance() {
        let present = ids(0..10);
        let mut seen = HashSet::new();
        for seed in 0..400 {
            let choice = Choice {
                seed,
                ..choice(&present, MIB)
            };
            let readings = choose(&choice, |_| 4 * MIB);
            assert_eq!(readings.len(), 1);
            seen.insert((readings[0].id, format!("{:?}", readings[0].part)));
        }
        assert_eq!(seen.len(), 40);
    }

    proptest! {
        #[test]
        fn the_budget_is_kept_nothing_comes_twice_and_what_was_damaged_is_there(
            sizes in prop::collection::vec(0..8 * MIB, 1..60),
            picks in prop::collection::vec(0..60_u32, 0..20),
            budget in 0..40 * MIB,
            seed: u64,
        ) {
            let count = u32::try_from(sizes.len()).unwrap();
            let picks = ids(picks.into_iter().map(|pick| pick % count));
            let (damaged, rest) = picks.split_at(picks.len() / 4);
            let (suspects, rest) = rest.split_at(rest.len() / 3);
            let (new, popular) = rest.split_at(rest.len() / 2);
            let present = ids(0..count);
            let size = |id: BlobId| sizes[id.index()];
            let choice = Choice {
                damaged, suspects, new, popular, budget, seed,
                ..choice(&present, budget)
            };
            let readings = choose(&choice, size);
            prop_assert!(!readings.is_empty());
            prop_assert_eq!(&readings, &choose(&choice, size), "it follows from the seed");
            let met: HashSet<_> = readings.iter().map(|reading| reading.id).collect();
            prop_assert_eq!(met.len(), readings.len());
            for id in damaged {
                let whole = |r: &&Reading| r.id == *id && r.part == Part::Whole && r.by == By::Both;
                prop_assert!(readings.iter().any(|reading| whole(&reading)));
            }
            let is_damaged = |reading: &Reading| damaged.contains(&reading.id);
            let cost = |reading: &Reading| reading.cost(size(reading.id));
            let must: u64 = readings.iter().filter(|r| is_damaged(r)).map(cost).sum();
            let all: u64 = readings.iter().map(cost).sum();
            // One is read even if there is no room for it.
            prop_assert!(all <= budget.max(must) || readings.len() == 1);
            let free = readings.len() - met.intersection(&damaged.iter().copied().collect()).count();
            let browser = readings.iter().filter(|r| r.by != By::One(Identity::Crawler)).count();
            prop_assert!(browser * 4 + damaged.len() * 4 >= free);
        }
    }
}
