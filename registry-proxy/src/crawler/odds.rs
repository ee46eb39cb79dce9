//! How likely it is that damage would have been found: what samples are worth.
//!
//! Pure. The chance that *nothing* was found is a product over all readings, so its logarithm is kept and
//! added up: readings of one crawl, crawls of one day.

/// The damage that is to be found: one blob in a hundred.
pub const SHARE: f64 = 0.01;

/// The logarithm of the chance that one reading does not find damage that befell this share of the blobs,
/// when it read this fraction of a blob's bytes.
///
/// A damaged blob has one wrong byte somewhere: who reads a tenth of the bytes sees it one time in ten.
pub fn undetected(fraction: f64, share: f64) -> f64 {
    (-share.clamp(0.0, 1.0) * fraction.clamp(0.0, 1.0)).ln_1p()
}

/// The chance that damage was found, from the sum of the logarithms that it was not.
pub fn detected(undetected: f64) -> f64 {
    // Above zero there is no chance of anything; and minus zero is not to be shown.
    -undetected.min(0.0).exp_m1() + 0.0
}

#[cfg(test)]
mod tests {
    use super::super::sample::choose::Chance;
    use super::*;

    #[test]
    fn nothing_read_finds_nothing_and_everything_damaged_is_found() {
        assert!(detected(0.0).abs() < f64::EPSILON);
        assert!((detected(undetected(1.0, 1.0)) - 1.0).abs() < f64::EPSILON);
        assert!(detected(undetected(0.0, 1.0)).abs() < f64::EPSILON);
        let many: f64 = (0..690).map(|_| undetected(1.0, SHARE)).sum();
        assert!((detected(many) - 0.999).abs() < 0.0005);
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
