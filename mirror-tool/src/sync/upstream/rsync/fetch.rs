//! Many files by one run of rsync, which are read and compared while the next ones come.

use std::collections::{HashMap, HashSet};
use std::fs;

use oci_mirror::tree::TreePath;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::output::{FORMAT, Line};
use super::run::{Ended, Limits, Until};
use super::{Patience, Rsync, disk};
use crate::sync::Wanted;
use crate::sync::progress::Progress;
use crate::sync::staging::{Identity, PARTIAL_DIRECTORY, Staging, Wrong, failed};
use crate::sync::upstream::{Error, Fetched, blocking, join};

/// Brings all of it. A run that breaks off is followed by one for what is lacking; what is wrong is asked for
/// once more, from its beginning.
pub(super) async fn run(
    rsync: &Rsync,
    mut wanted: Vec<Wanted>,
    staging: &Staging,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Fetched, Error> {
    let mut fetched = Fetched::default();
    let mut patience = Patience::new(rsync.retries);
    let mut wrong_before = HashSet::new();
    // The most bytes there were of what is right and of what was cut off: a file that is begun anew is no advance.
    let mut most = 0;
    loop {
        let fetch = Fetch {
            rsync,
            staging,
            progress,
            stop,
        };
        let began = Instant::now();
        let (ended, results) = fetch.once(wanted, &mut fetched.received).await?;
        let took = began.elapsed();
        let (mut absent, mut wrong) = (Vec::new(), Vec::new());
        let before = fetched.files;
        for (wanted, result) in results {
            match result {
                Ok(()) => {
                    fetched.files += 1;
                    fetched.bytes += wanted.size;
                }
                Err(Wrong::Disk(error)) => return Err(error.into()),
                Err(Wrong::Missing) => absent.push(wanted),
                Err(why) => wrong.push((wanted, why)),
            }
        }
        let there = fetched.bytes.saturating_add(kept(&absent, staging));
        let more = there.saturating_sub(most);
        most = most.max(there);
        if rsync.pace.is_kept(took, fetched.files - before, more) {
            patience.renew();
        }
        match ended {
            Ended::Well | Ended::InPart => {
                fetched
                    .missing
                    .extend(absent.into_iter().map(|wanted| wanted.path));
                let (again, wrong): (Vec<_>, Vec<_>) = wrong
                    .into_iter()
                    .partition(|(wanted, _)| wrong_before.insert(wanted.path.clone()));
                let wrong = wrong.into_iter().map(|(wanted, why)| (wanted.path, why));
                fetched.wrong.extend(wrong);
                if again.is_empty() {
                    return Ok(fetched);
                }
                tracing::info!(files = again.len(), "fetching again from the start");
                wanted = again.into_iter().map(|(wanted, _)| wanted).collect();
            }
            Ended::Later(why) | Ended::Slow(why) => {
                wanted = absent;
                wanted.extend(wrong.into_iter().map(|(wanted, _)| wanted));
                if wanted.is_empty() {
                    return Ok(fetched);
                }
                let goes_on = stop.run_until_cancelled(patience.wait(None)).await;
                if !goes_on.ok_or(Error::Stopped)? {
                    return Err(rsync.unreachable(why));
                }
                let files = wanted.len();
                tracing::debug!(upstream = %rsync.upstream, %why, files, "asking again");
            }
            Ended::Badly(why) => return Err(rsync.unreachable(why)),
            Ended::Disk(why) => return Err(disk(staging, why)),
        }
    }
}

/// How much there is of files that were cut off.
fn kept(absent: &[Wanted], staging: &Staging) -> u64 {
    let length = |wanted: &Wanted| {
        let path = staging.path(&wanted.path);
        let part = path
            .parent()?
            .join(PARTIAL_DIRECTORY)
            .join(path.file_name()?);
        let found = fs::symlink_metadata(part).ok()?;
        Some(found.len().min(wanted.size))
    };
    let lengths = absent.iter().filter_map(length);
    lengths.fold(0, u64::saturating_add)
}

/// What a run needs.
struct Fetch<'a> {
    rsync: &'a Rsync,
    staging: &'a Staging,
    progress: &'a Progress,
    stop: &'a CancellationToken,
}

/// What has become of each file.
type Results = Vec<(Wanted, Result<(), Wrong>)>;

