//! The store against a naive model: a list of samples in slots, under random ticks, jumps of the
//! clock, restarts and crashes.
#![allow(clippy::unwrap_used, missing_docs)]
// Times and counts of a few weeks are far from any limit.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use optipod_storage::{Sample, Store, StoreOptions, Timestamp, Usage};
use proptest::prelude::*;
use support::*;

const SERIES: usize = 4;
const FIVE: i64 = 300_000;
const HOUR: i64 = 12 * FIVE;
const DAY: i64 = 24 * HOUR;
const LATE: i64 = 120_000;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    series: usize,
    pod: u64,
    at: i64,
    cpu: f64,
}

/// A slot: its length, whether it is sealed, and what is in it.
#[derive(Clone, Debug, Default)]
struct Unit {
    sealed: bool,
    samples: Vec<Seen>,
}

#[derive(Default)]
struct Model {
    units: BTreeMap<(i64, i64), Unit>,
    retention: i64,
}

impl Model {
    fn covers(&self, at: i64) -> bool {
        let sealed = |len: i64| self.units.get(&(len, at.div_euclid(len) * len)).is_some_and(|u| u.sealed);
        sealed(FIVE) || sealed(HOUR) || sealed(DAY)
    }

    /// Accepted, duplicate, late, future, invalid.
    fn append(&mut self, now: i64, seen: Seen) -> usize {
        let slot = seen.at.div_euclid(FIVE) * FIVE;
        if !seen.cpu.is_finite() || seen.cpu < 0.0 {
            return 4;
        }
        if seen.at > now + LATE {
            return 3;
        }
        if slot + FIVE + LATE <= now || self.covers(seen.at) {
            return 2;
        }
        let samples = &mut self.units.entry((FIVE, slot)).or_default().samples;
        if samples.iter().any(|s| (s.series, s.pod, s.at) == (seen.series, seen.pod, seen.at)) {
            return 1;
        }
        samples.push(seen);
        0
    }

    fn maintain(&mut self, now: i64) {
        for ((len, start), unit) in &mut self.units {
            unit.sealed |= start + len + LATE <= now;
        }
        // The clock may run ahead; slots age with the samples.
        let newest = self.units.keys().map(|(len, start)| len + start).max();
        let aged = newest.map_or(now, |end| now.min(end + LATE));
        self.expire(aged);
        self.roll(FIVE, HOUR, aged - 2 * HOUR);
        self.expire(aged);
        self.roll(HOUR, DAY, aged - 8 * DAY);
        self.expire(aged);
    }

    fn expire(&mut self, now: i64) {
        let oldest = now - self.retention;
        self.units.retain(|(len, start), unit| !unit.sealed || start + len > oldest);
    }

    fn roll(&mut self, from: i64, to: i64, ended_by: i64) {
        let targets: BTreeSet<i64> =
            self.units.keys().filter(|(len, _)| *len == from).map(|(_, s)| s.div_euclid(to) * to).collect();
        for target in targets {
            let within = |(len, start): &(i64, i64)| *len < to && start.div_euclid(to) * to == target;
            let parts: Vec<(i64, i64)> = self.units.keys().filter(|k| within(k)).copied().collect();
            let settled = parts.iter().all(|k| k.0 == from && self.units[k].sealed);
            if target + to <= ended_by && settled {
                let samples = parts.iter().flat_map(|k| self.units.remove(k).unwrap().samples).collect();
                self.units.insert((to, target), Unit { sealed: true, samples });
            }
        }
    }

    /// The samples that a window counts, and the time they cover.
    fn window(&self, series: usize, window: i64, now: i64) -> (Vec<Seen>, i64) {
        let (from, mut covered, mut out) = (now - window, 0, Vec::new());
        for ((len, start), unit) in &self.units {
            if start + len <= from || *start > now {
                continue;
            }
            let of: Vec<Seen> = unit.samples.iter().filter(|s| s.series == series).copied().collect();
            let filled = of.iter().map(|s| s.at.div_euclid(FIVE)).collect::<BTreeSet<_>>().len() as i64;
            let end = if unit.sealed { start + len } else { (start + len).min(now) };
            covered += (filled * FIVE).min((end - (*start).max(from)).max(0));
            out.extend(of);
        }
        let first = out.iter().map(|seen| seen.at).min().unwrap_or(now);
        (out, covered.min(window).min((now - first).max(0)))
    }
}

