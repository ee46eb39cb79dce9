//! Where an address is: country, continent, network operator and, with a city database, coordinates.
//!
//! [`Geo`] reads MaxMind, DB-IP and ip-location-db files, tables of announced prefixes, and what an operator
//! knows better; a country database is compiled in, so a front
//! end without any configuration already sends a client to a mirror in its own country. Everything
//! is in memory: a file replaced under a running server changes nothing until it is opened again.

pub mod asn;
pub mod continent;
pub mod coordinates;
pub mod countries;
pub mod country;
pub mod database;
#[cfg(test)]
mod encoded;
mod overrides;
pub mod prefixes;
mod record;
mod table;

pub use asn::Asn;
pub use continent::Continent;
pub use coordinates::Coordinates;
pub use countries::Countries;
pub use country::CountryCode;
pub use database::{Error, Geo, Sources};

/// What is known about where an address is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Place {
    /// The country.
    pub country: Option<CountryCode>,
    /// The continent; that of the country whenever the country is known.
    pub continent: Option<Continent>,
    /// The network operator that announces the address.
    pub asn: Option<Asn>,
    /// A point, usually the middle of a city.
    pub coordinates: Option<Coordinates>,
}

impl Place {
    /// A place of which only the country is known.
    pub fn in_country(country: CountryCode) -> Self {
        Self {
            country: Some(country),
            continent: country.continent(),
            ..Self::default()
        }
    }
}
