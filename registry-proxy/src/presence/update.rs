//! The next table out of the one there is: a crawl changes what one host holds, and a million blobs at
//! hundreds of others stay.
//!
//! A table is never changed, since requests read it: the numbers of the sets are copied, 4 bytes a blob,
//! and only blobs that a host has come to or lost get another.

use std::collections::HashMap;

use oci_mirror::tree::catalog::BlobId;

use super::builder::{NONE, number};
use super::{HostPosition, HostSet, Presence};

/// A set of the blobs of a catalog.
#[derive(Debug, Clone, Default)]
pub struct BlobSet(Vec<u64>);

impl FromIterator<BlobId> for BlobSet {
    fn from_iter<I: IntoIterator<Item = BlobId>>(blobs: I) -> Self {
        let mut words = Vec::new();
        for blob in blobs {
            let word = blob.index() / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (blob.index() % 64);
        }
        Self(words)
    }
}

impl BlobSet {
    /// For every blob there may be, whether it is in the set.
    fn bits(&self) -> impl Iterator<Item = bool> + '_ {
        let words = self.0.iter().copied().chain(std::iter::repeat(0));
        words.flat_map(|word| (0..64).map(move |bit| word >> bit & 1 == 1))
    }
}

impl Presence {
    /// The table for `blobs` blobs, those beyond the ones known being nobody's, after each of the hosts has
    /// changed to hold what is said of it.
    #[must_use]
    pub fn updated(&self, blobs: usize, changes: &[(HostPosition, BlobSet)]) -> Self {
        let mut class_of = self.class_of.to_vec();
        class_of.resize(blobs.max(class_of.len()), 0);
        let mut classes = Classes::default();
        for row in &self.rows {
            classes.number(row.clone());
        }
        for (host, held) in changes {
            classes.change(*host, held, &mut class_of);
        }
        classes.finish(class_of)
    }

    /// The table for other hosts: for each, where it was, if it was there.
    #[must_use]
    pub fn rearranged(&self, old: &[Option<HostPosition>]) -> Self {
        let mut classes = Classes::default();
        let renumbered: Vec<u32> = self
            .rows
            .iter()
            .map(|row| {
                let mut moved = HostSet::new(old.len());
                for (new, old) in (0..).map(HostPosition).zip(old) {
                    if old.is_some_and(|old| row.contains(old)) {
                        moved.insert(new);
                    }
                }
                classes.number(moved)
            })
            .collect();
        let class_of = self.class_of.iter();
        let class_of = class_of.map(|class| renumbered[*class as usize]).collect();
        classes.finish(class_of)
    }
}

/// The distinct sets of hosts in the making; the first is the empty one.
#[derive(Debug, Default)]
struct Classes {
    rows: Vec<HostSet>,
    numbers: HashMap<HostSet, u32>,
}

impl Classes {
    /// The number of a set, which is entered unless it is known.
    fn number(&mut self, row: HostSet) -> u32 {
        let next = number(self.rows.len());
        *self.numbers.entry(row).or_insert_with_key(|row| {
            self.rows.push(row.clone());
            next
        })
    }

    /// Moves the blobs that a host holds no more, or did not hold, to the sets with it the other way.
    fn change(&mut self, host: HostPosition, held: &BlobSet, class_of: &mut [u32]) {
        // Each blob is looked at once, so none is in a set that this makes.
        let with: Vec<bool> = self.rows.iter().map(|row| row.contains(host)).collect();
        let mut others = vec![NONE; with.len()];
        for (slot, is_held) in class_of.iter_mut().zip(held.bits()) {
            let class = *slot as usize;
            if with[class] == is_held {
                continue;
            }
            if others[class] == NONE {
                let mut row = self.rows[class].clone();
                if is_held {
                    row.insert(host);
                } else {
                    row.remove(host);
                }
                others[class] = self.number(row);
            }
            *slot = others[class];
        }
    }