fn check_usage(model: &Model, series: usize, window: i64, now: i64, got: Option<&Usage>) {
    let (seen, covered) = model.window(series, window, now);
    let Some(usage) = got else {
        assert!(seen.is_empty(), "no answer for {seen:?}");
        return;
    };
    let mut cpu: Vec<f64> = seen.iter().map(|s| s.cpu).collect();
    cpu.sort_by(f64::total_cmp);
    assert_eq!(usage.cpu.count(), seen.len() as u64);
    assert_eq!(usage.memory.count(), seen.len() as u64);
    assert_eq!(Some(usage.from.0), seen.iter().map(|s| s.at).min());
    assert_eq!(Some(usage.to.0), seen.iter().map(|s| s.at).max());
    assert_eq!(usage.covered, Duration::from_millis(covered as u64));
    let (min, max) = (cpu[0], cpu[cpu.len() - 1]);
    assert!(usage.cpu.max() >= max && usage.cpu.max() <= max * 1.0001, "{} {max}", usage.cpu.max());
    assert!(usage.cpu.min() >= min * 0.9999 && usage.cpu.min() <= min * 1.0001);
    assert!(usage.memory.max() >= max * 1e9);
    let total: f64 = cpu.iter().sum();
    assert!((usage.cpu.sum() - total).abs() <= total * 2e-3, "{} {total}", usage.cpu.sum());
    let mut before = 0.0;
    for q in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
        let value = usage.cpu.quantile(q);
        assert!(value >= before);
        before = value;
        let rank = ((q * cpu.len() as f64) as usize).min(cpu.len() - 1);
        let slack = 2 + cpu.len() / 20;
        let (low, high) = (cpu[rank.saturating_sub(slack)], cpu[(rank + slack).min(cpu.len() - 1)]);
        assert!(value >= low * 0.95 && value <= high * 1.05, "q={q}: {value} not in {low}..{high}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Advance by seconds and append samples: (series, pod, seconds before now, cpu).
    Tick(u64, Vec<(usize, u64, i64, f64)>),
    /// The same samples again.
    Repeat,
    /// Advance by minutes.
    Jump(u64),
    /// The clock goes back by seconds.
    Back(u64),
    Maintain,
    Reopen,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![8 => 0.001..4.0_f64, 1 => Just(0.5), 1 => Just(0.0), 1 => Just(f64::NAN), 1 => Just(-1.0)];
    let age = prop_oneof![6 => Just(0_i64), 4 => 0_i64..60, 2 => -200_i64..700];
    let samples = prop::collection::vec((0..SERIES, 0_u64..3, age, value), 1..12);
    let jump = prop_oneof![4 => 1_u64..10, 2 => 10_u64..200, 1 => 200_u64..4000, 1 => 4000_u64..30_000];
    let step = prop_oneof![
        12 => (0_u64..90, samples).prop_map(|(dt, samples)| Step::Tick(dt, samples)),
        2 => Just(Step::Repeat),
        3 => jump.prop_map(Step::Jump),
        1 => (1_u64..900).prop_map(Step::Back),
        4 => Just(Step::Maintain),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

struct Run {
    root: tempfile::TempDir,
    generation: u32,
    store: Option<Store>,
    model: Model,
    now: Timestamp,
    last: Vec<(usize, u64, Timestamp, f64)>,
    totals: [u64; 5],
}

impl Run {
    fn new() -> Self {
        let retention = hours(20 * 24);
        let mut run = Self {
            root: tempfile::tempdir().unwrap(),
            generation: 0,
            store: None,
            model: Model { retention: 20 * DAY, ..Model::default() },
            now: START + hours(7),
            last: Vec::new(),
            totals: [0; 5],
        };
        run.model.retention = retention.as_millis() as i64;
        run.open();
        run
    }

    fn dir(&self) -> std::path::PathBuf {
        self.root.path().join(self.generation.to_string())
    }

    fn open(&mut self) {
        let options = StoreOptions { retention: hours(20 * 24), ..StoreOptions::default() };
        let store = Store::open(&self.dir(), options, self.now).unwrap();
        assert_eq!(store.status(self.now).problems, Vec::<String>::new());
        self.totals = [0; 5];
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn append(&mut self) {
        let (store, now) = (self.store.as_ref().unwrap(), self.now);
        let mut expected = [0_u64; 5];
        let mut samples = Vec::new();
        for (series, pod, at, cpu) in &self.last {
            samples.push(Sample { ..sample(store, *series, *pod, *at, *cpu) });
            let seen = Seen { series: *series, pod: *pod, at: at.0, cpu: *cpu };
            expected[self.model.append(now.0, seen)] += 1;
        }
        let done = store.append(now, &samples).unwrap();
        let got = [done.accepted, done.duplicates, done.late, done.future, done.invalid];
        assert_eq!(got, expected);
        self.totals.iter_mut().zip(got).for_each(|(total, n)| *total += n);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Tick(dt, samples) => {
                self.now = self.now + secs(*dt);
                let at = |age: i64| Timestamp(self.now.0 - age * 1000 - i64::from(age > 30) * 7);
                self.last = samples.iter().map(|(s, p, age, cpu)| (*s, *p, at(*age), *cpu)).collect();
                self.append();
            }
            Step::Repeat => self.append(),
            Step::Jump(minutes) => self.now = self.now + mins(*minutes),
            Step::Back(seconds) => self.now = self.now - secs(*seconds),
            Step::Maintain => {
                maintain_all(self.store(), self.now);
                self.model.maintain(self.now.0);
            }
            Step::Reopen => {
                self.store = None;
                self.open();
            }
            Step::Crash => {
                let from = self.dir();
                self.generation += 1;
                copy_dir(&from, &self.dir());
                self.store = None;
                self.open();
            }
        }
    }

    fn check(&self) {
        for series in 0..SERIES {
            for window in [mins(10), hours(1), hours(24), hours(24 * 40)] {
                let got = self.store().usage(&key(series), window, self.now).unwrap();
                check_usage(&self.model, series, window.as_millis() as i64, self.now.0, got.as_ref());
                let again = self.store().usage(&key(series), window, self.now).unwrap();
                assert_eq!(got, again, "the cache changed an answer");
            }
        }
        self.check_range();
        self.check_series();
        let totals = self.store().status(self.now).totals;
        let got = [totals.accepted, totals.duplicates, totals.late, totals.future, totals.invalid];
        assert_eq!(got, self.totals);
    }

    /// Each slot counts in the step in which it starts.
    fn check_range(&self) {
        for (from, to, step) in [(3, 0, 10), (60, 1, 60), (24 * 60 + 7, 0, 24 * 60), (28_800, 5, 180)] {
            let (from, to) = (self.now - mins(from), self.now - mins(to));
            let got = self.store().query_range(&key(0), from, to, mins(step)).unwrap();
            let mut expected: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            for ((len, start), unit) in &self.model.units {
                if start + len > from.0 && *start < to.0 {
                    let index = (*start.max(&from.0) - from.0) / (step as i64 * 60_000);
                    let times = unit.samples.iter().filter(|s| s.series == 0).map(|s| s.at);
                    expected.entry(index).or_default().extend(times);
                }
            }
            expected.retain(|_, times| !times.is_empty());
            let expected: Vec<_> = expected
                .values()
                .map(|t| (t.len() as u64, *t.iter().min().unwrap(), *t.iter().max().unwrap()))
                .collect();
            let got: Vec<_> = got.iter().map(|u| (u.cpu.count(), u.from.0, u.to.0)).collect();
            assert_eq!(got, expected);
        }
    }

    fn check_series(&self) {
        let mut expected: Vec<_> = (0..SERIES)
            .filter_map(|series| {
                let units = self.model.units.values().flat_map(|u| &u.samples);
                let last = units.filter(|s| s.series == series).map(|s| s.at).max()?;
                Some((key(series), last))
            })
            .collect();
        expected.sort();
        let found = self.store().series(None, 100);
        let got: Vec<_> = found.iter().map(|info| (info.key.clone(), info.last.0)).collect();
        assert_eq!(got, expected);
        assert!(found.iter().all(|info| info.first <= info.last));
        let mut paged = Vec::new();
        while let [only] = &self.store().series(paged.last(), 1)[..] {
            paged.push(only.key.clone());
        }
        assert_eq!(paged, expected.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
    }
}

/// `OPTIPOD_MODEL_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("OPTIPOD_MODEL_CASES").map_or(32, |count| count.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_as_a_list_of_samples_would(steps in steps()) {
        let mut run = Run::new();
        for (n, step) in steps.iter().enumerate() {
            run.step(step);
            if n % 5 == 0 || matches!(step, Step::Reopen | Step::Crash | Step::Maintain) {
                run.check();
            }
        }
        run.check();
    }
}
