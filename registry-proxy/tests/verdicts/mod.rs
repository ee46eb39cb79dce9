//! Bytes and what is said of them: hostile mirrors, samples, probes, quarantine.

mod probes;
mod quarantine;
mod samples;

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::{Catalog, Tree};
use registry_proxy::crawler::Depth;
use registry_proxy::crawler::check::Mirror;
use registry_proxy::crawler::end::End;
use registry_proxy::crawler::guard::Policy;
use registry_proxy::crawler::pace::Pace;
use registry_proxy::crawler::sample::{Found, Task, sample};
use registry_proxy::crawler::wire::Wire;
use registry_proxy::db::{Known, Verdict};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, IMPATIENT, name, noise, waiting};

/// A layer with this many bytes has four pieces.
const BIG: usize = (3 << 20) + 5;

const MIB: u64 = 1 << 20;

/// A bench with one more image, of which one layer has pieces; and that layer.
fn with_pieces() -> (Bench, Digest) {
    let (bench, layer) = (Bench::new(), noise(BIG));
    bench.publish("big", &[&layer]);
    (bench, Algorithm::Sha256.digest(&layer))
}

fn wire() -> Wire {
    Wire::new(&waiting(IMPATIENT)).unwrap()
}

fn pace() -> Arc<Pace> {
    Arc::new(Pace::new(None, None))
}

fn mirror() -> Mirror {
    wire().mirror(Policy::Any, pace())
}

/// A host whose bytes are to be sampled.
struct Scene<'a> {
    bench: &'a Bench,
    catalog: Arc<Catalog>,
    present: Vec<BlobId>,
    known: Known,
    first: Vec<BlobId>,
    budget: u64,
    depth: Depth,
    seed: u64,
}

impl<'a> Scene<'a> {
    /// Everything is there, and nothing was ever read.
    fn new(bench: &'a Bench) -> Self {
        let catalog = bench.catalog();
        let count = u32::try_from(catalog.blobs().len()).unwrap();
        Self {
            bench,
            present: (0..count).map(BlobId).collect(),
            known: Known {
                read: vec![None; catalog.blobs().len()],
                ..Known::default()
            },
            catalog,
            first: Vec::new(),
            budget: 1 << 30,
            depth: Depth::Incremental,
            seed: 1,
        }
    }

    /// Only this blob is there.
    fn of(bench: &'a Bench, digest: &Digest) -> Self {
        let scene = Self::new(bench);
        let present = vec![scene.id(digest)];
        Self { present, ..scene }
    }

    fn id(&self, digest: &Digest) -> BlobId {
        self.catalog.id(digest).unwrap()
    }

    async fn sample(&self) -> Found {
        self.sample_with(&mut mirror()).await
    }

    async fn sample_with(&self, mirror: &mut Mirror) -> Found {
        let host = self.bench.database().host(&name("m")).unwrap().host;
        let tree = Tree::open(&self.bench.tree()).unwrap();
        let task = Task {
            host: &host,
            catalog: &self.catalog,
            tree: &tree,
            present: &self.present,
            known: &self.known,
            first: &self.first,
            popular: &[],
            budget: self.budget,
            depth: self.depth,
            today: Date::constant(2026, 11, 21),
            seed: self.seed,
            end: &End::new(
                Instant::now() + Duration::from_secs(60),
                CancellationToken::new(),
            ),
        };
        sample(mirror, &task).await
    }
}

/// The verdict on the one blob of which there is one.
#[track_caller]
fn verdict(found: &Found) -> Verdict {
    let [(_, verdict)] = &found.verdicts[..] else {
        panic!("{found:?}");
    };
    *verdict
}