    /// The table, without the sets that have no blob left.
    fn finish(self, mut class_of: Vec<u32>) -> Presence {
        let mut renumbered = vec![NONE; self.rows.len()];
        renumbered[0] = 0;
        for class in &class_of {
            renumbered[*class as usize] = 0;
        }
        let mut rows = Vec::new();
        for (row, new) in self.rows.into_iter().zip(&mut renumbered) {
            if *new != NONE {
                *new = number(rows.len());
                rows.push(row);
            }
        }
        if rows.len() < renumbered.len() {
            for class in &mut class_of {
                *class = renumbered[*class as usize];
            }
        }
        Presence {
            class_of: class_of.into(),
            rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::Builder;
    use super::*;

    /// What happens to a network.
    #[derive(Debug, Clone)]
    enum Event {
        /// A host holds other blobs.
        Crawl(prop::sample::Index, BTreeSet<u32>),
        /// A host comes, with the lowest or the highest position.
        Come(bool),
        /// A host goes.
        Go(prop::sample::Index),
        /// There are more blobs.
        Grow(u32),
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let blobs = prop::collection::btree_set(0_u32..60, 0..60);
        prop_oneof![
            4 => (any::<prop::sample::Index>(), blobs).prop_map(|(host, held)| Event::Crawl(host, held)),
            1 => any::<bool>().prop_map(Event::Come),
            1 => any::<prop::sample::Index>().prop_map(Event::Go),
            1 => (0_u32..20).prop_map(Event::Grow),
        ]
    }

    fn anew(blobs: u32, hosts: &[BTreeSet<u32>]) -> Presence {
        let mut builder = Builder::new(blobs as usize, hosts.len());
        for (host, held) in (0..).zip(hosts) {
            builder.add(HostPosition(host), held.iter().copied().map(BlobId));
        }
        builder.finish()
    }

    fn positions(hosts: std::ops::Range<usize>) -> Vec<Option<HostPosition>> {
        hosts.map(|host| Some(HostPosition(number(host)))).collect()
    }

    proptest! {
        #[test]
        fn after_whatever_happens_it_is_as_if_built_anew(
            first in prop::collection::vec(prop::collection::btree_set(0_u32..40, 0..40), 0..70),
            events in prop::collection::vec(any_event(), 0..12),
        ) {
            let (mut blobs, mut hosts) = (40, first);
            let mut presence = anew(blobs, &hosts);
            for event in events {
                match event {
                    Event::Crawl(_, _) | Event::Go(_) if hosts.is_empty() => {}
                    Event::Crawl(host, mut held) => {
                        held.retain(|blob| *blob < blobs);
                        let host = host.index(hosts.len());
                        let change = held.iter().copied().map(BlobId).collect();
                        hosts[host] = held;
                        let position = HostPosition(number(host));
                        presence = presence.updated(blobs as usize, &[(position, change)]);
                    }
                    Event::Come(is_first) => {
                        let mut old = positions(0..hosts.len());
                        let at = if is_first { 0 } else { hosts.len() };
                        old.insert(at, None);
                        hosts.insert(at, BTreeSet::new());
                        presence = presence.rearranged(&old);
                    }
                    Event::Go(host) => {
                        let host = host.index(hosts.len());
                        let mut old = positions(0..hosts.len());
                        old.remove(host);
                        hosts.remove(host);
                        presence = presence.rearranged(&old);
                    }
                    Event::Grow(more) => {
                        blobs += more;
                        presence = presence.updated(blobs as usize, &[]);
                    }
                }
                let expected = anew(blobs, &hosts);
                for blob in (0..=blobs).map(BlobId) {
                    let (found, expected) = (presence.of(blob), expected.of(blob));
                    prop_assert!(found.iter().eq(expected.iter()), "{:?}: {:?}", blob, found);
                }
                prop_assert_eq!(presence.classes(), expected.classes());
            }
        }
    }
}
