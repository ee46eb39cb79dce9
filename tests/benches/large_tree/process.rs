//! Time and memory of this process, as the kernel counts them.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// What something took.
#[derive(Debug)]
pub(crate) struct Measured {
    wall: Duration,
    cpu: Duration,
    /// Resident memory afterwards and its peak meanwhile, in bytes.
    resident: u64,
    peak: u64,
}

/// Does something, and says what it took.
pub(crate) fn measure<T, E>(what: impl FnOnce() -> Result<T, E>) -> anyhow::Result<(T, Measured)>
where
    anyhow::Error: From<E>,
{
    // 5 sets the peak back to what is resident now; without the right to, the peak is that of the process.
    drop(std::fs::write("/proc/self/clear_refs", "5"));
    let (began, cpu) = (Instant::now(), cpu()?);
    let result = what()?;
    let measured = Measured {
        wall: began.elapsed(),
        cpu: self::cpu()?.saturating_sub(cpu),
        resident: resident()?,
        peak: status("VmHWM:")?,
    };
    Ok((result, measured))
}

impl Measured {
    pub(crate) fn tell(&self, what: &str) {
        println!(
            "{what:32} {:>9.3} s   CPU {:>7.2} s   resident {:>5} MB   peak {:>5} MB",
            self.wall.as_secs_f64(),
            self.cpu.as_secs_f64(),
            self.resident >> 20,
            self.peak >> 20,
        );
    }

    /// The same for something that was done `count` times.
    pub(crate) fn tell_each(&self, what: &str, count: usize) {
        let each = self.wall.as_nanos() / count.max(1) as u128;
        println!("{what:32} {each:>9} ns each");
    }
}

/// The resident memory of this process, in bytes.
pub(crate) fn resident() -> anyhow::Result<u64> {
    status("VmRSS:")
}

/// The processor time of this process, all threads.
fn cpu() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').context("malformed stat")?;
    let ticks: Option<u64> = [11, 12]
        .iter()
        .map(|field| fields.split_whitespace().nth(*field)?.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(10 * ticks.context("malformed stat")?))
}

fn status(field: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.context("malformed status")?.parse::<u64>()? << 10)
}
