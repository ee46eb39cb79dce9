//! When a host is crawled next.
//!
//! An interval after it was crawled last, give or take a tenth: hosts entered together would otherwise be
//! asked together for ever. The tenth follows from the name and the day, so a restart does not change it.
//! One that just failed is asked again soon, for it has no clients until it answers; one that keeps failing
//! is not.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::chance;
use crate::db::{HISTORY, Turn};
use crate::network::standing::FAILURES_TO_DISABLE;
use crate::network::{Health, HostName};

/// The part of an interval after which a failed crawl is repeated.
const SOONER: u32 = 12;

/// The least time between two crawls of a host, unless the interval is shorter.
const LEAST: Duration = Duration::from_secs(60);

/// How long a host that was crawled is let alone, whatever clients say of it.
pub const CHECK: Duration = Duration::from_secs(5 * 60);

/// The least time between two crawls of a host.
pub fn pause(interval: Duration) -> Duration {
    (interval / SOONER).max(LEAST).min(interval)
}

/// Whether it is the turn of a host.
pub fn is_due(turn: &Turn, interval: Duration, now: Timestamp) -> bool {
    // Somebody has it for himself.
    if turn
        .claimed_until
        .is_some_and(|until| until > now && until < now + HOUR)
    {
        return false;
    }
    let Some(crawled) = turn.crawled_at else {
        return true;
    };
    let is_past = |since: Timestamp, time: Duration| match age(since, now) {
        Some(age) => age >= time,
        // A crawl in the future means that the clock went back.
        None => true,
    };
    let is_rested = is_past(crawled, pause(interval));
    // A look out of turn must not put off the turn, or clients could by asking twice.
    let is_free = is_past(crawled, pause(interval).min(CHECK));
    match &turn.host.health {
        Health::Failing { crawls, .. } if *crawls < FAILURES_TO_DISABLE => is_rested,
        Health::Failing { .. } => is_past(crawled, varied(interval, &turn.host.name, crawled)),
        Health::Healthy | Health::Quarantined { .. } => {
            let finished = turn.finished_at;
            let next = |finished| is_past(finished, varied(interval, &turn.host.name, finished));
            is_free && finished.is_none_or(next)
        }
    }
}

/// Whether a host may be looked at because of what clients say of it.
pub fn may_be_checked(turn: &Turn, now: Timestamp) -> bool {
    let crawled = turn.crawled_at.and_then(|crawled| age(crawled, now));
    turn.crawled_at.is_none() || crawled.is_none_or(|age| age >= CHECK)
}

/// How much of what may be read in a day may be read now.
///
/// It is what a bucket holds that a day fills, after what the crawls until now have read, whatever these came
/// to: when they ended and how many bytes that was, the oldest first. If there were more of them than are
/// remembered, it is taken to have been empty when those begin.
pub fn budget(daily: u64, crawls: &[(Timestamp, u64)], now: Timestamp) -> u64 {
    let mut left = if crawls.len() < HISTORY.into() {
        daily
    } else {
        0
    };
    let mut since = None;
    for (ended, bytes) in crawls.iter().copied().chain([(now, 0)]) {
        let filled = since.and_then(|since| age(since, ended)).map_or(0, |age| {
            let filled = u128::from(daily) * age.as_millis() / DAY.as_millis();
            u64::try_from(filled).unwrap_or(u64::MAX)
        });
        left = left.saturating_add(filled).min(daily).saturating_sub(bytes);
        since = Some(ended);
    }
    left
}

