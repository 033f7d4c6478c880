//! `torture open`

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::Options;
use super::model::{Model, time_of};
use super::write::last_tick;
use optipod_storage::{Store, StoreOptions};

/// Times opening, the first answer, and what follows.
pub fn open(options: &Options) -> Result<ExitCode, String> {
    let model = Model { seed: options.seed, containers: options.containers, stride: options.stride };
    let begun = Instant::now();
    let store = Store::open(&options.dir, StoreOptions::default(), time_of(0)).map_err(|e| e.to_string())?;
    let opened = begun.elapsed();
    let now = last_tick(&store).map_or(time_of(0), time_of);
    let key = model.key(options.containers / 2);
    let answer = store.usage(&key, Duration::from_hours(24), now).map_err(|e| e.to_string())?;
    let first = begun.elapsed();
    let samples = answer.map_or(0, |usage| usage.cpu.count());
    let status = store.status(now);
    println!(
        "{{\"open_ms\":{},\"first_answer_ms\":{},\"samples\":{samples},\"series\":{},\"rss_mb\":{}}}",
        opened.as_millis(),
        first.as_millis(),
        status.series,
        rss_kb() / 1024
    );
    Ok(ExitCode::SUCCESS)
}

fn rss_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
