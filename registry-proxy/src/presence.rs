//! Which hosts were verified to hold which blob, looked up in two array reads.
//!
//! Mirrors of one tree hold nearly the same, so there are few distinct sets of hosts however many
//! blobs there are. [`Presence`] therefore keeps the distinct sets once, and for each blob the number
//! of its set: 4 bytes a blob. It is built by splitting the sets host by host, so the sets are never
//! compared with each other.

use oci_mirror::tree::catalog::BlobId;

/// The position of a host in the list a snapshot was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPosition(pub u32);

impl HostPosition {
    /// The position as the index of a table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct HostSet {
    words: Box<[u64]>,
}

impl HostSet {
    /// The empty set, with room for `hosts` hosts.
    pub fn new(hosts: usize) -> Self {
        Self {
            words: vec![0; hosts.div_ceil(64)].into_boxed_slice(),
        }
    }

    /// The set of the first `hosts` hosts.
    pub fn full(hosts: usize) -> Self {
        let mut set = Self::new(hosts);
        for position in 0..hosts {
            set.words[position / 64] |= 1 << (position % 64);
        }
        set
    }

    /// Adds a host; one beyond the set's room is ignored.
    pub fn insert(&mut self, host: HostPosition) {
        if let Some(word) = self.words.get_mut(host.index() / 64) {
            *word |= 1 << (host.index() % 64);
        }
    }

    /// Removes a host.
    pub fn remove(&mut self, host: HostPosition) {
        if let Some(word) = self.words.get_mut(host.index() / 64) {
            *word &= !(1 << (host.index() % 64));
        }
    }

    /// Whether the host is in the set.
    pub fn contains(&self, host: HostPosition) -> bool {
        let word = self
            .words
            .get(host.index() / 64)
            .copied()
            .unwrap_or_default();
        word >> (host.index() % 64) & 1 == 1
    }

    /// Whether no host is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many hosts are in the set.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Keeps only the hosts that are also in `other`.
    pub fn intersect(&mut self, other: &Self) {
        for (position, word) in self.words.iter_mut().enumerate() {
            *word &= other.words.get(position).copied().unwrap_or_default();
        }
    }

    /// Adds the hosts of `other`, as far as there is room.
    pub fn union(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// The hosts in both sets, in order.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = HostPosition> + 'a {
        bits(self.words.iter().zip(&other.words).map(|(a, b)| a & b))
    }

    /// The hosts, in order.
    pub fn iter(&self) -> impl Iterator<Item = HostPosition> + '_ {
        bits(self.words.iter().copied())
    }
}

impl FromIterator<HostPosition> for HostSet {
    fn from_iter<I: IntoIterator<Item = HostPosition>>(hosts: I) -> Self {
        let hosts: Vec<HostPosition> = hosts.into_iter().collect();
        let room = hosts
            .iter()
            .map(|host| host.index() + 1)
            .max()
            .unwrap_or_default();
        let mut set = Self::new(room);
        for host in hosts {
            set.insert(host);
        }
        set
    }
}

fn bits(words: impl Iterator<Item = u64>) -> impl Iterator<Item = HostPosition> {
    (0_u32..).zip(words).flat_map(|(position, mut word)| {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros();
            // Clears the lowest bit, and leaves zero alone.
            word &= word.wrapping_sub(1);
            (bit < 64).then(|| HostPosition(position * 64 + bit))
        })
    })
}

/// For each blob of a catalog, the hosts verified to hold it.
#[derive(Debug, Clone)]
pub struct Presence {
    class_of: Box<[u32]>,
    /// Row 0 is the empty set, for blobs nobody holds and numbers that are none.
    rows: Vec<HostSet>,
}

impl Presence {
    /// Nobody holds any of `blobs` blobs.
    pub fn empty(blobs: usize) -> Self {
        Builder::new(blobs, 0).finish()
    }

    /// The hosts verified for a blob.
    pub fn of(&self, blob: BlobId) -> &HostSet {
        let class = self.class_of.get(blob.index()).copied().unwrap_or_default();
        &self.rows[class as usize]
    }

    /// How many distinct sets of hosts there are.
    pub fn classes(&self) -> usize {
        self.rows.len()
    }
}

/// Builds a [`Presence`] from what each host holds.
#[derive(Debug)]
pub struct Builder {
    hosts: usize,
    class_of: Vec<u32>,
    classes: Vec<Class>,
    /// Classes that have lost all their blobs and can be used again.
    free: Vec<u32>,
}

/// Blobs held by the same hosts, among the hosts added so far.
#[derive(Debug, Clone)]
struct Class {
    row: HostSet,
    blobs: u32,
    /// The class its blobs move to when the host being added holds them; `NONE` before the first.
    with: u32,
}

