//! Opening what says where addresses are: databases in the MaxMind format, files of prefixes, overrides.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use maxminddb::MaxMindDbError;

use super::overrides::Overrides;
use super::prefixes;
use super::table::Table;
use super::{CountryCode, Place};
use crate::config::{Config, GeoOverride};

/// Largest file read, in bytes; the largest in use, a full city database, has about 130 MB.
pub const MAX_BYTES: u64 = 1 << 30;

static BUILTIN: &[u8] = include_bytes!("../../../data/geo-whois-asn-country.mmdb");

/// What an operator gives to say where addresses are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sources {
    /// Databases in the MaxMind format.
    pub databases: Vec<PathBuf>,
    /// Files of lines `CIDR ASN`.
    pub prefixes: Vec<PathBuf>,
    /// What the operator knows better.
    pub overrides: Vec<GeoOverride>,
}

impl From<&Config> for Sources {
    fn from(config: &Config) -> Self {
        Self {
            databases: config.geoip.clone(),
            prefixes: config.asn_prefixes.clone(),
            overrides: config.geoip_overrides.clone(),
        }
    }
}

/// One or more geographic databases, asked in turn.
///
/// ```
/// use registry_proxy::geo::Geo;
/// let geo = Geo::builtin().unwrap();
/// let place = geo.locate("193.0.6.139".parse().unwrap());
/// assert_eq!(place.country.unwrap().to_string(), "NL");
/// ```
#[derive(Debug)]
pub struct Geo {
    /// Nothing if there are none: then they cost nothing.
    overrides: Option<Overrides>,
    databases: Vec<Arc<Table>>,
}

impl Geo {
    /// The country database compiled into the program.
    pub fn builtin() -> Result<Self, Error> {
        static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
        let table = match TABLE.get() {
            Some(table) => Arc::clone(table),
            None => {
                let table = Table::new(BUILTIN).map_err(|source| Error::Malformed {
                    path: "(built in)".into(),
                    source,
                })?;
                Arc::clone(TABLE.get_or_init(|| Arc::new(table)))
            }
        };
        Ok(Self {
            overrides: None,
            databases: vec![table],
        })
    }

    /// Opens what the operator gives.
    ///
    /// Each contributes the fields it has, the first that knows a field winning: overrides, databases in
    /// their order, files of prefixes. The built-in database comes last, so that giving only an ASN
    /// database does not lose the countries.
    pub fn open(sources: &Sources) -> Result<Self, Error> {
        let mut databases = Vec::new();
        for path in &sources.databases {
            databases.push(database(&read(path)?, path)?);
        }
        for path in &sources.prefixes {
            databases.push(prefixes(&read(path)?, path)?);
        }
        databases.extend(Self::builtin()?.databases);
        Ok(Self {
            overrides: Overrides::new(&sources.overrides),
            databases,
        })
    }

    /// What a database, a file of prefixes and overrides say, the files having been read.
    pub fn from_bytes(
        database: Option<&[u8]>,
        prefixes: &[u8],
        overrides: &[GeoOverride],
    ) -> Result<Self, Error> {
        let path = Path::new("(bytes)");
        let mut databases = Vec::new();
        if let Some(bytes) = database {
            databases.push(self::database(bytes, path)?);
        }
        databases.push(self::prefixes(prefixes, path)?);
        Ok(Self {
            overrides: Overrides::new(overrides),
            databases,
        })
    }

    /// Where an address is, as far as the databases know.
    ///
    /// A database that is damaged at the place asked for, or does not hold the address's family, is
    /// passed over.
    pub fn locate(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        let mut place = match &self.overrides {
            None => Place::default(),
            Some(overrides) => overrides.find(address),
        };
        let mut continent = None;
        for database in &self.databases {
            let Some(found) = database.find(address) else {
                continue;
            };
            place.country = place.country.or(found.country);
            place.asn = place.asn.or(found.asn);
            place.coordinates = place.coordinates.or(found.coordinates);
            continent = continent.or(found.continent);
        }
        // Our own table wins: hosts are put on continents by it, and both must agree.
        place.continent = place.country.and_then(CountryCode::continent).or(continent);
        place
    }
}

