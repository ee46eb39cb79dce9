//! Making a table from what each host holds, by splitting sets host by host.

use oci_mirror::tree::catalog::BlobId;

use super::{HostPosition, HostSet, Presence};

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

/// No class.
pub(super) const NONE: u32 = u32::MAX;

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
pub(super) fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
