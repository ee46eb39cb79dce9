//! Configuration: one TOML file, overridden by the environment, overridden by flags.
//!
//! Every field has a default, so `registry-proxy serve --tree DIR` is a whole configuration. What is
//! wrong is said at the start, with the place in the file; a running server never finds out.

mod check_in;
mod crawler;
mod geo;
mod limits;
mod log;
mod mistakes;
mod notify;
mod redirect;
mod statistics;
pub mod stream;
mod tls;
mod value;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use oci_mirror::http::server::{ListenAddress, SocketMode};
use serde::Deserialize;

use value::{networks, some_addresses};

pub use check_in::CheckIn;
pub use crawler::Crawler;
pub use geo::GeoOverride;
pub use limits::Limits;
pub use log::{Format, Level, Log};
pub use notify::Notify;
pub use redirect::Redirect;
pub use statistics::Statistics;
pub use stream::Stream;
pub use tls::{Spoken, Tls};

/// Largest configuration file read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The configuration of the front end.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Where to listen; at least one address.
    #[serde(deserialize_with = "some_addresses")]
    pub listen: Vec<ListenAddress>,
    /// The permissions of unix sockets.
    pub socket_mode: SocketMode,
    /// The tree to serve.
    pub tree: PathBuf,
    /// The database of mirrors; without the file there are no mirrors.
    pub database: PathBuf,
    /// Proxies whose `X-Forwarded-For` or `Forwarded` is believed.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Whether trusted proxies, and whoever comes by a unix socket, begin with a PROXY header.
    pub proxy_protocol: bool,
    /// MaxMind or DB-IP databases; none means the built-in country database.
    pub geoip: Vec<PathBuf>,
    /// Files of lines `CIDR ASN`: whose network an address is in.
    pub asn_prefixes: Vec<PathBuf>,
    /// What is known better than the databases do.
    pub geoip_overrides: Vec<GeoOverride>,
    /// When and how blobs are redirected.
    pub redirect: Redirect,
    /// Who gets the bytes through here.
    pub stream: Stream,
    /// How mirrors are checked.
    pub crawler: Crawler,
    /// What mirrors say of themselves.
    pub check_in: CheckIn,
    /// Who is told of mirrors that are lost or come back.
    pub notify: Notify,
    /// What clients may take.
    pub limits: Limits,
    /// The certificate, and who speaks TLS.
    pub tls: Option<Tls>,
    /// What is said, and how.
    pub log: Log,
    /// Who is told what was used.
    pub statistics: Statistics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp(([0_u16; 8], 5000).into())],
            socket_mode: SocketMode::default(),
            tree: "/srv/containers".into(),
            database: "/var/lib/registry-proxy/mirrors.db".into(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            geoip: Vec::new(),
            asn_prefixes: Vec::new(),
            geoip_overrides: Vec::new(),
            redirect: Redirect::default(),
            stream: Stream::default(),
            crawler: Crawler::default(),
            check_in: CheckIn::default(),
            notify: Notify::default(),
            limits: Limits::default(),
            tls: None,
            log: Log::default(),
            statistics: Statistics::default(),
        }
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = Self::text(path)?;
        Self::parse(&text).map_err(|source| Error::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Reads a configuration file; everything that is wrong with it, if something is.
    pub fn read_checked(path: &Path) -> Result<Self, Vec<Error>> {
        let text = Self::text(path).map_err(|error| vec![error])?;
        mistakes::parse(&text).map_err(|mistakes| {
            let wrong = |source| Error::Parse {
                path: path.to_owned(),
                source: Box::new(source),
            };
            mistakes.into_iter().map(wrong).collect()
        })
    }

    fn text(path: &Path) -> Result<String, Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge {
                path: path.to_owned(),
            });
        }
        Ok(text)
    }

    /// Parses the text of a configuration file.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is far larger than a configuration can be.
    #[error("{} has more than {MAX_BYTES} bytes; that is no configuration", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not TOML, or has a setting there is not.
    #[error("the configuration {} is wrong", .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_is_the_default() {
        let example = include_str!("../../../contrib/registry-proxy.toml");
        assert_eq!(Config::parse(example).unwrap(), Config::default());
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn a_misspelt_setting_is_named_with_its_line() {
        let error = Config::parse("listen = [\"[::]:5000\"]\n[redirect]\nmin-sise = 1\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("min-sise") && error.contains("line 3"),
            "{error}"
        );
    }

    #[test]
    fn a_proxy_may_be_a_bare_address() {
        let config =
            Config::parse("trusted-proxies = [\"127.0.0.1\", \"::1\", \"10.0.0.0/8\"]").unwrap();
        let networks: Vec<_> = config
            .trusted_proxies
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(networks, ["127.0.0.1/32", "::1/128", "10.0.0.0/8"]);
    }

    #[test]
    fn what_mirrors_are_asked_has_bounds_that_can_be_taken_away() {
        let text = "[redirect]\nretry-window = \"0s\"\n[stream]\nfrom = \"mirrors\"\nclients = [\"containers<5.25\"]\n\
                    [crawler]\nrate = \"none\"\nbytes-per-second = \"0B\"\ncontact = \"https://mirrors.example/\"\n";
        let config = Config::parse(text).unwrap();
        assert!(config.redirect.retry_window.is_zero());
        assert_eq!(config.stream.from, stream::From::Mirrors);
        assert_eq!(config.crawler.rate, None);
        assert_eq!(Crawler::default().rate.unwrap().to_string(), "50/s");
        assert_eq!(Crawler::default().concurrency.get(), 16);
        let contact = config.crawler.contact.unwrap();
        assert_eq!(contact.as_str(), "https://mirrors.example/");
    }

    #[test]
    fn an_override_says_what_it_knows() {
        let text = "geoip-overrides = [{ netblock = \"192.0.2.0/24\", country = \"DE\", \
                    coordinates = \"49.4,8.7\", asn = \"AS64496\" }, { netblock = \"::1\" }]";
        let config = Config::parse(text).unwrap();
        let [full, bare] = &config.geoip_overrides[..] else {
            panic!("{config:?}");
        };
        assert_eq!(full.country, "DE".parse().ok());
        assert_eq!(full.asn.unwrap().0, 64496);
        assert!(full.coordinates.is_some());
        assert_eq!(bare.netblock.to_string(), "::1/128");
    }

    #[test]
    fn with_tls_every_tcp_address_speaks_it_unless_others_are_named() {
        let listeners = |tls: &str| {
            let listen = "listen = [\"[::]:5000\", \"unix:/run/s\"]\n";
            let config = Config::parse(&format!("{listen}{tls}"))
                .unwrap()
                .listeners();
            let line = |(address, spoken)| format!("{address} {spoken:?}");
            config.into_iter().map(line).collect::<Vec<_>>()
        };
        let pair = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
        assert_eq!(listeners(""), ["[::]:5000 Clear", "unix:/run/s Clear"]);
        assert_eq!(listeners(pair), ["[::]:5000 Tls", "unix:/run/s Clear"]);
        assert_eq!(
            listeners(&format!("{pair}listen = [\"[::]:443\"]\n")),
            ["[::]:5000 Clear", "unix:/run/s Clear", "[::]:443 Tls"]
        );
    }

    #[test]
    fn every_mistake_is_found_with_its_line() {
        let text = "lissen = []\ntree = 1\n[limits]\nconnections = 0\nmin-rate = \"2 KiB\"\nheader-bytes = \"1KiB\"\n\
                    [tlss]\ncertificate = \"c\"\n[log]\nlevel = \"loud\"\n[tls]\nkey = \"k\"\n";
        let mistakes = mistakes::parse(text).unwrap_err();
        let all: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes.len(), 7, "{all:#?}");
        for named in ["lissen", "tlss", "8 KiB", "loud", "certificate", "line 2"] {
            assert!(
                all.iter().any(|text| text.contains(named)),
                "{named} {all:#?}"
            );
        }
        assert_eq!(mistakes::parse("").unwrap(), Config::default());
    }

    #[test]
    fn every_value_is_checked() {
        for text in [
            "listen = [\"5000\"]",
            "listen = []",
            "trusted-proxies = [\"localhost\"]",
            "[crawler]\ninterval = \"0s\"",
            "[redirect]\nmin-size = \"big\"",
            "[crawler]\ninterval = \"-1h\"",
            "[crawler]\ninterval = 3",
            "[redirect]\nretry-window = \"soon\"",
            "[redirect]\nretry-window = \"-1s\"",
            "[redirect]\nretry-window = \"61m\"",
            "[stream]\nclients = [\"\"]",
            "[stream]\nfrom = \"there\"",
            "[crawler]\nconcurrency = 0",
            "[crawler]\nrate = \"0/s\"",
            "[crawler]\nrecheck = \"0s\"",
            "[crawler]\ncontact = \"the cellar\"",
            "[crawler]\ncontact = \"file:///etc\"",
            "[check-in]\nexpire = \"0s\"",
            "[check-in]\nxml-rpc = \"no\"",
            "[notify]\nwebhook = \"example.org\"",
            "geoip-overrides = [{ country = \"DE\" }]",
            "geoip-overrides = [{ netblock = \"192.0.2.0/24\", county = \"DE\" }]",
            "[[geoip-overrides]]\nnetblock = \"here\"",
            "tree = 1",
            "socket-mode = \"rw\"",
            "[limits]\nconnections = 0",
            "[limits]\nheader-bytes = \"4KiB\"",
            "[limits]\nidle-time = \"0s\"",
            "[limits]\ngrace = \"3000000h\"",
            "[log]\nformat = \"xml\"",
            "[tls]\ncertificate = \"c\"",
            "[tls]\ncertificate = \"c\"\nkey = \"k\"\nlisten = [\"unix:/run/s\"]",
        ] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,200}") {
            prop_assert_eq!(Config::parse(&text).is_ok(), mistakes::parse(&text).is_ok());
        }
    }
}