fn database(bytes: &[u8], path: &Path) -> Result<Arc<Table>, Error> {
    let malformed = |source| Error::Malformed {
        path: path.to_owned(),
        source,
    };
    Ok(Arc::new(Table::new(bytes).map_err(malformed)?))
}

fn prefixes(bytes: &[u8], path: &Path) -> Result<Arc<Table>, Error> {
    let prefixes = |source| Error::Prefixes {
        path: path.to_owned(),
        source,
    };
    Ok(Arc::new(prefixes::table(bytes).map_err(prefixes)?))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// Why a geographic database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the geographic file {}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than any such file.
    #[error("the geographic file {} has more than {MAX_BYTES} bytes", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not in the MaxMind format, or is damaged.
    #[error("{} is not a geographic database in the MaxMind format (.mmdb)", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: MaxMindDbError,
    },
    /// The file is not one of prefixes.
    #[error("{} is not a file of lines `CIDR ASN`", .path.display())]
    Prefixes {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: prefixes::Error,
    },
}

#[cfg(test)]
mod tests {
    use maxminddb::Reader;
    use proptest::prelude::*;

    use super::super::encoded::{Value, database};
    use super::super::record::Record;
    use super::super::{Asn, Continent, Coordinates};
    use super::*;

    fn databases(databases: Vec<PathBuf>) -> Sources {
        Sources {
            databases,
            ..Sources::default()
        }
    }

    fn geo(files: &[Vec<u8>]) -> Geo {
        let dir = tempfile::tempdir().unwrap();
        let write = |(number, bytes): (usize, &Vec<u8>)| {
            let path = dir.path().join(format!("{number}.mmdb"));
            std::fs::write(&path, bytes).unwrap();
            path
        };
        Geo::open(&databases(files.iter().enumerate().map(write).collect())).unwrap()
    }

