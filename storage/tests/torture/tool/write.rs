//! `torture write`

use std::io::Write as _;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::Options;
use super::model::{Model, tick_at, time_of};
use optipod_storage::{OpenError, Sample, SeriesId, Store, StoreOptions, Timestamp};

/// How long to wait before a tick that was refused is offered again.
const RETRY: Duration = Duration::from_millis(20);
/// More than any fault here lasts.
const LOAD_TRIES: u32 = 250;
const DAY: Duration = Duration::from_hours(24);

/// Appends ticks until it has written as many as asked for, or is killed.
pub fn write(options: &Options) -> Result<ExitCode, String> {
    let model = options.model(options.containers);
    if options.ask < u64::MAX {
        super::measure_untouched()?;
    }
    // The store is opened at the time of its last tick, as by a recommender that restarts.
    let store = Store::open_sealed(&options.dir, StoreOptions::default()).map_err(|e| e.to_string())?;
    load(&store)?;
    for problem in store.status(time_of(0)).problems {
        eprintln!("problem {problem}");
    }
    let first = options.from.unwrap_or_else(|| last_tick(&store).map_or(0, |last| last + 1));
    let ids: Vec<SeriesId> = (0..model.containers).map(|n| store.intern(&model.key(n))).collect();
    let end = options.ticks.map_or(u64::MAX, |ticks| first.saturating_add(ticks));
    let end = options.until.map_or(end, |last| last.saturating_add(1));
    for tick in (first..end).filter(|tick| model.has(*tick)) {
        let samples = samples(&model, &ids, tick);
        store_tick(&store, tick, &samples)?;
        // Once a tick, as the collector does it; a tick that stands for several has their work to do.
        while maintain(&store, time_of(tick)) && tick < model.dense && model.stride > 1 {}
        drop(samples);
        if tick >= options.ask {
            for container in 0..model.containers {
                if let Err(error) = store.usage(&model.key(container), DAY, time_of(tick)) {
                    eprintln!("unanswered {tick}: {error}");
                }
            }
        }
        println!("heap {}", super::heap());
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the open slots, as often as it takes; the recommender tries with each tick.
fn load(store: &Store) -> Result<(), String> {
    for _ in 0..LOAD_TRIES {
        match store.load(time_of(0)) {
            Err(error @ OpenError::NewerFormat { .. }) => return Err(error.to_string()),
            Err(error) => eprintln!("refused to load: {error}"),
            Ok(()) => return Ok(()),
        }
        thread::sleep(RETRY);
    }
    Err("the store does not load".to_owned())
}

fn samples(model: &Model, ids: &[SeriesId], tick: u64) -> Vec<Sample> {
    let of = |(container, series): (u32, &SeriesId)| {
        let series = *series;
        let sample = move |p: super::model::Point| Sample {
            series,
            pod: p.pod,
            at: Timestamp(p.at),
            cpu: p.cpu,
            memory: p.memory,
        };
        model.offered(container, tick).map(sample).collect::<Vec<Sample>>()
    };
    (0..).zip(ids).flat_map(of).collect()
}

/// Offers a tick until it is taken.
fn store_tick(store: &Store, tick: u64, samples: &[Sample]) -> Result<(), String> {
    while let Err(error) = store.append(time_of(tick), samples) {
        eprintln!("refused {tick}: {error}");
        thread::sleep(RETRY);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "acked {tick}").and_then(|()| out.flush()).map_err(|e| e.to_string())
}

/// The regular work; whether there is more.
fn maintain(store: &Store, now: Timestamp) -> bool {
    let done = match store.maintain(now) {
        Ok(done) => done,
        Err(error) => {
            eprintln!("maintenance: {error}");
            return false;
        }
    };
    if done.sealed + done.rolled_up + done.expired > 0 || done.rewritten {
        let rewritten = u8::from(done.rewritten);
        let (sealed, rolled, expired) = (done.sealed, done.rolled_up, done.expired);
        println!("did sealed={sealed} rolled={rolled} expired={expired} rewritten={rewritten}");
    }
    done.pending
}

/// The last tick that a store shows to have been there: of the open slots, or by whose time the
/// newest 5-minute slot could be sealed.
pub fn last_tick(store: &Store) -> Option<u64> {
    let sealed = sealed_until(store).map(|end| Timestamp(end.0 + 120_000));
    store.status(time_of(0)).last_tick.into_iter().chain(sealed).max().map(tick_at)
}

/// The end of the newest sealed 5-minute slot.
pub fn sealed_until(store: &Store) -> Option<Timestamp> {
    let files = std::fs::read_dir(store.dir().join("slots")).into_iter().flatten().flatten();
    let ends = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let start: i64 = name.strip_prefix("5m-")?.strip_suffix(".slot")?.parse().ok()?;
        Some(Timestamp((start + 300) * 1000))
    });
    ends.max()
}
