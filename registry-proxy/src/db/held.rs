//! What is known of the blobs of a host: three sets, and how a crawl changes them.
//!
//! A crawl tells of some blobs and not of others, and what it does not tell of must not be forgotten: a
//! front end would send nobody to a good mirror any more, or nobody would look at a bad one. The same
//! arithmetic serves for the numbers of the database and for those of a catalog.

use roaring::RoaringBitmap;

use super::crawls::{Scope, Verdict};

/// What is known of the blobs of a host; no blob is in two of the sets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Held {
    /// There, and bytes of them were read there and were right.
    pub verified: RoaringBitmap,
    /// Not there.
    pub missing: RoaringBitmap,
    /// There and wrong.
    pub damaged: RoaringBitmap,
}

/// What a crawl told, by verdict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// All bytes were read and are right.
    pub read: RoaringBitmap,
    /// Verified in another way.
    pub seen: RoaringBitmap,
    /// There, and never read.
    pub present: RoaringBitmap,
    /// Not there.
    pub missing: RoaringBitmap,
    /// There and wrong.
    pub damaged: RoaringBitmap,
    /// Asked for without a usable answer.
    pub unknown: RoaringBitmap,
}

impl FromIterator<(u32, Verdict)> for Told {
    fn from_iter<T: IntoIterator<Item = (u32, Verdict)>>(verdicts: T) -> Self {
        let mut told = Self::default();
        for (blob, verdict) in verdicts {
            let set = match verdict {
                Verdict::Read => &mut told.read,
                Verdict::Sampled | Verdict::Confirmed => &mut told.seen,
                Verdict::Present => &mut told.present,
                Verdict::Missing => &mut told.missing,
                Verdict::Damaged => &mut told.damaged,
                Verdict::Unknown => &mut told.unknown,
            };
            set.insert(blob);
        }
        told
    }
}

impl Told {
    /// All blobs of which something was told, if only that nothing could be.
    pub fn all(&self) -> RoaringBitmap {
        [
            &self.read,
            &self.seen,
            &self.present,
            &self.missing,
            &self.damaged,
            &self.unknown,
        ]
        .into_iter()
        .fold(RoaringBitmap::new(), |all, set| all | set)
    }
}

impl Held {
    /// What is known after a crawl.
    ///
    /// Damage is forgotten only where all bytes were right or nothing is there any more: looking at a
    /// blob, reading another piece of it or getting no answer proves nothing, nor does not having to carry it.
    #[must_use]
    pub fn after(&self, scope: Scope, told: &Told) -> Self {
        let all = told.all();
        let kept = |set: &RoaringBitmap| match scope {
            Scope::Whole => RoaringBitmap::new(),
            Scope::Part => set - &all,
        };
        let disproven = &told.read | &told.missing;
        let damaged = (&self.damaged - disproven) | &told.damaged;
        let missing = (kept(&self.missing) | &told.missing) - &damaged;
        let verified = (kept(&self.verified) | &told.read | &told.seen) - &damaged - &missing;
        Self {
            verified,
            missing,
            damaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(blobs: &[u32]) -> RoaringBitmap {
        blobs.iter().copied().collect()
    }

    fn before() -> Held {
        Held {
            verified: set(&[1, 2, 3]),
            missing: set(&[4, 5]),
            damaged: set(&[6, 7]),
        }
    }

    #[test]
    fn what_a_part_crawl_does_not_tell_of_stays_as_it_was() {
        assert_eq!(before().after(Scope::Part, &Told::default()), before());
        let told = [(2, Verdict::Missing), (4, Verdict::Read)];
        let after = before().after(Scope::Part, &told.into_iter().collect());
        let expected = Held {
            verified: set(&[1, 3, 4]),
            missing: set(&[2, 5]),
            damaged: set(&[6, 7]),
        };
        assert_eq!(after, expected);
    }

    #[test]
    fn what_a_whole_crawl_does_not_tell_of_is_gone_but_for_damage() {
        let told = [(1, Verdict::Confirmed), (6, Verdict::Read)];
        let after = before().after(Scope::Whole, &told.into_iter().collect());
        assert_eq!(after.verified, set(&[1, 6]));
        assert_eq!((after.missing.len(), after.damaged), (0, set(&[7])));
    }

    #[test]
    fn damage_is_forgotten_by_reading_all_of_it_and_not_by_less() {
        for (verdict, still) in [
            (Verdict::Read, false),
            (Verdict::Missing, false),
            (Verdict::Sampled, true),
            (Verdict::Confirmed, true),
            (Verdict::Present, true),
            (Verdict::Unknown, true),
            (Verdict::Damaged, true),
        ] {
            for scope in [Scope::Whole, Scope::Part] {
                let after = before().after(scope, &[(6, verdict)].into_iter().collect());
                assert_eq!(after.damaged.contains(6), still, "{verdict:?} {scope:?}");
                let verified = verdict == Verdict::Read;
                assert_eq!(after.verified.contains(6), verified, "{verdict:?}");
            }
        }
    }

    #[test]
    fn an_unknown_answer_costs_that_blob_and_no_other() {
        let told = [(1, Verdict::Unknown), (4, Verdict::Unknown)];
        let after = before().after(Scope::Part, &told.into_iter().collect());
        let expected = Held {
            verified: set(&[2, 3]),
            missing: set(&[5]),
            damaged: set(&[6, 7]),
        };
        assert_eq!(after, expected);
    }

    proptest! {
        #[test]
        fn no_blob_is_two_things_and_only_what_was_read_becomes_verified(
            crawls in prop::collection::vec(prop::collection::btree_map(0..20_u32, 0..7_usize, 0..20), 0..6),
            whole in any::<bool>(),
        ) {
            const VERDICTS: [Verdict; 7] = [
                Verdict::Read,
                Verdict::Sampled,
                Verdict::Confirmed,
                Verdict::Present,
                Verdict::Missing,
                Verdict::Damaged,
                Verdict::Unknown,
            ];
            let scope = if whole { Scope::Whole } else { Scope::Part };
            let mut held = Held::default();
            for crawl in crawls {
                let told: Told = crawl.iter().map(|(blob, verdict)| (*blob, VERDICTS[*verdict])).collect();
                let after = held.after(scope, &told);
                prop_assert!((&after.verified & &after.missing).is_empty());
                prop_assert!((&after.verified & &after.damaged).is_empty());
                prop_assert!((&after.missing & &after.damaged).is_empty());
                let new = &after.verified - &held.verified;
                prop_assert!(new.is_subset(&(&told.read | &told.seen)));
                if scope == Scope::Part {
                    let lost = &held.verified - &after.verified;
                    prop_assert!(lost.is_subset(&told.all()));
                }
                held = after;
            }
        }
    }
}
