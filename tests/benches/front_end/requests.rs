//! The requests: from clients in many places, for many blobs, in no order.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use registry_proxy::geo::Geo;

use oci_mirror::digest::Algorithm;
use oci_mirror::tree::TreePath;

use super::tree::{Image, LAYERS, Shape, WITH_PIECES};

/// How many different requests there are.
const DISTINCT: usize = 40_000;

/// Requests ready to be sent, and the status that each must be answered with.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) requests: Vec<Box<[u8]>>,
    pub(crate) status: &'static str,
}

impl Pool {
    /// Blobs, without consent to a metalink.
    pub(crate) fn redirects(shape: &Shape, status: &'static str) -> anyhow::Result<Self> {
        Self::blobs(shape, status, DISTINCT)
    }

    /// So many that hardly any is there twice, to be answered as first requests of their clients.
    pub(crate) fn first(shape: &Shape, count: usize) -> anyhow::Result<Self> {
        Self::blobs(shape, "302", count)
    }

    fn blobs(shape: &Shape, status: &'static str, count: usize) -> anyhow::Result<Self> {
        Self::many(count, status, |random| {
            let (image, layer) = (Image(random.below(shape.manifests)), random.below(LAYERS));
            let (name, digest) = (image.repository(shape)?, image.layer(layer));
            Ok((format!("/v2/{name}/blobs/{digest}"), "*/*"))
        })
    }

    /// Metalinks of blobs that have pieces.
    pub(crate) fn metalinks(shape: &Shape) -> anyhow::Result<Self> {
        Self::of("200", |random| {
            let layers = shape.manifests * LAYERS;
            let layer = random.below(layers.div_ceil(WITH_PIECES)) * WITH_PIECES;
            let image = Image(layer / LAYERS);
            let (name, digest) = (image.repository(shape)?, image.layer(layer % LAYERS));
            let accept = "*/*,application/metalink4+xml,application/metalink+xml";
            Ok((format!("/v2/{name}/blobs/{digest}"), accept))
        })
    }

    /// Manifests, half of them by tag and half by digest, as docker asks for them.
    pub(crate) fn manifests(shape: &Shape) -> anyhow::Result<Self> {
        let accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, */*";
        Self::of("200", |random| {
            let image = Image(random.below(shape.manifests));
            let name = image.repository(shape)?;
            let reference = if random.below(2) == 0 {
                image.tag()?.to_string()
            } else {
                Algorithm::Sha256.digest(&image.manifest()?).to_string()
            };
            Ok((format!("/v2/{name}/manifests/{reference}"), accept))
        })
    }

    /// Manifests, as the files of a tree that they are.
    pub(crate) fn manifest_files(shape: &Shape) -> anyhow::Result<Self> {
        Self::of("200", |random| {
            let image = Image(random.below(shape.manifests));
            let path = TreePath::Blob(Algorithm::Sha256.digest(&image.manifest()?));
            Ok((format!("/{path}"), "*/*"))
        })
    }

    /// One path, from all clients.
    pub(crate) fn same(path: &'static str, status: &'static str) -> anyhow::Result<Self> {
        Self::of(status, |_| Ok((path.to_owned(), "*/*")))
    }

    fn of(
        status: &'static str,
        target: impl Fn(&mut Random) -> anyhow::Result<(String, &'static str)>,
    ) -> anyhow::Result<Self> {
        Self::many(DISTINCT, status, target)
    }

    fn many(
        count: usize,
        status: &'static str,
        target: impl Fn(&mut Random) -> anyhow::Result<(String, &'static str)>,
    ) -> anyhow::Result<Self> {
        let geo = Geo::builtin()?;
        let mut random = Random(42);
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            let (target, accept) = target(&mut random)?;
            let client = random.client(&geo);
            let mut text = String::new();
            write!(
                text,
                "GET {target} HTTP/1.1\r\nHost: registry.example.org\r\nUser-Agent: docker/27.3.1 go/go1.22.7 kernel/6.1.0 \
                 os/linux arch/amd64\r\nAccept: {accept}\r\nX-Forwarded-For: {client}\r\n\r\n"
            )?;
            requests.push(text.into_bytes().into_boxed_slice());
        }
        Ok(Self { requests, status })
    }
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or_default() % limit.max(1)
    }

    /// An address that is in use somewhere; one in eight of IPv6.
    fn client(&mut self, geo: &Geo) -> IpAddr {
        let version = self.below(8);
        loop {
            let bits = self.next();
            let address: IpAddr = if version == 0 {
                let bits = u128::from(bits) << 64 | u128::from(self.next());
                Ipv6Addr::from(bits >> 8 | 0x2a << 120).into()
            } else {
                Ipv4Addr::from((bits >> 32) as u32).into()
            };
            if geo.locate(address).country.is_some() {
                return address;
            }
        }
    }
}
