//! The page `/metrics`: counters and the state of the snapshot, as Prometheus reads them.
//!
//! Everything is put together when the page is asked for, so that a request pays only for its atomics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::counters::{BOUNDS_US, Sums};
use super::{Kind, Observer, Outcome};
use crate::relay;
use crate::remembered::Counts;
use crate::snapshot::Snapshot;

/// The media type of the page.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What stands for all private mirrors; no name has parentheses.
const PRIVATE: &str = "(private)";

/// The page.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A page about these.
    pub fn new(observer: Arc<Observer>, snapshot: Arc<ArcSwapOption<Snapshot>>) -> Self {
        let mut registry = Registry::with_prefix("registry_proxy");
        registry.register_collector(Box::new(Requests(observer)));
        registry.register_collector(Box::new(State(snapshot)));
        Self { registry }
    }

    /// The text of the page, in the format of `OpenMetrics`.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(8 << 10);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What the requests came to.
#[derive(Debug)]
struct Requests(Arc<Observer>);

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sums = Kind::ALL.map(|kind| (kind, self.0.counters.of(kind)));
        let mut requests = encoder.encode_descriptor(
            "requests",
            "Requests by what was asked for and how it was answered",
            None,
            MetricType::Counter,
        )?;
        for (kind, sums) in &sums {
            for (outcome, count) in Outcome::ALL.iter().zip(sums.outcomes) {
                if count > 0 {
                    let labels = [("kind", kind.name()), ("outcome", outcome.name())];
                    counter(requests.encode_family(&labels)?, count)?;
                }
            }
        }
        by_kind(
            &mut encoder,
            "origin",
            "Content promised from here, by what was asked for",
            &sums,
            |sums| sums.sent_bytes,
        )?;
        by_kind(
            &mut encoder,
            "redirected",
            "Content that clients were sent to mirrors for",
            &sums,
            |sums| sums.redirected_bytes,
        )?;
        let mut durations = encoder.encode_descriptor(
            "answer_duration",
            "Time until the head of an answer was ready",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (kind, sums) in &sums {
            histogram(durations.encode_family(&[("kind", kind.name())])?, sums)?;
        }
        Ok(())
    }
}

fn counter(mut encoder: MetricEncoder<'_>, count: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

/// A counter of bytes for each kind of request that has any.
fn by_kind(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    sums: &[(Kind, Sums)],
    value: impl Fn(&Sums) -> u64,
) -> fmt::Result {
    let mut bytes =
        encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Counter)?;
    for (kind, sums) in sums {
        if value(sums) > 0 {
            counter(bytes.encode_family(&[("kind", kind.name())])?, value(sums))?;
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the bounds are small, and the last one is endless"
)]
fn histogram(mut encoder: MetricEncoder<'_>, sums: &Sums) -> fmt::Result {
    let bounds = BOUNDS_US.map(|bound| bound as f64 / 1e6);
    let ends = bounds.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = ends.zip(sums.durations).collect();
    let count = sums.durations.iter().sum();
    encoder.encode_histogram::<NoLabelSet>(sums.duration.as_secs_f64(), count, &buckets, None)
}

/// The snapshot requests are answered from.
#[derive(Debug)]
struct State(Arc<ArcSwapOption<Snapshot>>);

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.load_full();
        let ready = u64::from(snapshot.is_some());
        gauge(
            &mut encoder,
            "ready",
            "Whether there is a snapshot to answer from",
            None,
            ready,
        )?;
        let Some(snapshot) = snapshot else {
            return Ok(());
        };
        let state = snapshot.catalog.state();
        let age = |since: Timestamp| {
            let age = Timestamp::now().duration_since(since);
            u64::try_from(age.as_secs()).unwrap_or_default()
        };
        let hosts = snapshot.network.hosts().len();
        let values: [(&str, &str, Option<&Unit>, u64); 7] = [
            (
                "snapshot_age",
                "Time since the snapshot was loaded",
                Some(&Unit::Seconds),
                age(snapshot.loaded),
            ),
            (
                "tree_age",
                "Time since the tree was written",
                Some(&Unit::Seconds),
                age(state.created),
            ),
            ("tree_serial", "The serial of the tree", None, state.serial),
            (
                "tree_repositories",
                "Repositories in the tree",
                None,
                snapshot.catalog.repositories().count() as u64,
            ),
            (
                "tree_blobs",
                "Blobs in the tree",
                None,
                snapshot.catalog.blobs().in_use() as u64,
            ),
            ("mirrors", "Mirrors in the database", None, hosts as u64),
            (
                "mirrors_active",
                "Mirrors in use",
                None,
                snapshot.network.active() as u64,
            ),
        ];
        for (name, help, unit, value) in values {
            gauge(&mut encoder, name, help, unit, value)?;
        }
        let mut redirects = encoder.encode_descriptor(
            "redirects",
            "Clients sent to a mirror, by mirror",
            None,
            MetricType::Counter,
        )?;
        let hosts = snapshot.network.hosts().iter();
        let mut private = 0;
        for (host, count) in hosts.zip(snapshot.redirects.counts()) {
            if host.is_private() {
                private += count;
                continue;
            }
            let labels = [("mirror", host.name.as_str())];
            counter(redirects.encode_family(&labels)?, count)?;
        }
        // The page is for everybody, the names of private mirrors are not.
        counter(redirects.encode_family(&[("mirror", PRIVATE)])?, private)?;
        retries(&mut encoder, &snapshot.remembered.counts)?;
        streamed(&mut encoder, snapshot.policy.relay.counts())
    }
}

fn retries(encoder: &mut DescriptorEncoder<'_>, counts: &Counts) -> fmt::Result {
    let help = "Clients that came back for a blob, by where they were sent then";
    let mut retries = encoder.encode_descriptor("retries", help, None, MetricType::Counter)?;
    let answers = [
        ("mirror", &counts.to_mirrors),
        ("origin", &counts.to_origin),
    ];
    for (answer, count) in answers {
        counter(
            retries.encode_family(&[("answer", answer)])?,
            count.load(Relaxed),
        )?;
    }
    let help = "Mirrors that a client came back from, which the crawler looks at first";
    let suspects = encoder.encode_descriptor("suspects", help, None, MetricType::Counter)?;
    counter(suspects, counts.suspects.load(Relaxed))
}

fn streamed(encoder: &mut DescriptorEncoder<'_>, counts: &relay::Counts) -> fmt::Result {
    let mut bytes = encoder.encode_descriptor(
        "streamed",
        "Content checked here piece by piece for clients that are sent nowhere, by where it came from",
        Some(&Unit::Bytes),
        MetricType::Counter,
    )?;
    let sources = [
        ("mirror", &counts.from_mirrors),
        ("tree", &counts.from_tree),
    ];
    for (from, count) in sources {
        counter(bytes.encode_family(&[("from", from)])?, count.load(Relaxed))?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: u64,
) -> fmt::Result {
    encoder
        .encode_descriptor(name, help, unit, MetricType::Gauge)?
        .encode_gauge(&value)
}
