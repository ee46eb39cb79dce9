//! A few countries, by value: what a client names costs a request no memory.

use super::CountryCode;

/// Up to four countries, in the order in which they were named.
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

    /// Them, the first named first.
    pub fn iter(&self) -> impl Iterator<Item = CountryCode> {
        self.0.into_iter().flatten()
    }
}

impl FromIterator<CountryCode> for Countries {
    /// The first four.
    fn from_iter<I: IntoIterator<Item = CountryCode>>(countries: I) -> Self {
        let mut kept = Self::default();
        for (place, country) in kept.0.iter_mut().zip(countries) {
            *place = Some(country);
        }
        kept
    }
}
