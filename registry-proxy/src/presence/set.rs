//! A set of hosts: as many bits as there are hosts, side by side.

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

    /// The hosts, in order.
    pub fn iter(&self) -> impl Iterator<Item = HostPosition> + '_ {
        (0_u32..).zip(&*self.words).flat_map(|(position, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                // Clears the lowest bit, and leaves zero alone.
                word &= word.wrapping_sub(1);
                (bit < 64).then(|| HostPosition(position * 64 + bit))
            })
        })
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

#[cfg(test)]
mod tests {
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
        set.remove(HostPosition(64));
        set.remove(HostPosition(4_000));
        assert_eq!(set.len(), 3);
        assert_eq!(HostSet::full(130).len(), 130);
    }
}
