//! Statistics of use: what is pulled, from which country, and which mirror took the load.
//!
//! A request that counts leaves a small record in a bounded queue and goes on; a task adds the records
//! up and, once an interval, hands one JSON object to a file or a command. No address of a client gets
//! as far as the queue. A record for which there is no room is counted as dropped, never waited for. Who is
//! told may change meanwhile; while that is nobody, no record is made.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::reference::RepoName;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Event, Kind, Outcome};
use crate::geo::CountryCode;
use crate::hook;
use crate::network::HostName;
use crate::snapshot::Snapshot;

/// How many records wait to be added up: a tenth of a second of more requests than two cores answer.
const QUEUE: usize = 16_384;

/// How often the queue is emptied.
const TICK: Duration = Duration::from_millis(50);

/// Most rows in one interval; what does not fit is added to the row of no repository.
const MAX_ROWS: usize = 100_000;

/// How long all of it may take once the front end has stopped: less than service managers wait.
const LAST_TIME: Duration = Duration::from_secs(8);

/// Where statistics go, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Time between two reports.
    pub interval: Duration,
    /// A file that gets a line for each report; opened anew each time, so it may be moved away.
    pub file: Option<PathBuf>,
    /// A program and its arguments that gets each report on its standard input.
    pub command: Vec<String>,
}

/// What one request leaves behind.
#[derive(Debug)]
struct Record {
    repository: RepoName,
    country: Option<CountryCode>,
    mirror: Option<HostName>,
    kind: Kind,
    outcome: Outcome,
    redirected_bytes: u64,
    sent_bytes: u64,
}

/// Where requests leave their records.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Whether there is somebody to tell.
    wanted: Arc<AtomicBool>,
    sink: watch::Sender<Option<Sink>>,
    records: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// The end at which they are added up.
#[derive(Debug)]
pub struct Collector {
    sink: watch::Receiver<Option<Sink>>,
    records: mpsc::Receiver<Record>,
    dropped: Arc<AtomicU64>,
    report: Report,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Report {
    since: Timestamp,
    until: Timestamp,
    /// Records there was no room for.
    dropped: u64,
    #[serde(serialize_with = "rows")]
    pulls: BTreeMap<(Option<RepoName>, Option<CountryCode>), Use>,
    mirrors: BTreeMap<HostName, Load>,
}

/// What was asked of one repository from one country.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
struct Use {
    /// Tags looked up: about one for each pull by tag.
    tags: u64,
    /// Manifests sent.
    manifests: u64,
    /// Blobs asked for.
    blobs: u64,
    /// Blobs for which a client was sent to a mirror.
    redirects: u64,
    /// Metalinks sent.
    metalinks: u64,
    /// Bytes clients were sent to mirrors for.
    redirected_bytes: u64,
    /// Bytes sent from here.
    sent_bytes: u64,
}

/// What one mirror was given to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
struct Load {
    redirects: u64,
    bytes: u64,
}

/// Why a collector no longer reports where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is the end of all.
    Shutdown,
    /// Somebody else is to be told.
    Change,
}

/// The two ends of the queue; without a sink nothing is put into it yet.
pub fn queue(sink: Option<Sink>) -> (Sender, Collector) {
    let (sender, records) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let wanted = Arc::new(AtomicBool::new(sink.is_some()));
    let (sinks, sink) = watch::channel(sink);
    let collector = Collector {
        sink,
        records,
        dropped: Arc::clone(&dropped),
        report: Report::beginning(Timestamp::now()),
    };
    (
        Sender {
            wanted,
            sink: sinks,
            records: sender,
            dropped,
        },
        collector,
    )
}

impl Sender {
    /// From now on tells somebody else, or nobody; what was added up so far is for whoever was told before.
    pub fn report_to(&self, sink: Option<Sink>) {
        let is_wanted = sink.is_some();
        let is_other = |told: &mut Option<Sink>| {
            let is_other = *told != sink;
            *told = sink;
            is_other
        };
        self.sink.send_if_modified(is_other);
        self.wanted.store(is_wanted, Relaxed);
    }

