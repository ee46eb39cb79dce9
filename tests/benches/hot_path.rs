//! What one request costs where no byte is moved: parsing, choosing mirrors, rendering.
//!
//!     cargo bench --bench hot_path
//!
//! Compare the figures of one run with each other, not with another machine's: `memcpy of the document`
//! is the floor under the metalinks, and `presence` under the choice of mirrors.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use oci_mirror::accept;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::TreePath;
use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::pieces::Pieces;
use registry_proxy::geo::{Coordinates, Countries, CountryCode, Geo, Place};
use registry_proxy::metalink::{Document, Resource, file_name, v4};
use registry_proxy::network::{Host, HostId, NewHost};
use registry_proxy::presence::{Builder, HostPosition, HostSet};
use registry_proxy::select::{Client, Network, Policy, Wanted};
use registry_proxy::v2::route::Route;

const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "AU", "JP", "BR", "ZA", "SE"];

fn parsing(criterion: &mut Criterion) {
    let digest = Algorithm::Sha256.digest(b"blob").to_string();
    let path = format!("/v2/fedora/fedora-minimal/blobs/{digest}");
    criterion.bench_function("parse a digest", |bencher| {
        bencher.iter(|| black_box(&digest).parse::<Digest>());
    });
    criterion.bench_function("parse a path", |bencher| {
        bencher.iter(|| Route::parse(black_box(&path)));
    });
    criterion.bench_function("read Accept", |bencher| {
        bencher.iter(|| {
            accept::metalink([black_box(
                "*/*,application/metalink4+xml,application/metalink+xml",
            )])
        });
    });
}

fn choosing(criterion: &mut Criterion) {
    for count in [300_u32, 1000] {
        let network = Network::new((0..count).filter_map(host).collect());
        let mut presence = Builder::new(1000, count as usize);
        for position in 0..count {
            presence.add(
                HostPosition(position),
                (0..1000)
                    .filter(|blob| (blob + position) % 7 != 0)
                    .map(BlobId),
            );
        }
        let presence = presence.finish();
        let (Ok(name), Ok(country)) = ("fedora/fedora".parse(), "DE".parse::<CountryCode>()) else {
            return;
        };
        let policy = Policy {
            min_mirrors: 5,
            limit: 10,
        };
        let mut number = 0_u32;
        criterion.bench_function(&format!("order {count} mirrors"), |bencher| {
            bencher.iter(|| {
                number = number.wrapping_add(0x0101);
                let address = IpAddr::V4(Ipv4Addr::from(number));
                let client = Client {
                    address,
                    place: Place::in_country(country),
                    wanted: Countries::default(),
                };
                let wanted = Wanted {
                    verified: presence.of(BlobId(number % 1000)),
                    repository: Some(&name),
                    size: Some(16 << 20),
                };
                network.order(&client, &wanted, policy)
            });
        });
        criterion.bench_function(&format!("presence among {count} mirrors"), |bencher| {
            bencher.iter(|| {
                number = number.wrapping_add(0x0101);
                presence.of(BlobId(number % 1000)).is_empty()
            });
        });
    }
}

