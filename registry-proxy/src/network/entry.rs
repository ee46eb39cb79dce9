//! What holds between the fields of a mirror that somebody enters; each field by itself is right by its
//! type.

use super::{Kind, NewHost, Visibility};
use crate::geo::CountryCode;

/// The most URLs of a host.
pub const MAX_URLS: usize = 16;

/// The most entries of each other list.
pub const MAX_ENTRIES: usize = 1000;

impl NewHost {
    /// The host as it is kept, with each list in its order and nothing in it twice, if it can be one.
    pub fn accepted(self) -> Result<Self, Unacceptable> {
        if self.urls.is_empty() {
            return Err(Unacceptable::NoUrl);
        }
        if self.urls.len() > MAX_URLS {
            return Err(Unacceptable::TooMany {
                list: "URLs",
                most: MAX_URLS,
            });
        }
        for (list, length) in [
            ("netblocks", self.netblocks.len()),
            ("AS numbers", self.asns.len()),
            ("peer AS numbers", self.peer_asns.len()),
            ("repository patterns", self.repositories.len()),
            ("excluded repositories", self.excluded_repositories.len()),
            ("allowed countries", self.allowed_countries.len()),
            ("denied countries", self.denied_countries.len()),
        ] {
            if length > MAX_ENTRIES {
                return Err(Unacceptable::TooMany {
                    list,
                    most: MAX_ENTRIES,
                });
            }
        }
        let sizes = 1..=i64::MAX.unsigned_abs();
        if self
            .max_blob_size
            .is_some_and(|size| !sizes.contains(&size.0))
        {
            return Err(Unacceptable::Size);
        }
        if self.kind == Kind::Cdn && self.visibility == Visibility::Private {
            return Err(Unacceptable::PrivateCdn);
        }
        let mut denied = self.denied_countries.iter();
        if let Some(country) = denied.find(|country| self.allowed_countries.contains(country)) {
            return Err(Unacceptable::Contradiction(*country));
        }
        Ok(self.in_order())
    }

    /// The same host, with the lists as the database gives them back.
    pub(crate) fn in_order(mut self) -> Self {
        self.netblocks = self.netblocks.iter().map(ipnet::IpNet::trunc).collect();
        self.netblocks.sort_by_cached_key(ToString::to_string);
        self.netblocks.dedup();
        for asns in [&mut self.asns, &mut self.peer_asns] {
            asns.sort_by_key(|asn| asn.0);
            asns.dedup();
        }
        self.peer_asns.retain(|asn| !self.asns.contains(asn));
        for countries in [&mut self.allowed_countries, &mut self.denied_countries] {
            countries.sort();
            countries.dedup();
        }
        self.denied_countries
            .retain(|country| !self.allowed_countries.contains(country));
        self
    }
}

/// Why what was entered cannot be a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// There is nowhere to fetch from.
    #[error("it has no URL")]
    NoUrl,
    /// A list is longer than any mirror needs.
    #[error("it has more than {most} {list}")]
    TooMany {
        /// Of what.
        list: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// No blob would be small enough, or the number cannot be kept.
    #[error("its largest blob must have 1 to {} bytes", i64::MAX)]
    Size,
    /// A network of many places has no clients of its own.
    #[error("a CDN cannot be private")]
    PrivateCdn,
    /// Two lists say the opposite.
    #[error("{0} is both allowed and denied")]
    Contradiction(CountryCode),
}

#[cfg(test)]
mod tests {
    use oci_mirror::size::ByteSize;

    use super::*;

    fn host() -> NewHost {
        NewHost::new(
            "m".parse().unwrap(),
            vec!["https://m.example".parse().unwrap()],
        )
    }

    #[test]
    fn what_cannot_be_a_mirror_is_refused() {
        let germany: CountryCode = "DE".parse().unwrap();
        for (host, why) in [
            (
                NewHost {
                    urls: Vec::new(),
                    ..host()
                },
                Unacceptable::NoUrl,
            ),
            (
                NewHost {
                    urls: vec!["https://m.example".parse().unwrap(); 17],
                    ..host()
                },
                Unacceptable::TooMany {
                    list: "URLs",
                    most: 16,
                },
            ),
            (
                NewHost {
                    denied_countries: vec![germany; 1001],
                    ..host()
                },
                Unacceptable::TooMany {
                    list: "denied countries",
                    most: 1000,
                },
            ),
            (
                NewHost {
                    max_blob_size: Some(ByteSize(0)),
                    ..host()
                },
                Unacceptable::Size,
            ),
            (
                NewHost {
                    max_blob_size: Some(ByteSize(u64::MAX)),
                    ..host()
                },
                Unacceptable::Size,
            ),
            (
                NewHost {
                    kind: Kind::Cdn,
                    visibility: Visibility::Private,
                    ..host()
                },
                Unacceptable::PrivateCdn,
            ),
            (
                NewHost {
                    allowed_countries: vec![germany],
                    denied_countries: vec![germany],
                    ..host()
                },
                Unacceptable::Contradiction(germany),
            ),
        ] {
            assert_eq!(host.accepted(), Err(why));
        }
    }

    #[test]
    fn lists_are_put_in_order() {
        let host = NewHost {
            netblocks: ["192.0.2.7/24", "10.0.0.0/8", "192.0.2.0/24"]
                .map(|block| block.parse().unwrap())
                .into(),
            asns: ["2", "1", "2"].map(|asn| asn.parse().unwrap()).into(),
            peer_asns: ["3", "1"].map(|asn| asn.parse().unwrap()).into(),
            ..host()
        };
        let host = host.accepted().unwrap();
        let text = format!("{:?} {:?} {:?}", host.netblocks, host.asns, host.peer_asns);
        assert_eq!(text, "[10.0.0.0/8, 192.0.2.0/24] [Asn(1), Asn(2)] [Asn(3)]");
    }
}