impl Fetch<'_> {
    async fn once(
        &self,
        wanted: Vec<Wanted>,
        received: &mut u64,
    ) -> Result<(Ended, Results), Error> {
        let names = self.staging.directory().join("wanted");
        let mut text = String::new();
        for wanted in &wanted {
            text.push_str(&wanted.path.to_string());
            text.push('\0');
        }
        fs::write(&names, text).map_err(|source| failed(&names, source))?;
        let longest = wanted.iter().map(|wanted| wanted.size).max().unwrap_or(0);
        let mut run = self.rsync.run(
            Limits {
                file: longest,
                time: None,
                pace: Some(self.rsync.pace.for_files(wanted.len())),
            },
            Until::End,
        );
        run.options(&["--from0", "--no-implied-dirs", "--stats", FORMAT])
            .option(format!("--files-from={}", names.display()))
            .option(format!("--partial-dir={PARTIAL_DIRECTORY}"))
            .option(format!("--max-size={longest}"));
        if let Some(bandwidth) = self.rsync.bandwidth {
            run.option(format!("--bwlimit={bandwidth}"));
        }
        run.between(&self.rsync.url, self.staging.root());

        let (tell, mut told) = mpsc::unbounded_channel::<(usize, Wanted)>();
        let staging = self.staging.clone();
        // Ends with the channel, which holds no more than was wanted.
        let reader = tokio::task::spawn_blocking(move || {
            let mut results = HashMap::new();
            while let Some((number, wanted)) = told.blocking_recv() {
                let result = staging.verify_one(&wanted);
                results.insert(number, result.map(|(_, identity)| identity));
            }
            results
        });
        let numbers: HashMap<&TreePath, usize> =
            wanted.iter().map(|wanted| &wanted.path).zip(0..).collect();
        let mut last = None;
        let mut came = Came::default();
        let each = |line: Line<'_>| match line {
            Line::Received(bytes) => *received += bytes,
            Line::TooLong => {}
            Line::Came(name) => {
                let path = name.parse().ok();
                let Some(number) = path.and_then(|path: TreePath| numbers.get(&path).copied())
                else {
                    return;
                };
                if !came.note(number) {
                    return;
                }
                self.progress.came(1, wanted[number].size);
                // It gets its name after its line, and before the line of the next.
                if let Some(before) = last.replace(number) {
                    // Nobody listens only once a check has panicked, which is told below.
                    let _ = tell.send((before, wanted[before].clone()));
                }
            }
        };
        let ended = run.go(self.staging, self.stop, each).await?;
        drop(tell);
        // The next run writes its own.
        let _ = fs::remove_file(&names);
        let read = came.of_once(join(reader).await);
        let staging = self.staging.clone();
        let results = blocking(move || complete(wanted, read, &staging)).await;
        Ok((ended, results))
    }
}

/// The files that came.
#[derive(Debug, Default)]
struct Came {
    all: HashSet<usize>,
    again: HashSet<usize>,
}

impl Came {
    /// Notes that a file came; whether it did for the first time.
    fn note(&mut self, number: usize) -> bool {
        let is_first = self.all.insert(number);
        if !is_first {
            self.again.insert(number);
        }
        is_first
    }

    /// What was read of files that came once. Nobody asked for any twice, so what was read of such may not be what is
    /// there.
    fn of_once<T>(&self, mut read: HashMap<usize, T>) -> HashMap<usize, T> {
        read.retain(|number, _| !self.again.contains(number));
        read
    }
}

/// What was not read while others came is read now; so is what was not there yet, and what was right but has
/// been replaced since.
fn complete(
    wanted: Vec<Wanted>,
    read: HashMap<usize, Result<Identity, Wrong>>,
    staging: &Staging,
) -> Results {
    let mut read: HashMap<usize, Result<(), Wrong>> = read
        .into_iter()
        .filter_map(|(number, result)| match result {
            Ok(identity) if !staging.is_still(&wanted.get(number)?.path, identity) => None,
            Err(Wrong::Missing) => None,
            result => Some((number, result.map(|_| ()))),
        })
        .collect();
    let unread: Vec<(usize, &Wanted)> = (0..)
        .zip(&wanted)
        .filter(|(number, _)| !read.contains_key(number))
        .collect();
    let files: Vec<&Wanted> = unread.iter().map(|(_, wanted)| *wanted).collect();
    let results = staging.verify_all(&files);
    read.extend(unread.into_iter().map(|(number, _)| number).zip(results));
    (0..)
        .zip(wanted)
        .map(|(number, wanted)| {
            let result = read.remove(&number).unwrap_or(Err(Wrong::Missing));
            (wanted, result)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;
    use oci_mirror::tree::TreeWriter;

    use super::*;
    use crate::sync::Proof;

    #[test]
    fn what_was_read_of_a_file_that_came_again_does_not_count() {
        let mut came = Came::default();
        let first: Vec<bool> = [0, 1, 0, 2, 0].map(|number| came.note(number)).into();
        assert_eq!(first, [true, true, false, true, false]);
        let read = HashMap::from([(0, "old"), (1, "right"), (2, "right")]);
        let counts = HashMap::from([(1, "right"), (2, "right")]);
        assert_eq!(came.of_once(read), counts);
    }

    #[test]
    fn what_is_replaced_after_it_was_read_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        let wanted = |bytes: &[u8]| Wanted {
            path: TreePath::Blob(Algorithm::Sha256.digest(bytes)),
            size: bytes.len() as u64,
            proof: Proof::Name,
            time: 7,
        };
        let all = vec![wanted(b"stays"), wanted(b"swaps"), wanted(b"loses")];
        for (wanted, bytes) in all.iter().zip([b"stays", b"swaps", b"loses"]) {
            staging.place(wanted, bytes).unwrap();
        }
        let read = all.iter().map(|it| staging.verify_one(it).map(|it| it.1));
        let read = (0..).zip(read).collect();
        let swapped = staging.path(&all[1].path);
        let time = fs::metadata(&swapped).unwrap().modified().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, b"other").unwrap();
        let file = fs::File::options().write(true).open(&other).unwrap();
        file.set_modified(time).unwrap();
        fs::rename(&other, &swapped).unwrap();
        fs::remove_file(staging.path(&all[2].path)).unwrap();

        let paths: Vec<_> = all.iter().map(|it| it.path.clone()).collect();
        let results = complete(all, read, &staging);
        let [(_, stays), (_, swaps), (_, loses)] = &results[..] else {
            panic!("{results:?}");
        };
        assert!(stays.is_ok());
        assert!(matches!(swaps, Err(Wrong::Digest { .. })), "{swaps:?}");
        assert!(matches!(loses, Err(Wrong::Missing)), "{loses:?}");
        let right: Vec<_> = paths.iter().map(|path| staging.is_right(path)).collect();
        assert_eq!(right, [true, false, false]);
    }
}