/// The interval, give or take a tenth.
fn varied(interval: Duration, host: &HostName, since: Timestamp) -> Duration {
    let seed = chance::of_text(host.as_str());
    let turn = since.as_second().cast_unsigned() / (24 * 3600);
    let thousandths = 900 + chance::nth(seed, turn) % 201;
    let nanoseconds = interval.as_nanos() * u128::from(thousandths) / 1000;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// How long ago something was; none if it is to come.
fn age(since: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(since)).ok()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Host, HostId, NewHost};

    const INTERVAL: Duration = Duration::from_secs(3600);

    fn turn(name: &str, crawled: Option<i64>, finished: Option<i64>, failures: u32) -> Turn {
        let url = "https://m.example".parse().unwrap();
        let mut host = Host::new(HostId(1), NewHost::new(name.parse().unwrap(), vec![url]));
        if failures > 0 {
            host.health = Health::Failing {
                crawls: failures,
                reason: "refused".to_owned(),
            };
        }
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        Turn {
            host,
            crawled_at: crawled.map(at),
            finished_at: finished.map(at),
            claimed_until: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn turns_come_after_the_interval_and_sooner_after_a_failure() {
        for (crawled, finished, failures, now, due) in [
            (None, None, 0, 0, true),
            (Some(0), Some(0), 0, 3200, false),
            (Some(0), Some(0), 0, 4000, true),
            // Looked at since, because of what clients said: that does not put the turn off.
            (Some(3500), Some(0), 0, 4000, true),
            (Some(3900), Some(0), 0, 4000, false),
            // It failed.
            (Some(0), None, 1, 299, false),
            (Some(0), None, 1, 300, true),
            (Some(0), Some(-3600), 3, 300, true),
            (Some(0), Some(-3600), 4, 300, false),
            (Some(0), Some(-3600), 4, 4000, true),
            // The clock went back.
            (Some(9000), Some(9000), 0, 0, true),
        ] {
            let turn = turn("m", crawled, finished, failures);
            assert_eq!(is_due(&turn, INTERVAL, at(now)), due, "{turn:?} at {now}");
            assert!(is_due(&turn, Duration::ZERO, at(10_000)));
        }
        let mut claimed = turn("m", Some(0), Some(0), 0);
        claimed.claimed_until = Some(at(10_100));
        assert!(!is_due(&claimed, INTERVAL, at(10_000)));
        claimed.claimed_until = Some(at(999_999));
        assert!(
            is_due(&claimed, INTERVAL, at(10_000)),
            "nobody claims for so long"
        );
    }

    #[test]
    fn hosts_entered_together_spread_out() {
        let mut times: Vec<i64> = vec![0; 100];
        for round in 0..48 {
            for (number, time) in times.iter_mut().enumerate() {
                let name: HostName = format!("m{number}").parse().unwrap();
                let pause = varied(INTERVAL, &name, at(*time)).as_secs().cast_signed();
                assert!((3240..=3960).contains(&pause), "{pause}");
                *time += pause;
            }
            if round == 0 {
                let mut first = times.clone();
                first.sort_unstable();
                first.dedup();
                assert!(first.len() > 60, "{} different times", first.len());
            }
        }
        // After two days they are all over the hour.
        let mut minutes = [0; 6];
        for time in times {
            minutes[usize::try_from(time % 3600 / 600).unwrap()] += 1;
        }
        assert!(minutes.iter().all(|count| *count > 5), "{minutes:?}");
    }

    #[test]
    fn the_budget_of_a_crawl_is_what_has_gathered_in_the_day_since_whatever_came_of_those_before() {
        let mega = |crawls: &[(i64, u64)], hour: i64| {
            let crawl = |(hour, megabytes): &(i64, u64)| (at(hour * 3600), megabytes << 20);
            let crawls: Vec<_> = crawls.iter().map(crawl).collect();
            budget(2400 << 20, &crawls, at(hour * 3600)) >> 20
        };
        for (crawls, hour, megabytes) in [
            (&[][..], 0, 2400),
            (&[(0, 2400)], 0, 0),
            (&[(0, 2400)], 1, 100),
            (&[(0, 2400)], 24, 2400),
            (&[(0, 2400)], 99, 2400),
            (&[(0, 2300)], 1, 200),
            (&[(0, 2400), (1, 100), (2, 100)], 3, 100),
            (&[(0, 2000), (1, 1000)], 2, 100),
            (&[(0, 200_000)], 2, 200),
            // The clock went back.
            (&[(9, 300)], 0, 2100),
        ] {
            assert_eq!(mega(crawls, hour), megabytes, "{crawls:?} {hour}");
        }
        let many: Vec<(i64, u64)> = (0..200).map(|_| (0, 0)).collect();
        assert_eq!(mega(&many, 6), 600, "there may have been more");
    }
}
