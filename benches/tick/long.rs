//! Hours of ticks in a row: is any of them late?

use super::list::Form;
use super::{Bench, CONTAINERS};
use std::time::Duration;

/// Ticks of an hour. The store rolls an hour up when it ended two hours ago; those two are left out, so that a run of 400
/// ticks has every kind of maintenance in it.
const HOUR: u64 = 240;

/// metrics-server has a new point every 15 s, so a tick has as long.
const INTERVAL: Duration = Duration::from_secs(15);

/// What ticks took: by the clock, and on the processor where the system tells (the rest is waiting for the disk, or for
/// a processor that others use).
#[derive(Default)]
struct Took {
    wall: Vec<Duration>,
    processor: Vec<Duration>,
}

/// Runs `ticks` ticks and prints what they took.
pub(super) fn run(form: Form, ticks: u64) {
    let mut bench = Bench::new(form);
    let mut took = Took::default();
    for tick in 1..=ticks {
        let (wall, processor) = bench.tick();
        took.wall.push(wall);
        took.processor.push(processor);
        if tick == HOUR {
            bench.next += 2 * HOUR;
        }
        if tick.is_multiple_of(60) || tick == ticks {
            println!("{tick} ticks of {CONTAINERS} containers");
            println!("  by the clock: {}", summary(&took.wall));
            println!("  processor:    {}", summary(&took.processor));
        }
    }
    println!("peak memory, the list and its double's copy of it included: {}", peak_memory().unwrap_or_default());
    let late = took.wall.iter().filter(|wall| **wall > INTERVAL).count();
    assert_eq!(late, 0, "ticks that took more than {INTERVAL:?}");
}

fn summary(took: &[Duration]) -> String {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    let mean = sorted.iter().sum::<Duration>().div_f64(sorted.len() as f64);
    let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    format!("mean {mean:.2?}, median {:.2?}, P99 {:.2?}, longest {:.2?}", at(50), at(99), at(100))
}

/// What this thread has spent on a processor.
pub(super) fn processor_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|line| line.trim().to_owned())
}
