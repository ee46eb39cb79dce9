//! What an export and a check of a tree cost, beside what they cannot cost less than.
//!
//!     cargo bench --bench export
//!
//! Everything happens in this process: a front end serves a tree, and the export copies it into
//! another one. The server's time is in the figures of the exports and of their limits alike, so compare
//! each with the limit of its group and not with another machine's. `tests/benches/peers` is the
//! measurement with a real registry, where only the client's own time counts.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use jiff::Timestamp;
use mirror_tool::export::{self, Options, Order};
use mirror_tool::verify;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::registry::client;
use oci_mirror::tree::blob_hash::BlobHasher;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{TreePath, TreeWriter};
use registry_proxy::config::{Config, Crawler};
use registry_proxy::server::FrontEnd;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Images of the case of many small ones, and of the case where nothing has changed.
const SMALL: usize = 200;
const SMALL_SIZE: usize = 4 << 10;
const LARGE_SIZE: usize = 64 << 20;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().context("no runtime")?;
    let small = Source::start(&runtime, SMALL, SMALL_SIZE)?;
    let large = Source::start(&runtime, 1, LARGE_SIZE)?;

    let mut group = group(&mut criterion, "unchanged tree, 200 tags");
    let done = TempDir::new()?;
    runtime.block_on(small.export_to(done.path()))?;
    bench(&mut group, "export", || {
        runtime.block_on(small.export_to(done.path()))
    });
    bench(&mut group, "limit: HEAD of each tag", || {
        runtime.block_on(small.head_all())
    });
    group.finish();

    let mut group = self::group(&mut criterion, "200 images of 4 KiB");
    bench_export(&mut group, &small, &runtime);
    bench(&mut group, "limit: GET of the same", || {
        runtime.block_on(small.get_all())
    });
    group.finish();

    let mut group = self::group(&mut criterion, "one blob of 64 MiB");
    group.throughput(Throughput::Bytes(LARGE_SIZE as u64));
    bench_export(&mut group, &large, &runtime);
    bench(&mut group, "limit: GET of the same", || {
        runtime.block_on(large.get_all())
    });
    group.finish();

    hashing(&mut criterion, &large)?;
    small.stop(&runtime);
    large.stop(&runtime);
    criterion.final_summary();
    Ok(())
}

/// Hashing is what a check consists of, on as many cores as there are; one blob keeps one core busy.
fn hashing(criterion: &mut Criterion, large: &Source) -> Result<()> {
    let blob = TreePath::Blob(large.layers[0]).under(large.tree.path());
    let bytes = std::fs::read(blob).context("the blob just made is gone")?;
    let mut group = group(criterion, "verify one blob of 64 MiB");
    group.throughput(Throughput::Bytes(LARGE_SIZE as u64));
    bench(&mut group, "verify", || verify::run(large.tree.path()));
    bench(&mut group, "digest and pieces", || {
        let mut hasher = BlobHasher::new(Algorithm::Sha256, bytes.len() as u64);
        hasher.update(black_box(&bytes));
        anyhow::Ok(hasher.finish())
    });
    bench(&mut group, "limit: digest alone", || {
        anyhow::Ok(Algorithm::Sha256.digest(black_box(&bytes)))
    });
    group.finish();
    Ok(())
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    // Disks and schedulers make the noise here, and no number of runs takes it away.
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5));
    group
}

fn bench<T>(group: &mut BenchmarkGroup<WallTime>, name: &str, mut work: impl FnMut() -> Result<T>) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| done(work()));
    });
}

/// Each time into a tree of its own.
fn bench_export(group: &mut BenchmarkGroup<WallTime>, source: &Source, runtime: &Runtime) {
    group.bench_function("export", |bencher| {
        bencher.iter_batched(
            || done(TempDir::new().map_err(Into::into)),
            |tree| {
                done(runtime.block_on(source.export_to(tree.path())));
                tree
            },
            BatchSize::PerIteration,
        );
    });
}

/// A figure of something that failed is none.
fn done<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:#}"),
    }
}

