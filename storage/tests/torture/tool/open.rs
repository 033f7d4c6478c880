//! `torture open`

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::model::{Model, tick_at, time_of};
use super::write::sealed_until;
use super::{Options, heap};
use optipod_storage::{Store, StoreOptions, Timestamp};

const DAY: Duration = Duration::from_hours(24);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(1);
/// A store that is not complete by then will not be.
const PATIENCE: Duration = Duration::from_mins(2);

/// Times opening, the first answer of a container's last day, and the first that lacks nothing.
pub fn open(options: &Options) -> Result<ExitCode, String> {
    let last = options.acked.ok_or("--acked names the last tick")?;
    super::measure_untouched()?;
    let (model, now) = (options.model(options.containers), time_of(last));
    let container = options.containers / 2;
    let expected = samples_of_a_day(&model, container, last);
    let begun = Instant::now();
    let store = Store::open_sealed(&options.dir, StoreOptions::default()).map_err(|e| e.to_string())?;
    let opened = begun.elapsed();
    let count = || {
        let usage = store.usage(&model.key(container), DAY, now).map_err(|e| e.to_string())?;
        Ok::<u64, String>(usage.map_or(0, |usage| usage.cpu.count()))
    };
    let (mut first, mut slowest) = (None, Duration::ZERO);
    let complete = thread::scope(|scope| {
        let loading = scope.spawn(|| store.load(now));
        loop {
            let asked = Instant::now();
            let count = count()?;
            slowest = slowest.max(asked.elapsed());
            if count > 0 {
                first.get_or_insert_with(|| begun.elapsed());
            }
            if count >= expected {
                break;
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{count} of {expected} samples after {PATIENCE:?}"));
            }
            thread::sleep(PAUSE);
        }
        let complete = begun.elapsed();
        loading.join().map_err(|_| "loading panicked")?.map_err(|e| e.to_string())?;
        Ok(complete)
    })?;
    let status = store.status(now);
    println!(
        "{{\"open_ms\":{},\"first_answer_ms\":{},\"complete_ms\":{},\"slowest_answer_ms\":{},\"samples\":{expected},\"open_samples\":{},\"series\":{},\"problems\":{},\"peak_rss_kb\":{},\"rss_kb\":{},\"heap_bytes\":{}}}",
        opened.as_millis(),
        first.unwrap_or(complete).as_millis(),
        complete.as_millis(),
        slowest.as_millis(),
        open_samples(&model, sealed_until(&store), last),
        status.series,
        status.problems.len(),
        rss_kb("VmHWM:"),
        rss_kb("VmRSS:"),
        heap(),
    );
    Ok(ExitCode::SUCCESS)
}

fn samples_of_a_day(model: &Model, container: u32, last: u64) -> u64 {
    let now = time_of(last);
    let history = model.history(container, last);
    history.iter().filter(|point| point.at > (now - DAY).0 && point.at <= now.0).count() as u64
}

/// Samples that no sealed slot holds.
fn open_samples(model: &Model, sealed: Option<Timestamp>, last: u64) -> u64 {
    let sealed = sealed.unwrap_or(time_of(0));
    let ticks = tick_at(sealed)..=last;
    let points = (0..model.containers).flat_map(|c| ticks.clone().flat_map(move |tick| model.points(c, tick)));
    points.filter(|point| point.at >= sealed.0).count() as u64
}

pub fn rss_kb(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