    /// Leaves a record of a request that was for something the tree has.
    pub fn request(&self, event: &Event<'_>, snapshot: Option<&Snapshot>) {
        if !self.wanted.load(Relaxed) {
            return;
        }
        let (Some(repository), Some(snapshot)) = (event.repository, snapshot) else {
            return;
        };
        let served = matches!(
            event.outcome,
            Outcome::Content | Outcome::Redirect | Outcome::Metalink | Outcome::NotModified
        );
        if !served || !matches!(event.kind, Kind::Tag | Kind::Manifest | Kind::Blob) {
            return;
        }
        let place = event
            .client
            .address()
            .map(|client| snapshot.geo.locate(client));
        let mirror = event
            .mirror
            .map(|mirror| snapshot.network.host(mirror).name.clone());
        let record = Record {
            repository: repository.clone(),
            country: place.and_then(|place| place.country),
            mirror,
            kind: event.kind,
            outcome: event.outcome,
            redirected_bytes: event.redirected_bytes,
            sent_bytes: event.sent_bytes,
        };
        self.leave(record);
    }

    fn leave(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Collector {
    /// Adds up and reports until `shutdown`, and once more then.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let sink = self.sink.borrow_and_update().clone();
            if let Some(sink) = sink {
                match self.report(&sink, &shutdown).await {
                    End::Shutdown => return,
                    End::Change => continue,
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.sink.changed() => {}
            }
            // The first report begins here.
            drop(self.take());
        }
    }

    /// Reports to one sink until there is another or the end, and once more then.
    async fn report(&mut self, sink: &Sink, shutdown: &CancellationToken) -> End {
        let mut due = Instant::now() + sink.interval;
        // One at a time. What comes meanwhile is added up, and waits for the next.
        let mut delivery = JoinSet::new();
        loop {
            let last = tokio::select! {
                () = shutdown.cancelled() => Some(End::Shutdown),
                Ok(()) = self.sink.changed() => Some(End::Change),
                // Not woken by each record: that would cost the request more than the record itself.
                () = tokio::time::sleep(TICK) => None,
            };
            while let Ok(record) = self.records.try_recv() {
                self.report.add(record);
            }
            if let Some(end) = last {
                let ending = async {
                    while delivery.join_next().await.is_some() {}
                    deliver(sink.clone(), self.take()).await;
                };
                if timeout(LAST_TIME, ending).await.is_err() {
                    warn!("the last statistics were not taken in time");
                }
                return end;
            }
            while delivery.try_join_next().is_some() {}
            if delivery.is_empty() && Instant::now() >= due {
                due = Instant::now() + sink.interval;
                delivery.spawn(deliver(sink.clone(), self.take()));
            }
        }
    }

    /// The report so far; the next begins.
    fn take(&mut self) -> Report {
        let now = Timestamp::now();
        let report = std::mem::replace(&mut self.report, Report::beginning(now));
        Report {
            until: now,
            dropped: self.dropped.swap(0, Relaxed),
            ..report
        }
    }
}

/// Hands a report to whoever is to have it.
async fn deliver(sink: Sink, report: Report) {
    let mut line = match serde_json::to_vec(&report) {
        Ok(line) => line,
        Err(error) => {
            warn!(%error, "cannot write the statistics of this interval");
            return;
        }
    };
    line.push(b'\n');
    if let Some(path) = sink.file {
        let bytes = line.clone();
        let append = move || {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true);
            options.open(&path)?.write_all(&bytes)
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(append).await {
            warn!(%error, "cannot append to the file of statistics");
        }
    }
    if let Err(error) = hook::tell(&sink.command, &line).await {
        let error = &error as &dyn std::error::Error;
        warn!(error, "the command for statistics did not take them");
    }
}

impl Report {
    fn beginning(now: Timestamp) -> Self {
        Self {
            since: now,
            until: now,
            dropped: 0,
            pulls: BTreeMap::new(),
            mirrors: BTreeMap::new(),
        }
    }

