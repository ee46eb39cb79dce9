//! Whether anything comes of a run that may take as long as it likes.
//!
//! Any byte is a sign of life for rsync, so its own timeout ends no trickle. What its processes have read, from the
//! wire and from files that are here, is known to the system: the list of files counts, which an upstream with a slow
//! disk is long at, and so does what is compared with a beginning that is here already.
//!
//! But whoever means to hold us up may send what is nothing, as fast as is asked. So a run has an end, whatever is read
//! in it, and what it has brought until then decides whether that was an advance. Where something came, ending a run
//! costs no more than another list of files.

use std::fs;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Over how much time it is looked at.
const WINDOW: Duration = Duration::from_secs(300);

/// Least bytes per second in it.
const LEAST: u64 = 1 << 10;

/// How long a run may take, but for its list of files.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// How long it may take more for each file: an upstream with a cold disk looks for all of them before it sends the
/// first.
const EACH: Duration = Duration::from_millis(50);

/// Why a run is ended in which next to nothing was read.
const SLOW: &str = "next to nothing comes";

/// How much has to come, and in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) window: Duration,
    pub(super) least: u64,
    pub(super) longest: Duration,
}

impl Pace {
    /// What is asked of an upstream that is not to send more than so many KiB per second.
    pub(super) fn of(bandwidth: Option<u64>) -> Self {
        // Nobody is late who keeps to our own limit, even if it is a quarter of it that gets through.
        let limit = bandwidth.map_or(LEAST, |bandwidth| bandwidth.saturating_mul(1 << 8));
        Self {
            window: WINDOW,
            least: WINDOW.as_secs().saturating_mul(limit.min(LEAST)),
            longest: LONGEST,
        }
    }

    /// What is asked of a run for so many files.
    pub(super) fn for_files(self, count: usize) -> Self {
        let more = EACH.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        Self {
            longest: self.longest.saturating_add(more),
            ..self
        }
    }

    /// Whether a run that took so long was an advance, with so many files that are right and so many bytes that there
    /// never were before.
    ///
    /// What comes at the least pace is one, and so is a single file of a run that breaks off at once. In a longer one
    /// a file and a trickle is none, or it would go on like that for as long as there are files; nor is a part of a
    /// file unless it is as much as a window asks for.
    pub(super) fn is_kept(&self, took: Duration, files: u64, bytes: u64) -> bool {
        let window = self.window.as_millis().max(1);
        let asked = u128::from(self.least) * took.as_millis() / window;
        let bytes = u128::from(bytes);
        let at_once = took < self.window / 30;
        (files > 0 && (at_once || bytes >= asked)) || bytes >= asked.max(self.least.into())
    }

    /// Waits until a run of a process and its descendants is to be ended, and says why: a window has passed in which
    /// they have read next to nothing, or it has lasted long enough.
    pub(super) async fn is_lost(&self, leader: Option<u32>) -> &'static str {
        match timeout(self.longest, self.is_slow(leader)).await {
            Ok(()) => SLOW,
            Err(_) => "rsync has run for as long as it may",
        }
    }

    /// Waits until a window has passed in which next to nothing was read. Where the system does not tell, that is
    /// never.
    async fn is_slow(&self, leader: Option<u32>) {
        let Some(leader) = leader else {
            return std::future::pending().await;
        };
        loop {
            let before = bytes_read(leader);
            sleep(self.window).await;
            if let (Some(before), Some(now)) = (before, bytes_read(leader))
                && now.saturating_sub(before) < self.least
            {
                return;
            }
        }
    }
}

/// The bytes that a process and all that descend from it have read: what is called rsync may be a script that runs it.
fn bytes_read(id: u32) -> Option<u64> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let mut children = children.split_whitespace();
    children.try_fold(bytes_read_by(id)?, |sum, child| {
        Some(sum.saturating_add(bytes_read(child.parse().ok()?)?))
    })
}

