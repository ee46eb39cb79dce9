//! Continents, and which country is on which.
//!
//! Where maps differ, the choice follows the cables: Cyprus is with Europe, the Caucasus, Türkiye and
//! Kazakhstan with Asia, Central America and the Caribbean with North America.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

use super::country::CountryCode;

/// A continent; its text is the two letters geographic databases use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Continent {
    /// AF
    Africa,
    /// AN
    Antarctica,
    /// AS
    Asia,
    /// EU
    Europe,
    /// NA
    NorthAmerica,
    /// OC
    Oceania,
    /// SA
    SouthAmerica,
}

impl Continent {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::Africa,
        Self::Antarctica,
        Self::Asia,
        Self::Europe,
        Self::NorthAmerica,
        Self::Oceania,
        Self::SouthAmerica,
    ];

    /// The two letters.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Africa => "AF",
            Self::Antarctica => "AN",
            Self::Asia => "AS",
            Self::Europe => "EU",
            Self::NorthAmerica => "NA",
            Self::Oceania => "OC",
            Self::SouthAmerica => "SA",
        }
    }

    /// The position of the continent in [`Continent::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Continent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl FromStr for Continent {
    type Err = InvalidContinent;

    fn from_str(text: &str) -> Result<Self, InvalidContinent> {
        let found = Self::ALL
            .into_iter()
            .find(|continent| continent.code().eq_ignore_ascii_case(text));
        found.ok_or_else(|| InvalidContinent(Excerpt(text).into()))
    }
}

crate::by_text::by_text!(Continent);

/// The text is not the code of a continent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a continent: AF, AN, AS, EU, NA, OC or SA")]
pub struct InvalidContinent(Box<str>);

/// The continent of a country.
pub(super) fn of(country: CountryCode) -> Option<Continent> {
    TABLE[country.index()]
}

static TABLE: [Option<Continent>; CountryCode::COUNT] = table();

/// Every code of ISO 3166-1, and XK, which registries use for Kosovo.
const COUNTRIES: [(Continent, &str); 7] = [
    (
        Continent::Africa,
        "AOBFBIBJBWCDCFCGCICMCVDJDZEGEHERETGAGHGMGNGQGWKEKMLRLSLYMAMGMLMRMUMWMZNANENGRERWSCSDSHSLSNSOSSSTSZTDTGTNTZUGYT\
         ZAZMZW",
    ),
    (Continent::Antarctica, "AQBVGSHMTF"),
    (
        Continent::Asia,
        "AEAFAMAZBDBHBNBTCCCNCXGEHKIDILINIOIQIRJOJPKGKHKPKRKWKZLALBLKMMMNMOMVMYNPOMPHPKPSQASASGSYTHTJTLTMTRTWUZVNYE",
    ),
    (
        Continent::Europe,
        "ADALATAXBABEBGBYCHCYCZDEDKEEESFIFOFRGBGGGIGRHRHUIEIMISITJELILTLULVMCMDMEMKMTNLNOPLPTRORSRUSESISJSKSMUAVAXK",
    ),
    (
        Continent::NorthAmerica,
        "AGAIAWBBBLBMBQBSBZCACRCUCWDMDOGDGLGPGTHNHTJMKNKYLCMFMQMSMXNIPAPMPRSVSXTCTTUSVCVGVI",
    ),
    (
        Continent::Oceania,
        "ASAUCKFJFMGUKIMHMPNCNFNRNUNZPFPGPNPWSBTKTOTVUMVUWFWS",
    ),
    (Continent::SouthAmerica, "ARBOBRCLCOECFKGFGYPEPYSRUYVE"),
];

const fn table() -> [Option<Continent>; CountryCode::COUNT] {
    let mut table = [None; CountryCode::COUNT];
    let mut row = 0;
    while row < COUNTRIES.len() {
        let (continent, codes) = COUNTRIES[row];
        let codes = codes.as_bytes();
        let mut at = 0;
        while at < codes.len() {
            table[(codes[at] - b'A') as usize * 26 + (codes[at + 1] - b'A') as usize] =
                Some(continent);
            at += 2;
        }
        row += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_iso_3166_has_one_continent() {
        let written: usize = COUNTRIES.iter().map(|(_, codes)| codes.len() / 2).sum();
        let known = TABLE.iter().flatten().count();
        // 249 assigned codes and XK; a code written twice would make the two differ.
        assert_eq!((written, known), (250, 250));
    }

    #[test]
    fn known_countries() {
        for (country, continent) in [
            ("DE", "EU"),
            ("us", "NA"),
            ("BR", "SA"),
            ("za", "AF"),
            ("JP", "AS"),
            ("nz", "OC"),
            ("AQ", "AN"),
            ("cy", "EU"),
        ] {
            let country: CountryCode = country.parse().unwrap();
            assert_eq!(
                country.continent(),
                Some(continent.parse().unwrap()),
                "{country}"
            );
        }
        for unassigned in ["EU", "ZZ", "AP", "XX"] {
            assert_eq!(
                unassigned.parse::<CountryCode>().unwrap().continent(),
                None,
                "{unassigned}"
            );
        }
    }
}