    fn add(&mut self, record: Record) {
        let mut key = (Some(record.repository), record.country);
        if self.pulls.len() >= MAX_ROWS && !self.pulls.contains_key(&key) {
            key = (None, None);
        }
        let row = self.pulls.entry(key).or_default();
        match record.kind {
            Kind::Tag => row.tags += 1,
            Kind::Blob => row.blobs += 1,
            _ => {}
        }
        match record.outcome {
            Outcome::Redirect => row.redirects += 1,
            Outcome::Metalink => row.metalinks += 1,
            Outcome::Content if record.kind != Kind::Blob && record.sent_bytes > 0 => {
                row.manifests += 1;
            }
            _ => {}
        }
        row.redirected_bytes += record.redirected_bytes;
        row.sent_bytes += record.sent_bytes;
        if let Some(mirror) = record.mirror {
            let load = self.mirrors.entry(mirror).or_default();
            load.redirects += 1;
            load.bytes += record.redirected_bytes;
        }
    }
}

/// The rows as a list, since a pair is no key in JSON.
fn rows<S: serde::Serializer>(
    rows: &BTreeMap<(Option<RepoName>, Option<CountryCode>), Use>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        repository: Option<&'a str>,
        country: Option<CountryCode>,
        #[serde(flatten)]
        used: &'a Use,
    }
    serializer.collect_seq(rows.iter().map(|((repository, country), used)| Row {
        repository: repository.as_ref().map(RepoName::as_str),
        country: *country,
        used,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, outcome: Outcome) -> Record {
        Record {
            repository: "fedora/fedora".parse().unwrap(),
            country: "DE".parse().ok(),
            mirror: (outcome == Outcome::Redirect).then(|| "m1".parse().unwrap()),
            kind,
            outcome,
            redirected_bytes: if outcome == Outcome::Redirect { 100 } else { 0 },
            sent_bytes: if outcome == Outcome::Content { 7 } else { 0 },
        }
    }

    #[tokio::test]
    async fn a_report_is_one_line_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let (file, copy) = (dir.path().join("s.jsonl"), dir.path().join("copy"));
        let sink = Sink {
            interval: Duration::from_secs(3600),
            file: Some(file.clone()),
            command: vec!["tee".to_owned(), copy.display().to_string()],
        };
        let (sender, collector) = queue(Some(sink));
        for (kind, outcome) in [
            (Kind::Tag, Outcome::Content),
            (Kind::Manifest, Outcome::Content),
            (Kind::Blob, Outcome::Redirect),
            (Kind::Blob, Outcome::Metalink),
            (Kind::Blob, Outcome::Content),
        ] {
            sender.leave(record(kind, outcome));
        }
        sender.dropped.fetch_add(3, Relaxed);
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        collector.run(shutdown).await;
        let line = std::fs::read_to_string(&file).unwrap();
        assert_eq!(line, std::fs::read_to_string(copy).unwrap());
        let report: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(report["dropped"], 3);
        assert_eq!(
            report["pulls"],
            serde_json::json!([{
                "repository": "fedora/fedora", "country": "DE", "tags": 1, "manifests": 2, "blobs": 3,
                "redirects": 1, "metalinks": 1, "redirected_bytes": 100, "sent_bytes": 21,
            }])
        );
        assert_eq!(
            report["mirrors"],
            serde_json::json!({"m1": {"redirects": 1, "bytes": 100}})
        );
    }

    #[tokio::test]
    async fn whoever_is_told_no_more_gets_what_was_added_up_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let sink = |name: &str| Sink {
            interval: Duration::from_secs(3600),
            file: Some(dir.path().join(name)),
            command: Vec::new(),
        };
        let blobs = async |name: &str| {
            for _ in 0..500 {
                if let Ok(text) = std::fs::read_to_string(dir.path().join(name))
                    && text.ends_with('\n')
                {
                    assert_eq!(text.lines().count(), 1, "{text}");
                    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
                    return report["pulls"][0]["blobs"].as_u64();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("there is no report in {name}");
        };
        let (sender, collector) = queue(None);
        let added_up = async || {
            while sender.records.capacity() < QUEUE {
                tokio::time::sleep(TICK).await;
            }
        };
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(collector.run(shutdown.clone()));

        sender.report_to(Some(sink("first")));
        assert!(sender.wanted.load(Relaxed));
        sender.leave(record(Kind::Blob, Outcome::Content));
        sender.leave(record(Kind::Blob, Outcome::Content));
        added_up().await;
        // The same again is no change, and no report.
        sender.report_to(Some(sink("first")));
        sender.leave(record(Kind::Blob, Outcome::Content));
        added_up().await;
        sender.report_to(Some(sink("second")));
        assert_eq!(blobs("first").await, Some(3));
        sender.leave(record(Kind::Blob, Outcome::Content));
        added_up().await;
        sender.report_to(None);
        assert!(!sender.wanted.load(Relaxed));
        assert_eq!(blobs("second").await, Some(1));
        shutdown.cancel();
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_says_so() {
        let (sender, _collector) = queue(None);
        while sender
            .records
            .try_send(record(Kind::Tag, Outcome::Content))
            .is_ok()
        {}
        assert_eq!(sender.records.max_capacity(), QUEUE);
    }
}
