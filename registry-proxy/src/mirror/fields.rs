//! What is said of a mirror on the command line, when it is entered and when it is changed.

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use oci_mirror::size::ByteSize;

use crate::geo::{Asn, Coordinates, CountryCode};
use crate::network::{Bandwidth, Kind, NewHost, RepoGlob, SiteName, Visibility};

/// All but the name and the URLs.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// The site it belongs to, which is entered if it is not there [default: one of its own name]
    #[arg(long, value_name = "SITE")]
    site: Option<SiteName>,
    /// What it is: `server`, or `cdn` if it is near everybody and at no place
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// The country it is in [default when entered: where its address is]
    #[arg(long, value_name = "CC")]
    country: Option<CountryCode>,
    /// Where exactly it is
    #[arg(long, value_name = "LAT,LONG", allow_hyphen_values = true)]
    latlong: Option<Coordinates>,
    /// What it can send, in Mbit/s [default: 100]
    #[arg(long, value_name = "MBIT")]
    bandwidth: Option<Bandwidth>,
    /// A network whose clients it serves first; may be given several times
    #[arg(long = "netblock", value_name = "CIDR")]
    netblocks: Vec<IpNet>,
    /// An autonomous system it is in; may be given several times
    #[arg(long = "asn", value_name = "N")]
    asns: Vec<Asn>,
    /// An autonomous system it is well connected to; may be given several times
    #[arg(long = "peer-asn", value_name = "N")]
    peer_asns: Vec<Asn>,
    /// Only for clients of its netblocks and autonomous systems
    #[arg(long, conflicts_with = "public")]
    private: bool,
    /// For everybody [default]
    #[arg(long)]
    public: bool,
    /// Which repositories it carries (`*` within a component, `**` across) [default: all]
    #[arg(long = "repositories", value_name = "GLOB")]
    repositories: Vec<RepoGlob>,
    /// Which of them it does not; may be given several times
    #[arg(long = "exclude-repository", value_name = "GLOB")]
    excluded_repositories: Vec<RepoGlob>,
    /// Larger blobs are not asked of it, as `5GiB` [default: any size]
    #[arg(long, value_name = "SIZE")]
    max_blob_size: Option<ByteSize>,
    /// One of the only countries it serves; may be given several times [default: all]
    #[arg(long = "allow-country", value_name = "CC")]
    allowed_countries: Vec<CountryCode>,
    /// A country it does not serve; may be given several times
    #[arg(long = "deny-country", value_name = "CC")]
    denied_countries: Vec<CountryCode>,
}

impl Fields {
    /// Puts what is given in place of what the host says; a list is replaced as a whole.
    pub(super) fn apply(self, host: &mut NewHost) {
        fn put<T>(list: &mut Vec<T>, given: Vec<T>) {
            if !given.is_empty() {
                *list = given;
            }
        }
        host.site = self.site.or_else(|| host.site.take());
        host.kind = self.kind.unwrap_or(host.kind);
        host.country = self.country.or(host.country);
        host.coordinates = self.latlong.or(host.coordinates);
        host.bandwidth = self.bandwidth.unwrap_or(host.bandwidth);
        put(&mut host.netblocks, self.netblocks);
        put(&mut host.asns, self.asns);
        put(&mut host.peer_asns, self.peer_asns);
        host.visibility = match (self.private, self.public) {
            (true, _) => Visibility::Private,
            (false, true) => Visibility::Public,
            (false, false) => host.visibility,
        };
        put(&mut host.repositories, self.repositories);
        put(&mut host.excluded_repositories, self.excluded_repositories);
        host.max_blob_size = self.max_blob_size.or(host.max_blob_size);
        put(&mut host.allowed_countries, self.allowed_countries);
        put(&mut host.denied_countries, self.denied_countries);
    }
}

/// A field that can be said nothing of, by the name of its flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Clearable {
    /// The country.
    Country,
    /// The place.
    Latlong,
    /// All netblocks.
    Netblock,
    /// All autonomous systems it is in.
    Asn,
    /// All it is well connected to.
    PeerAsn,
    /// All patterns: it carries everything.
    Repositories,
    /// Nothing is excluded.
    ExcludeRepository,
    /// Any size.
    MaxBlobSize,
    /// It serves all countries but those denied.
    AllowCountry,
    /// It denies no country.
    DenyCountry,
}

impl Clearable {
    /// Says nothing of the field any longer.
    pub(super) fn clear(self, host: &mut NewHost) {
        match self {
            Self::Country => host.country = None,
            Self::Latlong => host.coordinates = None,
            Self::Netblock => host.netblocks.clear(),
            Self::Asn => host.asns.clear(),
            Self::PeerAsn => host.peer_asns.clear(),
            Self::Repositories => host.repositories.clear(),
            Self::ExcludeRepository => host.excluded_repositories.clear(),
            Self::MaxBlobSize => host.max_blob_size = None,
            Self::AllowCountry => host.allowed_countries.clear(),
            Self::DenyCountry => host.denied_countries.clear(),
        }
    }
}
