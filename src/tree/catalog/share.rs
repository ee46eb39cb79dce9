//! Work shared by the processors: reading hundreds of thousands of small files waits for the kernel more
//! than for a disk.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

/// How many items are taken at once; fewer are not worth a thread.
const BLOCK: usize = 16;

/// How many threads a server may take while it answers requests: half of the processors.
pub(super) fn half_the_processors() -> usize {
    all_processors() / 2
}

/// One thread for each processor.
pub(super) fn all_processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The results of `work` for all items, in their order.
pub(super) fn map<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let blocks: Vec<&[T]> = items.chunks(BLOCK).collect();
    let threads = threads.min(blocks.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done: Vec<(usize, Vec<R>)> = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = blocks.get(number) else {
                return done;
            };
            done.push((number, block.iter().map(&work).collect()));
        }
    };
    let mut done = thread::scope(|scope| {
        let others: Vec<ScopedJoinHandle<'_, _>> =
            (1..threads).map(|_| scope.spawn(take)).collect();
        let mut done = take();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, 16, 17, 1000] {
            let items: Vec<usize> = (0..count).collect();
            for threads in [0, 1, 2, 7] {
                assert_eq!(
                    map(&items, threads, |item| item + 1),
                    (1..=count).collect::<Vec<_>>()
                );
            }
        }
    }
}