/// What makes an order of a thousand mirrors dear: all in one country, networks, countries asked for, and
/// two entries that share a server.
fn choosing_among_many(criterion: &mut Criterion) {
    let (Ok(name), Ok(country)) = ("fedora/fedora".parse(), "DE".parse::<CountryCode>()) else {
        return;
    };
    let all = HostSet::full(1000);
    let wanted = Wanted {
        verified: &all,
        repository: Some(&name),
        size: Some(16 << 20),
    };
    let policy = Policy {
        min_mirrors: 5,
        limit: 10,
    };
    let hosts = || (0..1000).filter_map(host).collect::<Vec<_>>();
    let at_points = |hosts: Vec<Host>| -> Vec<Host> {
        let points = (0..).map(|number: u32| {
            let step = f64::from(number % 100) / 10.0;
            Coordinates::new(45.0 + step, 5.0 + step)
        });
        let place = |(mut host, point): (Host, _)| {
            host.country = Some(country);
            host.coordinates = point;
            host
        };
        hosts.into_iter().zip(points).map(place).collect()
    };
    let mut networks = hosts();
    for (number, host) in (0..200_u32).zip(&mut networks) {
        if let Ok(block) = format!("0.0.0.0/{}", number % 8).parse() {
            host.netblocks.push(block);
        }
    }
    let mut shared = hosts();
    let urls = shared[0].urls.clone();
    shared[1].urls = urls;
    let asked = |codes: &[&str]| codes.iter().filter_map(|code| code.parse().ok()).collect();
    let none = Countries::default();
    for (what, hosts, countries) in [
        ("in one country", at_points(hosts()), none),
        ("200 with a netblock around the client", networks, none),
        (
            "for four countries asked for",
            hosts(),
            asked(&["FR", "US", "AU", "JP"]),
        ),
        ("two of one server", shared, none),
    ] {
        let network = Network::new(hosts);
        let mut number = 0_u32;
        criterion.bench_function(&format!("order 1000 mirrors, {what}"), |bencher| {
            bencher.iter(|| {
                number = number.wrapping_add(0x0101);
                let place = Place {
                    coordinates: Coordinates::new(50.0, 10.0),
                    ..Place::in_country(country)
                };
                let client = Client {
                    address: IpAddr::V4(Ipv4Addr::from(number >> 8)),
                    place,
                    wanted: countries,
                };
                network.order(&client, &wanted, policy)
            });
        });
    }
}

/// One lookup in a table of a million blobs and 300 mirrors, a fifth of which lag behind: nothing is in a
/// cache of the processor.
fn looking_up(criterion: &mut Criterion) {
    const BLOBS: u32 = 1 << 20;
    let mut presence = Builder::new(BLOBS as usize, 300);
    for position in 0..300 {
        let held = if position % 5 == 4 {
            BLOBS / 300 * (position + 1)
        } else {
            BLOBS
        };
        presence.add(HostPosition(position), (0..held).map(BlobId));
    }
    let presence = presence.finish();
    let mut number = 1_u32;
    let mut next = move || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number
    };
    criterion.bench_function("presence of one of 1M blobs", |bencher| {
        bencher.iter(|| {
            presence
                .of(BlobId(next() % BLOBS))
                .contains(HostPosition(150))
        });
    });
    let Ok(geo) = Geo::builtin() else {
        return;
    };
    criterion.bench_function("place of an address", |bencher| {
        bencher.iter(|| geo.locate(IpAddr::V4(Ipv4Addr::from(next()))));
    });
}

fn rendering(criterion: &mut Criterion) {
    let digest = Algorithm::Sha256.digest(b"blob");
    let size = 16 << 20;
    let pieces = Pieces::from_bytes(&[7; 32 * 16], size);
    let path = TreePath::Blob(digest).to_string();
    let base = |number: usize| format!("https://m{number}.example/containers/");
    let bases: Vec<String> = (0..10).map(base).collect();
    let document = Document {
        origin: format!("https://registry.example/v2/fedora/fedora/blobs/{digest}"),
        published: Timestamp::UNIX_EPOCH,
        size,
        digest: &digest,
        name: file_name(&digest).into(),
        pieces: pieces.as_ref(),
        path: &path,
        resources: (0..10).zip(&bases).map(resource).collect(),
    };
    let text = v4::render(&document);
    criterion.bench_function("render a metalink", |bencher| {
        bencher.iter(|| v4::render(black_box(&document)));
    });
    criterion.bench_function("memcpy of the document", |bencher| {
        bencher.iter(|| black_box(&text).clone());
    });
}

fn host(number: u32) -> Option<Host> {
    let name = format!("m{number}").parse().ok()?;
    let url = format!("https://m{number}.example/containers")
        .parse()
        .ok()?;
    let mut new = NewHost::new(name, vec![url]);
    new.country = COUNTRIES[number as usize % COUNTRIES.len()].parse().ok();
    Some(Host::new(HostId(number), new))
}

fn resource((number, base): (usize, &String)) -> Resource<'_> {
    Resource {
        base,
        country: COUNTRIES[number % COUNTRIES.len()].parse().ok(),
        private: false,
    }
}

criterion_group!(
    benches,
    parsing,
    looking_up,
    choosing,
    choosing_among_many,
    rendering
);
criterion_main!(benches);