/// A registry, in this process, with one repository.
struct Source {
    tree: TempDir,
    address: String,
    manifests: Vec<Digest>,
    layers: Vec<Digest>,
    client: reqwest::Client,
    shutdown: CancellationToken,
    running: JoinSet<()>,
}

const NAME: &str = "bench/images";

impl Source {
    fn start(runtime: &Runtime, images: usize, layer_size: usize) -> Result<Self> {
        let tree = TempDir::new()?;
        let (manifests, layers) = fill(tree.path(), images, layer_size)?;
        let config = Config {
            listen: vec!["127.0.0.1:0".parse()?],
            tree: tree.path().to_owned(),
            database: tree.path().with_extension("none"),
            crawler: Crawler {
                enabled: false,
                ..Crawler::default()
            },
            ..Config::default()
        };
        let front_end = runtime.block_on(FrontEnd::bind(&config))?;
        let address = front_end.local_addresses()[0].to_string();
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn_on(front_end.run(shutdown.clone()), runtime.handle());
        Ok(Self {
            tree,
            address,
            manifests,
            layers,
            client: reqwest::Client::builder().no_proxy().build()?,
            shutdown,
            running,
        })
    }

    fn stop(self, runtime: &Runtime) {
        self.shutdown.cancel();
        runtime.block_on(self.running.join_all());
    }

    async fn export_to(&self, tree: &Path) -> Result<()> {
        let source: export::source::Source = format!("{}/{NAME}", self.address).parse()?;
        let options = Options {
            tree: tree.to_owned(),
            orders: vec![Order::from(source)],
            connection: client::Options {
                plain_http: true,
                ..client::Options::default()
            },
            ..Options::default()
        };
        let report = export::run(options).await?;
        let failed = report.images.iter().find_map(|image| image.error.as_ref());
        anyhow::ensure!(failed.is_none() && !report.images.is_empty(), "{failed:?}");
        Ok(())
    }

    async fn head_all(&self) -> Result<()> {
        for number in 0..self.manifests.len() {
            let url = self.url(&format!("manifests/v{number}"));
            let answer = self.client.head(url).send().await?;
            answer.error_for_status()?;
        }
        Ok(())
    }

    async fn get_all(&self) -> Result<()> {
        let manifests = self.manifests.iter().map(|it| format!("manifests/{it}"));
        let layers = self.layers.iter().map(|it| format!("blobs/{it}"));
        for rest in manifests.chain(layers) {
            let answer = self.client.get(self.url(&rest)).send().await?;
            let mut answer = answer.error_for_status()?;
            while let Some(chunk) = answer.chunk().await? {
                black_box(chunk);
            }
        }
        Ok(())
    }

    fn url(&self, rest: &str) -> String {
        format!("http://{}/v2/{NAME}/{rest}", self.address)
    }
}

/// Publishes images of one layer each; returns their manifests and layers.
fn fill(root: &Path, images: usize, layer_size: usize) -> Result<(Vec<Digest>, Vec<Digest>)> {
    let writer = TreeWriter::open(root)?;
    let stage = |media_type: MediaType, bytes: &[u8]| -> Result<Descriptor> {
        let digest = Algorithm::Sha256.digest(bytes);
        writer.stage_bytes(digest, bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    };
    let config = stage("application/vnd.oci.empty.v1+json".parse()?, b"{}")?;
    let mut published = Vec::new();
    let (mut manifests, mut layers) = (Vec::new(), Vec::new());
    for number in 0..images {
        let layer = stage(
            "application/vnd.oci.image.layer.v1.tar".parse()?,
            &noise(number, layer_size),
        )?;
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer],
        }))?;
        let root = stage(MediaType::OCI_MANIFEST, &manifest)?;
        manifests.push(root.digest);
        layers.push(layer.digest);
        published.push(Image {
            repo: NAME.parse()?,
            tag: Some(format!("v{number}").parse()?),
            reach: vec![config.digest, layer.digest, root.digest],
            tag_referrers: None,
            root,
        });
    }
    writer.publish(&published)?;
    writer.finish(Timestamp::UNIX_EPOCH)?;
    Ok((manifests, layers))
}

/// Bytes that differ from layer to layer.
fn noise(seed: usize, size: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}
