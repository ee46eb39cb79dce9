//! Points on the globe and how far apart they are.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

/// Mean radius of the Earth in kilometres.
const EARTH_RADIUS_KM: f64 = 6371.0;

/// A point on the globe, in degrees, written `LAT,LONG`.
///
/// ```
/// use registry_proxy::geo::Coordinates;
/// let berlin: Coordinates = "52.52,13.40".parse().unwrap();
/// let paris: Coordinates = "48.86,2.35".parse().unwrap();
/// assert!((berlin.distance_km(paris) - 878.0).abs() < 5.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

impl Coordinates {
    /// A point, unless a number is not finite or out of bounds.
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let bounded = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        bounded.then_some(Self {
            latitude,
            longitude,
        })
    }

    /// Degrees north of the equator, −90 to 90.
    pub fn latitude(&self) -> f64 {
        self.latitude
    }

    /// Degrees east of Greenwich, −180 to 180.
    pub fn longitude(&self) -> f64 {
        self.longitude
    }

    /// The great-circle distance to another point.
    pub fn distance_km(self, other: Self) -> f64 {
        Direction::from(self).distance_km(Direction::from(other))
    }
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.latitude, self.longitude)
    }
}

impl FromStr for Coordinates {
    type Err = InvalidCoordinates;

    fn from_str(text: &str) -> Result<Self, InvalidCoordinates> {
        let parsed = text.split_once(',').and_then(|(latitude, longitude)| {
            Self::new(
                latitude.trim().parse().ok()?,
                longitude.trim().parse().ok()?,
            )
        });
        parsed.ok_or_else(|| InvalidCoordinates(Excerpt(text).into()))
    }
}

crate::by_text::by_text!(Coordinates);

/// A point as a unit vector: between two of them a distance costs three multiplications, so the
/// trigonometry is done once per host and once per client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Direction([f64; 3]);

impl Direction {
    /// The cosine of the angle between the two: the larger, the nearer.
    pub fn cosine(self, other: Self) -> f64 {
        self.0.iter().zip(other.0).map(|(a, b)| a * b).sum()
    }

    /// The great-circle distance.
    pub fn distance_km(self, other: Self) -> f64 {
        // Half the chord is stable for near points, where the cosine is all but 1.
        let square: f64 = self
            .0
            .iter()
            .zip(other.0)
            .map(|(a, b)| (a - b) * (a - b))
            .sum();
        2.0 * EARTH_RADIUS_KM * (square.sqrt() / 2.0).min(1.0).asin()
    }

    /// The cosine that belongs to a distance.
    pub fn cosine_of(distance_km: f64) -> f64 {
        (distance_km / EARTH_RADIUS_KM).cos()
    }
}

impl From<Coordinates> for Direction {
    fn from(point: Coordinates) -> Self {
        let (latitude, longitude) = (point.latitude.to_radians(), point.longitude.to_radians());
        Self([
            latitude.cos() * longitude.cos(),
            latitude.cos() * longitude.sin(),
            latitude.sin(),
        ])
    }
}

/// The text is not a point on the globe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a point LAT,LONG in degrees such as 52.52,13.40")]
pub struct InvalidCoordinates(Box<str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn out_of_bounds_and_not_a_number_are_refused() {
        for text in [
            "", "1", "91,0", "0,181", "NaN,0", "inf,0", "0,-180.1", "1,2,3", "a,b",
        ] {
            assert!(text.parse::<Coordinates>().is_err(), "{text}");
        }
    }

    #[test]
    fn known_distances() {
        let point = |text: &str| text.parse::<Coordinates>().unwrap();
        for (a, b, km) in [
            ("0,0", "0,0", 0.0),
            ("0,0", "0,180", 20_015.0),
            ("90,0", "-90,0", 20_015.0),
            ("51.51,-0.13", "40.71,-74.01", 5_570.0),
            ("-33.87,151.21", "35.68,139.69", 7_820.0),
        ] {
            let found = point(a).distance_km(point(b));
            assert!((found - km).abs() < 20.0, "{a} to {b}: {found}");
        }
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(a in -90.0..90.0, b in -180.0..180.0, c in -90.0..90.0, d in -180.0..180.0) {
            let (x, y) = (Coordinates::new(a, b).unwrap(), Coordinates::new(c, d).unwrap());
            let distance = x.distance_km(y);
            prop_assert!((0.0..=20_016.0).contains(&distance));
            prop_assert!((distance - y.distance_km(x)).abs() < 1e-6);
            prop_assert_eq!(x.to_string().parse::<Coordinates>(), Ok(x));
        }
    }
}