    fn city() -> Value<'static> {
        let map = Value::Map;
        map(vec![
            ("country", map(vec![("iso_code", Value::Text("TR"))])),
            ("continent", map(vec![("code", Value::Text("EU"))])),
            (
                "location",
                map(vec![
                    ("latitude", Value::Double(41.0)),
                    ("longitude", Value::Double(29.0)),
                ]),
            ),
        ])
    }

    #[test]
    fn files_complete_each_other_and_the_first_wins() {
        let asn = Value::Map(vec![("autonomous_system_number", Value::Number(64496))]);
        let other = Value::Map(vec![
            ("country_code", Value::Text("SE")),
            ("latitude", Value::Double(1.0)),
        ]);
        let geo = geo(&[database(&city()), database(&asn), database(&other)]);
        let place = geo.locate("2001:db8::1".parse().unwrap());
        assert_eq!(place.country, "TR".parse().ok());
        assert_eq!(
            place.continent,
            Some(Continent::Asia),
            "hosts in Türkiye are in Asia, so are clients"
        );
        assert_eq!(place.asn, Some(Asn(64496)));
        assert_eq!(place.coordinates, Coordinates::new(41.0, 29.0));
    }

    #[test]
    fn an_asn_database_alone_does_not_lose_the_country() {
        let asn = Value::Map(vec![("autonomous_system_number", Value::Number(3333))]);
        let place = geo(&[database(&asn)]).locate("193.0.6.139".parse().unwrap());
        assert_eq!(
            (place.country, place.asn),
            ("NL".parse().ok(), Some(Asn(3333)))
        );
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let geo = Geo::builtin().unwrap();
        let plain = geo.locate("193.0.6.139".parse().unwrap());
        assert!(plain.country.is_some());
        assert_eq!(geo.locate("::ffff:193.0.6.139".parse().unwrap()), plain);
        assert_eq!(geo.locate("127.0.0.1".parse().unwrap()), Place::default());
    }

    /// What `data/refresh` runs on a new file; without one it looks at the file we have.
    #[test]
    fn a_candidate_is_fit_to_be_built_in() {
        let candidate = std::env::var_os("OCI_MIRROR_GEO_CANDIDATE");
        let bytes =
            candidate.map_or_else(|| BUILTIN.to_vec(), |path| read(Path::new(&path)).unwrap());
        let geo = Geo {
            overrides: None,
            databases: vec![Arc::new(Table::new(&bytes).unwrap())],
        };
        for (address, country) in [
            ("193.0.6.139", "NL"),
            ("2001:67c:2e8:22::c100:68b", "NL"),
            ("130.149.4.20", "DE"),
            ("2001:4ca0::1", "DE"),
            ("133.11.0.1", "JP"),
            ("18.9.22.69", "US"),
        ] {
            let place = geo.locate(address.parse().unwrap());
            assert_eq!(place.country, country.parse().ok(), "{address}");
        }
    }

    #[test]
    fn what_is_no_database_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.mmdb");
        let whole = database(&city());
        for bytes in [&b""[..], b"PK\x03\x04", &whole[..whole.len() / 2]] {
            std::fs::write(&path, bytes).unwrap();
            let error = Geo::open(&databases(vec![path.clone()])).unwrap_err();
            assert!(error.to_string().contains("x.mmdb"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let gone = Geo::open(&databases(vec![path]));
        assert!(matches!(gone, Err(Error::Read { .. })));
    }

    #[test]
    fn overrides_come_first_and_prefixes_after_the_databases() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let asn = Value::Map(vec![("autonomous_system_number", Value::Number(64496))]);
        let override_of = |netblock: &str, asn| GeoOverride {
            netblock: netblock.parse().unwrap(),
            country: "PT".parse().ok(),
            coordinates: None,
            asn,
        };
        let mut sources = Sources {
            databases: Vec::new(),
            prefixes: vec![
                path("one", b"193.0.0.0/16 1\n"),
                path("two", b"0.0.0.0/0 2\n"),
            ],
            overrides: vec![override_of("193.0.6.0/24", Some(Asn(3)))],
        };
        let located = |sources: &Sources, address: &str| {
            let place = Geo::open(sources).unwrap().locate(address.parse().unwrap());
            let country = place.country.map(|country| country.to_string());
            (country.unwrap_or_default(), place.continent, place.asn)
        };
        let europe = Some(Continent::Europe);
        for (address, country, asn) in [
            ("193.0.6.139", "PT", 3),
            ("::ffff:193.0.6.139", "PT", 3),
            ("193.0.7.1", "NL", 1),
            ("130.149.4.20", "DE", 2),
        ] {
            let expected = (country.to_owned(), europe, Some(Asn(asn)));
            assert_eq!(located(&sources, address), expected, "{address}");
        }
        sources.databases = vec![path("asn", &database(&asn))];
        sources.overrides = vec![override_of("193.0.6.0/24", None)];
        let expected = ("PT".to_owned(), europe, Some(Asn(64496)));
        assert_eq!(located(&sources, "193.0.6.139"), expected);
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0_usize..300, value: u8, address: [u8; 16], cut in 0_usize..300) {
            let mut bytes = database(&city());
            let end = bytes.len();
            bytes[at % end] = value;
            if cut % 4 == 0 {
                bytes.truncate(cut % end);
            }
            if let Ok(table) = Table::new(&bytes) {
                let geo = Geo { overrides: None, databases: vec![Arc::new(table)] };
                geo.locate(IpAddr::from(address));
                geo.locate(IpAddr::from([address[0], 1, 2, 3]));
            }
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_table_says_what_the_file_says(addresses in prop::collection::vec(any::<([u8; 16], u8)>(), 200)) {
            let (geo, file) = (Geo::builtin().unwrap(), Reader::from_source(BUILTIN).unwrap());
            for (mut bytes, kind) in addresses {
                // Where addresses are in use, and where they hold others.
                match kind % 6 {
                    0 => bytes[..2].copy_from_slice(&[0x20, 0x02]),
                    1 => bytes[..4].copy_from_slice(&[0x20, 0x01, 0, 0]),
                    2 => bytes[..12].fill(0),
                    3 => bytes[0] = 0x2a,
                    _ => {}
                }
                let address = if kind < 128 {
                    IpAddr::from(bytes)
                } else {
                    IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
                }
                .to_canonical();
                let found = file.lookup(address).and_then(|found| found.decode::<Record<'_>>());
                let expected = found.ok().flatten().map(|record| record.place());
                prop_assert_eq!(geo.databases[0].find(address).copied(), expected, "{}", address);
            }
        }
    }
}
