//! A few countries, by value: what a client names costs a request no memory.

use serde::{Serialize, Serializer};

use super::CountryCode;

/// Up to four different countries, in the order in which they were named.
///
/// ```
/// use registry_proxy::geo::{Countries, CountryCode};
/// let named = ["PT", "ES", "FR", "DE", "IT"].map(|code| code.parse::<CountryCode>().unwrap());
/// assert_eq!(Countries::from_iter(named).iter().count(), 4);
/// assert!(Countries::default().is_empty());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Countries([Option<CountryCode>; Countries::MOST]);

impl Countries {
    /// Most countries kept; further ones are passed over.
    pub const MOST: usize = 4;

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Whether a country is among them.
    pub fn contains(&self, country: CountryCode) -> bool {
        self.0.contains(&Some(country))
    }

    /// Them, the first named first.
    pub fn iter(&self) -> impl Iterator<Item = CountryCode> {
        self.0.into_iter().flatten()
    }
}

impl FromIterator<CountryCode> for Countries {
    /// The first four.
    fn from_iter<I: IntoIterator<Item = CountryCode>>(countries: I) -> Self {
        let mut kept = Self::default();
        for country in countries {
            if kept.contains(country) {
                continue;
            }
            let Some(place) = kept.0.iter_mut().find(|place| place.is_none()) else {
                break;
            };
            *place = Some(country);
        }
        kept
    }
}

impl Serialize for Countries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
