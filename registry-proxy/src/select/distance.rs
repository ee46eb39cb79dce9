//! Distance in bands: within one band bandwidth decides, since a few hundred kilometres are noise.

use std::sync::LazyLock;

use crate::geo::coordinates::Direction;

/// Where one band ends and the next begins, in kilometres.
pub(super) const BANDS_KM: [f64; 5] = [500.0, 1000.0, 2000.0, 4000.0, 8000.0];

/// One more band than there are borders.
pub(super) const BANDS: usize = BANDS_KM.len() + 1;

/// The band of what is at no place: servers near the client come before it, and those far away after.
const EVERYWHERE: usize = 2;

/// Where a host is, as far as distance goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spot {
    /// At one place.
    At(Direction),
    /// At one place that nobody has told.
    Unknown,
    /// Near everybody, and at no place.
    Everywhere,
}

static COSINES: LazyLock<[f64; BANDS_KM.len()]> =
    LazyLock::new(|| BANDS_KM.map(Direction::cosine_of));

/// The band a host is in, seen from a client, 0 being the nearest.
///
/// A host of unknown position is taken to be far away; a client of unknown position has all hosts in
/// one band.
pub(super) fn band(client: Option<Direction>, host: Spot) -> usize {
    match (client, host) {
        (None, _) => 0,
        (Some(_), Spot::Unknown) => BANDS - 1,
        (Some(_), Spot::Everywhere) => EVERYWHERE,
        (Some(client), Spot::At(host)) => {
            let cosine = client.cosine(host);
            COSINES
                .iter()
                .take_while(|border| cosine < **border)
                .count()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::Coordinates;

    #[test]
    fn bands_are_entered_at_their_borders() {
        let at = |degrees: f64| Direction::from(Coordinates::new(0.0, degrees).unwrap());
        let here = Some(at(0.0));
        // One degree of longitude at the equator is 111.2 km.
        for (degrees, expected) in [
            (0.0, 0),
            (4.4, 0),
            (4.6, 1),
            (9.1, 2),
            (18.1, 3),
            (36.1, 4),
            (72.1, 5),
            (180.0, 5),
        ] {
            assert_eq!(band(here, Spot::At(at(degrees))), expected, "{degrees}");
        }
        assert_eq!(band(here, Spot::Unknown), BANDS - 1);
        assert_eq!(band(None, Spot::At(at(0.0))), 0);
        // What is near everybody is as far as 1000 to 2000 km.
        assert_eq!(band(here, Spot::Everywhere), band(here, Spot::At(at(13.0))));
    }
}
