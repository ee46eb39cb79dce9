//! Chance that is the same tomorrow: numbers made of names, so that nothing has to be remembered of them.

/// Mixes the bits of a number, so that neighbours are strangers (the finalizer of `SplitMix64`).
pub(super) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A number for a text (FNV-1a, mixed).
pub(super) fn of_text(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

/// The `turn`th number of the series that begins with `seed`.
pub(super) const fn nth(seed: u64, turn: u64) -> u64 {
    mix(seed.wrapping_add(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_what_they_are_and_differ() {
        // Pinned: another number would put every host's turns elsewhere at an upgrade.
        assert_eq!(of_text("m.example"), of_text("m.example"));
        let mut numbers: Vec<u64> = (0..1000).map(|turn| nth(7, turn)).collect();
        numbers.extend((0..1000).map(|number| of_text(&format!("m{number}"))));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 2000);
    }
}
