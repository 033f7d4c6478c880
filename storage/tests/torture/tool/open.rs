//! `torture open`

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::Options;
use super::model::{Model, time_of};
use super::write::last_tick;
use optipod_storage::{Store, StoreOptions, Timestamp};

/// Times the first answer, from the sealed slots, and reading the open ones behind it.
pub fn open(options: &Options) -> Result<ExitCode, String> {
    let model = Model { seed: options.seed, containers: options.containers, stride: options.stride };
    let begun = Instant::now();
    let store = Store::open_sealed(&options.dir, StoreOptions::default()).map_err(|e| e.to_string())?;
    let opened = begun.elapsed();
    let until = store.sealed_until().unwrap_or(time_of(0));
    let count = |now: Timestamp| {
        let answer = store.usage(&model.key(options.containers / 2), Duration::from_hours(24), now);
        Ok::<u64, String>(answer.map_err(|e| e.to_string())?.map_or(0, |usage| usage.cpu.count()))
    };
    let sealed = count(until)?;
    let first = begun.elapsed();
    store.load(until).map_err(|e| e.to_string())?;
    let loaded = begun.elapsed();
    let now = last_tick(&store).map_or(until, time_of);
    println!(
        "{{\"open_ms\":{},\"first_answer_ms\":{},\"loaded_ms\":{},\"samples_sealed\":{sealed},\"samples\":{},\"series\":{},\"rss_mb\":{}}}",
        opened.as_millis(),
        first.as_millis(),
        loaded.as_millis(),
        count(now)?,
        store.status(now).series,
        rss_kb() / 1024
    );
    Ok(ExitCode::SUCCESS)
}

fn rss_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
