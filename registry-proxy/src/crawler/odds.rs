//! How likely it is that damage would have been found: what samples are worth.
//!
//! Pure. The chance that *nothing* was found is a product over all readings, so its logarithm is kept and
//! added up: readings of one crawl, crawls of one day.

use oci_mirror::tree::pieces;

/// A blob up to this length is read where it was never read: that is one request too, and tells more.
pub const SMALL: u64 = 64 << 10;

/// The damage that is to be found: one blob in a hundred.
pub const SHARE: f64 = 0.01;

/// The logarithm of the chance that one reading does not find damage that befell this share of the blobs,
/// when it read this fraction of a blob's bytes.
///
/// A damaged blob has one wrong byte somewhere: who reads a tenth of the bytes sees it one time in ten.
pub fn undetected(fraction: f64, share: f64) -> f64 {
    (-share.clamp(0.0, 1.0) * fraction.clamp(0.0, 1.0)).ln_1p()
}

/// How much of a blob of `size` bytes so many are.
#[expect(
    clippy::cast_precision_loss,
    reason = "odds need no more than a few digits"
)]
pub fn fraction(read: u64, size: u64) -> f64 {
    if size == 0 {
        return 1.0;
    }
    read as f64 / size as f64
}

/// The logarithm of the chance that the first day of a mirror does not find damage, if so many bytes may be
/// read in a day and it carries blobs of these sizes.
///
/// Small ones are read whole as soon as they are met; then of each other a piece is read, or all of it if it
/// has none. If that is more than may be read, it is of as many as the bytes reach for, any of them.
pub fn expected(sizes: impl Iterator<Item = u64>, daily: u64) -> f64 {
    let (mut small, mut others) = (Readings::default(), Readings::default());
    for size in sizes {
        let kind = if size <= SMALL {
            &mut small
        } else {
            &mut others
        };
        kind.add(pieces::length_for(size).unwrap_or(size), size);
    }
    small.within(daily) + others.within(daily.saturating_sub(small.cost))
}

/// One reading of each of some blobs.
#[derive(Debug, Default)]
struct Readings {
    cost: u64,
    undetected: f64,
}

impl Readings {
    fn add(&mut self, read: u64, size: u64) {
        self.cost = self.cost.saturating_add(read);
        self.undetected += undetected(fraction(read, size), SHARE);
    }

    /// What as many of them are worth as so many bytes reach for.
    fn within(&self, bytes: u64) -> f64 {
        self.undetected * fraction(bytes.min(self.cost), self.cost)
    }
}

/// The chance that damage was found, from the sum of the logarithms that it was not.
pub fn detected(undetected: f64) -> f64 {
    // Above zero there is no chance of anything; and minus zero is not to be shown.
    -undetected.min(0.0).exp_m1() + 0.0
}

#[cfg(test)]
mod tests {
    use oci_mirror::tree::catalog::BlobId;

    use super::super::sample::choose::{Chance, Choice, choose};
    use super::super::visit::Depth;
    use super::*;

    #[test]
    fn nothing_read_finds_nothing_and_everything_damaged_is_found() {
        assert!(detected(0.0).abs() < f64::EPSILON);
        assert!((detected(undetected(1.0, 1.0)) - 1.0).abs() < f64::EPSILON);
        assert!(detected(undetected(0.0, 1.0)).abs() < f64::EPSILON);
        let many: f64 = (0..690).map(|_| undetected(1.0, SHARE)).sum();
        assert!((detected(many) - 0.999).abs() < 0.0005);
    }

    /// What is expected is what comes of choosing, by those who choose.
    #[test]
    fn the_first_day_of_a_mirror_is_as_expected() {
        const MIB: u64 = 1 << 20;
        let mut chance = Chance::new(3);
        let mut small: Vec<u64> = (0..30).map(|_| 1 + chance.below(SMALL)).collect();
        let others: Vec<u64> = (0..600)
            .map(|number| match number % 2 {
                0 => SMALL + 1 + chance.below(MIB - SMALL),
                _ => MIB + 1 + chance.below(200 * MIB),
            })
            .collect();
        let ids: Vec<BlobId> = (0..600).map(BlobId).collect();
        let least = small.iter().sum::<u64>();
        let all = |sizes: &[u64]| -> f64 {
            let whole = sizes.iter().map(|_| undetected(1.0, SHARE));
            whole.sum()
        };
        for daily in [40 * MIB, 200 * MIB, 400 * MIB, 1 << 40] {
            let choice = Choice {
                damaged: &[],
                suspects: &[],
                new: &ids,
                unread: &[],
                popular: &[],
                present: &ids,
                budget: daily - least,
                depth: Depth::Incremental,
                seed: 5,
            };
            let readings = choose(&choice, |id| others[id.index()]);
            let chosen = readings.iter().map(|reading| {
                let size = others[reading.id.index()];
                undetected(fraction(reading.part.bytes(size), size), SHARE)
            });
            let chosen = detected(all(&small) + chosen.sum::<f64>());
            let sizes = small.iter().chain(&others).copied();
            let expected = detected(expected(sizes, daily));
            assert!(
                (chosen - expected).abs() < 0.05,
                "{daily}: {chosen} and {expected}"
            );
        }
        let half = expected(small.iter().copied(), least / 2);
        assert!((half - all(&small) / 2.0).abs() < 0.01);
        small.clear();
        assert!(detected(expected(small.into_iter(), MIB)).abs() < f64::EPSILON);
    }

    /// The odds are those of an experiment: mirrors with 1 % damage, readings at random.
    #[test]
    fn the_odds_are_what_happens() {
        let mut chance = Chance::new(7);
        for (readings, tenths) in [(10, 10), (100, 10), (100, 5), (300, 2)] {
            let trials = 4000;
            let found = (0..trials).filter(|_| {
                (0..readings).any(|_| chance.below(100) == 0 && chance.below(10) < tenths)
            });
            let happened = f64::from(u16::try_from(found.count()).unwrap()) / f64::from(trials);
            let fraction = f64::from(u16::try_from(tenths).unwrap()) / 10.0;
            let log: f64 = (0..readings).map(|_| undetected(fraction, SHARE)).sum();
            assert!(
                (happened - detected(log)).abs() < 0.03,
                "{readings} readings of {tenths} tenths: {happened} and {}",
                detected(log)
            );
        }
    }
}
