//! The store. This first version keeps raw samples in memory, so that its callers can be built
//! against it; files follow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::slot::{LATENESS, SlotKind};
use crate::time::millis;
use crate::{
    AppendError, Appended, Distribution, Maintained, OpenError, Sample, SeriesId, SeriesInfo,
    SeriesKey, StoreError, StoreStatus, Timestamp, Usage,
};

/// How a store is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// How long samples are kept; 30 days by default.
    pub retention: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(30 * 24),
        }
    }
}

/// A percentile store in one folder.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    options: StoreOptions,
}

#[derive(Debug, Default)]
struct Inner {
    keys: BTreeMap<SeriesKey, SeriesId>,
    samples: BTreeMap<SeriesId, Vec<Sample>>,
    seen: BTreeSet<(SeriesId, u64, Timestamp)>,
    totals: Appended,
    last_tick: Option<Timestamp>,
}

impl Store {
    /// Opens the store in `dir`, which is created when it is missing.
    pub fn open(dir: &Path, options: StoreOptions, _now: Timestamp) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir).map_err(|source| OpenError::Io {
            action: "create",
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            inner: Mutex::default(),
            options,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a series, given out at its first call; durable with the next tick that uses it.
    pub fn intern(&self, key: &SeriesKey) -> SeriesId {
        let mut inner = self.lock();
        if let Some(id) = inner.keys.get(key) {
            return *id;
        }
        let id = SeriesId(u32::try_from(inner.keys.len()).unwrap_or(u32::MAX));
        inner.keys.insert(key.clone(), id);
        id
    }

    /// Counts the samples of one tick; durable when it returns.
    pub fn append(&self, now: Timestamp, samples: &[Sample]) -> Result<Appended, AppendError> {
        let mut inner = self.lock();
        let mut done = Appended::default();
        for sample in samples {
            if ![sample.cpu, sample.memory]
                .iter()
                .all(|v| (0.0..=1e37).contains(v))
            {
                done.invalid += 1;
            } else if sample.at > now + LATENESS {
                done.future += 1;
            } else if SlotKind::FiveMinutes.slot_at(sample.at).end() + LATENESS <= now {
                done.late += 1;
            } else if inner.seen.insert((sample.series, sample.pod, sample.at)) {
                inner
                    .samples
                    .entry(sample.series)
                    .or_default()
                    .push(*sample);
                done.accepted += 1;
            } else {
                done.duplicates += 1;
            }
        }
        inner.totals.add(done);
        inner.last_tick = Some(now);
        Ok(done)
    }

    /// Seals, rolls up and expires slots, a bounded amount a call; call it once a tick.
    pub fn maintain(&self, now: Timestamp) -> Result<Maintained, StoreError> {
        let oldest = now - self.options.retention;
        for samples in self.lock().samples.values_mut() {
            samples.retain(|s| s.at >= oldest);
        }
        Ok(Maintained::default())
    }

    /// What a series used in the `window` before `now`; `None` when it is unknown or has no sample
    /// there.
    pub fn usage(
        &self,
        key: &SeriesKey,
        window: Duration,
        now: Timestamp,
    ) -> Result<Option<Usage>, StoreError> {
        Ok(self.between(key, now - window, now))
    }

    /// What a series used in each step from `from` up to `to`; steps without samples are left out.
    pub fn query_range(
        &self,
        key: &SeriesKey,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) -> Result<Vec<Usage>, StoreError> {
        if millis(step) == 0 {
            return Err(StoreError::ZeroStep);
        }
        let mut out = Vec::new();
        let mut at = from;
        while at < to {
            out.extend(self.between(key, at, Timestamp((at + step).0 - 1)));
            at = at + step;
        }
        Ok(out)
    }

    fn between(&self, key: &SeriesKey, from: Timestamp, to: Timestamp) -> Option<Usage> {
        let inner = self.lock();
        let samples = inner.samples.get(inner.keys.get(key)?)?;
        let found: Vec<&Sample> = samples
            .iter()
            .filter(|s| s.at >= from && s.at <= to)
            .collect();
        let slots: BTreeSet<_> = found
            .iter()
            .map(|s| SlotKind::FiveMinutes.slot_at(s.at))
            .collect();
        Some(Usage {
            cpu: Distribution::from_values(found.iter().map(|s| s.cpu)).ok()?,
            memory: Distribution::from_values(found.iter().map(|s| s.memory)).ok()?,
            from: found.iter().map(|s| s.at).min()?,
            to: found.iter().map(|s| s.at).max()?,
            covered: slots
                .iter()
                .map(|s| s.end().min(to).since(s.start.max(from)))
                .sum(),
        })
    }

    /// At most `limit` series with samples, ordered by key, those after `after`.
    pub fn series(&self, after: Option<&SeriesKey>, limit: usize) -> Vec<SeriesInfo> {
        let inner = self.lock();
        let keys = inner
            .keys
            .iter()
            .filter(|(key, _)| after.is_none_or(|a| *key > a));
        keys.filter_map(|(key, id)| {
            let samples = inner.samples.get(id)?;
            Some(SeriesInfo {
                key: key.clone(),
                first: samples.iter().map(|s| s.at).min()?,
                last: samples.iter().map(|s| s.at).max()?,
            })
        })
        .take(limit)
        .collect()
    }

    /// The state of the store at `now`.
    pub fn status(&self, now: Timestamp) -> StoreStatus {
        let inner = self.lock();
        StoreStatus {
            series: inner.keys.len() as u64,
            open_slots: 0,
            sealed_slots: BTreeMap::new(),
            last_tick: inner.last_tick,
            last_tick_age: inner.last_tick.map(|at| now.since(at)),
            disk_bytes: 0,
            problems: Vec::new(),
            totals: inner.totals,
        }
    }

    /// Closes the store. Dropping it does the same; every acknowledged tick is durable already.
    pub fn close(self) {}
}