fn bytes_read_by(id: u32) -> Option<u64> {
    let counters = fs::read_to_string(format!("/proc/{id}/io")).ok()?;
    let mut lines = counters.lines();
    lines.find_map(|line| line.strip_prefix("rchar: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::num::NonZeroUsize;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use oci_mirror::tree::TreeWriter;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::sync::progress::Progress;
    use crate::sync::staging::Staging;
    use crate::sync::upstream::Error;
    use crate::sync::upstream::rsync::Rsync;
    use crate::sync::{Filter, Options, Wanted};

    #[test]
    fn nobody_is_late_who_keeps_to_our_limit() {
        for (bandwidth, least) in [
            (None, 300 << 10),
            (Some(1), 75 << 10),
            (Some(3), 225 << 10),
            (Some(1 << 20), 300 << 10),
            (Some(u64::MAX), 300 << 10),
        ] {
            assert_eq!(Pace::of(bandwidth).least, least, "{bandwidth:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_descendant_reads_counts_and_silence_ends() {
        let pace = Pace {
            window: Duration::from_millis(500),
            least: 10_000,
            longest: LONGEST,
        };
        let mut leader = Command::new("/bin/sh")
            .args(["-c", "sh -c 'tr a b >/dev/null; true'; true"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = leader.stdin.take().unwrap();
        let feeds = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&feeds);
        let feeder = thread::spawn(move || {
            while goes_on.load(Ordering::Relaxed) {
                input.write_all(&[0; 4096]).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
            input
        });
        let id = Some(leader.id());
        let lost = timeout(Duration::from_millis(2200), pace.is_lost(id)).await;
        feeds.store(false, Ordering::Relaxed);
        let input = feeder.join().unwrap();
        assert!(lost.is_err(), "it was given up while it came");
        timeout(Duration::from_secs(20), pace.is_lost(id))
            .await
            .unwrap();
        drop(input);
        leader.wait().unwrap();
    }

    #[test]
    fn many_files_are_given_the_time_to_be_looked_for() {
        let pace = Pace::of(None);
        let longest = |count| pace.for_files(count).longest;
        assert_eq!(longest(0), LONGEST);
        // Ninety a second, as a cold disk finds them, are done well before.
        assert!(longest(2_000_000) > Duration::from_secs(2_000_000 / 90));
        assert!(longest(usize::MAX) > longest(5_000_000));
    }

    #[test]
    fn in_a_longer_time_one_file_is_no_advance() {
        let pace = Pace::of(None);
        for (seconds, files, bytes, is_kept) in [
            (0, 0, 0, false),
            (9, 1, 0, true),
            (9, 0, (300 << 10) - 1, false),
            (9, 0, 300 << 10, true),
            (10, 1, 10 * 1023, false),
            (10, 1, 10 << 10, true),
            (299, 0, 300 << 10, true),
            (299, 1, 299 * 1023, false),
            (299, 1, 299 << 10, true),
            (300, 1, (300 << 10) - 1, false),
            (300, 0, 300 << 10, true),
            (6 * 3600, 9, 21_600 * 1023, false),
            (6 * 3600, 0, 21_600 << 10, true),
        ] {
            let took = Duration::from_secs(seconds);
            assert_eq!(
                pace.is_kept(took, files, bytes),
                is_kept,
                "{seconds} {bytes}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_has_an_end_where_the_system_does_not_tell() {
        let began = tokio::time::Instant::now();
        Pace::of(None).is_lost(None).await;
        assert_eq!(began.elapsed().as_secs(), LONGEST.as_secs());
    }

    /// Speaks as a daemon does, up to the list of files.
    fn greet(client: &mut TcpStream) -> std::io::Result<()> {
        client.write_all(b"@RSYNCD: 31.0\n")?;
        let mut lines = BufReader::new(client.try_clone()?);
        // Its version, and the module.
        for _ in 0..2 {
            lines.read_line(&mut String::new())?;
        }
        client.write_all(b"@RSYNCD: OK\n")?;
        // No special habits, no seed.
        client.write_all(&[0, 0, 0, 0, 0])
    }

    /// Greets, and has the name of the first file come a byte at a time.
    fn trickle(mut client: TcpStream) -> std::io::Result<()> {
        greet(&mut client)?;
        // The beginning of a long message: a name of 4000 bytes.
        client.write_all(&[0xff, 0xff, 0, 7, 0x40, 0x8f, 0xa0])?;
        loop {
            client.write_all(b"a")?;
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Greets, and says nothing as often as it can.
    fn say_nothing(mut client: TcpStream) -> std::io::Result<()> {
        greet(&mut client)?;
        loop {
            client.write_all(&[0, 0, 0, 7 + 42].repeat(1000))?;
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn options() -> Options {
        Options {
            from: Vec::new(),
            tree: "/nowhere".into(),
            filter: Filter::default(),
            grace: Duration::ZERO,
            bandwidth: None,
            jobs: NonZeroUsize::MIN,
            retries: 1,
            accept_shrink: false,
            accept_older: false,
            check: false,
            max_entries: 10,
            static_v2: None,
            report: None,
            tls_ca: None,
            dry_run: false,
            now: None,
            shutdown: CancellationToken::new(),
        }
    }

    /// Whom nobody waits for longer than two seconds; what it has been asked is counted.
    fn start(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> (Rsync, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rsync://{}/tree", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                let serve = serve.clone();
                thread::spawn(move || serve(client.unwrap()));
            }
        });
        let mut rsync = Rsync::new(&url.parse().unwrap(), "it", &options());
        assert_eq!(rsync.pace, Pace::of(None));
        rsync.pace.window = Duration::from_secs(2);
        (rsync, asked)
    }

    /// Fetches until it is given up, and says why.
    async fn fetch_in_vain(rsync: &Rsync, wanted: Vec<Wanted>, staging: &Staging) -> Box<str> {
        let (progress, stop) = (Progress::default(), CancellationToken::new());
        let fetch = rsync.fetch(wanted, staging, &progress, &stop);
        let fetched = timeout(Duration::from_secs(60), fetch).await;
        match fetched.expect("it holds the run for ever") {
            Err(Error::Unreachable { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_daemon_that_trickles_is_asked_again_and_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        // Whoever has waited enough hangs up.
        let (rsync, asked) = start(|client| drop(trickle(client)));
        let why = fetch_in_vain(&rsync, vec![Wanted::blob(b"bytes")], &staging).await;
        assert_eq!(&*why, SLOW);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_daemon_that_says_nothing_fast_enough_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        let (mut rsync, asked) = start(|client| drop(say_nothing(client)));
        rsync.pace.least = 1000;
        rsync.pace.longest = Duration::from_secs(5);
        let why = fetch_in_vain(&rsync, vec![Wanted::blob(b"bytes")], &staging).await;
        assert_eq!(&*why, "rsync has run for as long as it may");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    /// Passes on so many bytes of what a daemon says at once, and the rest one at a time.
    fn slow_down(client: &TcpStream, daemon: &mut Command, at_once: u64) -> std::io::Result<()> {
        let (here, there) = std::os::unix::net::UnixStream::pair()?;
        let input = Stdio::from(std::os::fd::OwnedFd::from(there.try_clone()?));
        let output = Stdio::from(std::os::fd::OwnedFd::from(there));
        let mut daemon = daemon.stdin(input).stdout(output).spawn()?;
        let (mut asks, mut told) = (client.try_clone()?, here.try_clone()?);
        thread::spawn(move || std::io::copy(&mut asks, &mut told));
        let mut client = client.try_clone()?;
        std::io::copy(&mut (&here).take(at_once), &mut client)?;
        let mut byte = [0];
        while (&here).read(&mut byte)? > 0 && client.write_all(&byte).is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
        daemon.kill()?;
        daemon.wait().map(drop)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_slows_down_each_time_is_given_up_and_what_it_brought_stays() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        let upstream = dir.path().join("upstream");
        let all: Vec<Wanted> = (0..5_u8)
            .map(|number| {
                let bytes = vec![number; 30_000];
                let wanted = Wanted::blob(&bytes);
                let path = wanted.path.under(&upstream);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
                wanted
            })
            .collect();
        let config = dir.path().join("rsyncd.conf");
        let text = format!("use chroot = no\n[tree]\npath = {}\n", upstream.display());
        fs::write(&config, text).unwrap();
        let (mut rsync, asked) = start(move |client| {
            let mut daemon = Command::new("rsync");
            daemon
                .args(["--server", "--daemon", "--config"])
                .arg(&config)
                .arg(".");
            // Whoever has waited enough hangs up.
            drop(slow_down(&client, &mut daemon, 40_000));
        });
        // Time enough for the first file, even where much else is at work.
        rsync.pace.window = Duration::from_secs(5);
        let why = fetch_in_vain(&rsync, all.clone(), &staging).await;
        assert_eq!(&*why, SLOW);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let right = all.iter().filter(|it| staging.is_right(&it.path)).count();
        assert_eq!(right, 2);
    }
}