const NONE: u32 = u32::MAX;

impl Builder {
    /// Starts with `hosts` hosts that hold none of `blobs` blobs.
    pub fn new(blobs: usize, hosts: usize) -> Self {
        let nobody = Class {
            row: HostSet::new(hosts),
            blobs: u32::try_from(blobs).unwrap_or(NONE),
            with: NONE,
        };
        Self {
            hosts,
            class_of: vec![0; blobs],
            classes: vec![nobody],
            free: Vec::new(),
        }
    }

    /// Says what `host` was verified to hold; each blob at most once, each host at most once.
    pub fn add(&mut self, host: HostPosition, blobs: impl IntoIterator<Item = BlobId>) {
        if host.index() >= self.hosts {
            return;
        }
        let mut split = Vec::new();
        for blob in blobs {
            let Some(slot) = self.class_of.get_mut(blob.index()) else {
                continue;
            };
            let old = *slot;
            let mut new = self.classes[old as usize].with;
            if new == NONE {
                let mut row = self.classes[old as usize].row.clone();
                if row.contains(host) {
                    continue; // The blob was named twice.
                }
                row.insert(host);
                let class = Class {
                    row,
                    blobs: 0,
                    with: NONE,
                };
                new = if let Some(free) = self.free.pop() {
                    self.classes[free as usize] = class;
                    free
                } else {
                    let next = number(self.classes.len());
                    self.classes.push(class);
                    next
                };
                self.classes[old as usize].with = new;
                split.push(old);
            }
            *slot = new;
            self.classes[old as usize].blobs -= 1;
            self.classes[new as usize].blobs += 1;
        }
        for class in split {
            self.classes[class as usize].with = NONE;
            // Class 0 stays for the numbers that are no blob.
            if self.classes[class as usize].blobs == 0 && class != 0 {
                self.free.push(class);
            }
        }
    }

    /// The finished table.
    pub fn finish(self) -> Presence {
        let mut rows = Vec::new();
        let mut renumbered = vec![0_u32; self.classes.len()];
        for (old, class) in self.classes.into_iter().enumerate() {
            if old == 0 || class.blobs > 0 {
                renumbered[old] = number(rows.len());
                rows.push(class.row);
            }
        }
        let class_of = self
            .class_of
            .iter()
            .map(|class| renumbered[*class as usize])
            .collect();
        Presence { class_of, rows }
    }
}

/// The number of a class. Every class but the first has a blob, and blobs are numbered by `u32`.
fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let mut set = HostSet::new(130);
        for position in [0, 63, 64, 129, 4_000] {
            set.insert(HostPosition(position));
        }
        assert_eq!(
            set.iter().map(|host| host.0).collect::<Vec<_>>(),
            [0, 63, 64, 129]
        );
        assert!(!set.contains(HostPosition(4_000)) && set.len() == 4);
        set.intersect(&HostSet::full(64));
        assert_eq!(set.len(), 2);
        assert_eq!(HostSet::full(130).len(), 130);
    }

    #[test]
    fn mirrors_of_the_same_content_share_one_row() {
        let mut builder = Builder::new(1_000, 300);
        for host in 0..300 {
            builder.add(HostPosition(host), (0..1_000).map(BlobId));
        }
        let presence = builder.finish();
        assert_eq!(presence.classes(), 2);
        assert_eq!(presence.of(BlobId(999)).len(), 300);
        assert!(presence.of(BlobId(1_000)).is_empty());
    }

    #[test]
    fn an_empty_table_answers_for_any_blob() {
        assert!(Presence::empty(3).of(BlobId(2)).is_empty());
        assert!(Presence::empty(0).of(BlobId(7)).is_empty());
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_table(holdings in prop::collection::vec(prop::collection::btree_set(0_u32..40, 0..40), 0..70)) {
            let mut builder = Builder::new(40, holdings.len());
            for (host, blobs) in (0..).zip(&holdings) {
                // Each blob twice, and one that is none: neither may matter.
                let twice = blobs.iter().chain(blobs).copied().chain([40]);
                builder.add(HostPosition(host), twice.map(BlobId));
            }
            let presence = builder.finish();
            for blob in 0..40 {
                let expected: Vec<u32> = (0..).zip(&holdings).filter(|(_, held)| held.contains(&blob)).map(|(h, _)| h).collect();
                let found: Vec<u32> = presence.of(BlobId(blob)).iter().map(|host| host.0).collect();
                prop_assert_eq!(found, expected);
            }
            prop_assert!(presence.classes() <= 41);
        }
    }
}
