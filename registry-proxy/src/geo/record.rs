//! What a record of a geographic database in the MaxMind format says, whoever made it.

use serde::Deserialize;

use super::{Asn, Continent, Coordinates, CountryCode, Place};

/// The fields of all shapes in use: MaxMind and DB-IP nest them, ip-location-db has them flat.
#[derive(Debug, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    country: Option<Country<'a>>,
    #[serde(borrow)]
    registered_country: Option<Country<'a>>,
    #[serde(borrow)]
    continent: Option<ContinentCode<'a>>,
    location: Option<Location>,
    autonomous_system_number: Option<u32>,
    country_code: Option<&'a str>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Country<'a> {
    iso_code: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct ContinentCode<'a> {
    code: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl Record<'_> {
    /// All it says, with the continent as it stands there.
    pub(super) fn place(&self) -> Place {
        Place {
            country: self.country(),
            continent: self.continent(),
            asn: self.asn(),
            coordinates: self.coordinates(),
        }
    }

    fn country(&self) -> Option<CountryCode> {
        let code = |country: &Option<Country<'_>>| country.as_ref()?.iso_code?.parse().ok();
        code(&self.country)
            .or_else(|| self.country_code?.parse().ok())
            .or_else(|| code(&self.registered_country))
    }

    fn continent(&self) -> Option<Continent> {
        self.continent.as_ref()?.code?.parse().ok()
    }

    fn asn(&self) -> Option<Asn> {
        self.autonomous_system_number.map(Asn)
    }

    fn coordinates(&self) -> Option<Coordinates> {
        let nested = self
            .location
            .as_ref()
            .and_then(|place| Some((place.latitude?, place.longitude?)));
        let (latitude, longitude) = nested.or_else(|| Some((self.latitude?, self.longitude?)))?;
        Coordinates::new(latitude, longitude)
    }
}
