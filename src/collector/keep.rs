//! Step four: samples become durable.
//!
//! While the store cannot take them (a full volume, most often) they wait here, the oldest giving way when too many do.

use jiff::Timestamp;
use optipod_storage::{AppendError, Appended, Sample, Store, StoreError};
use std::sync::{Arc, Mutex, PoisonError};

/// Why samples were not stored. They wait in memory.
#[derive(Debug, thiserror::Error)]
#[error("samples wait in memory: {cause}")]
pub struct KeepError {
    /// How many wait.
    pub waiting: usize,
    /// What the store said.
    pub cause: AppendError,
}

/// What became of a tick's samples.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) result: Result<Appended, KeepError>,
    /// Given up because too many waited.
    pub(super) dropped: u64,
    /// Why slots could not be sealed or expired; the samples are stored all the same.
    pub(super) maintenance: Option<StoreError>,
}

/// Hands samples to the store and holds on to what it could not take.
pub(super) struct Keeper {
    store: Arc<Store>,
    waiting: Mutex<Vec<Sample>>,
    limit: usize,
}

impl Keeper {
    pub(super) fn new(store: Arc<Store>, limit: usize) -> Self {
        Self { store, waiting: Mutex::default(), limit }
    }

    /// Appends what waits and `samples`, then maintains the store.
    pub(super) fn keep(&self, now: Timestamp, samples: Vec<Sample>) -> Kept {
        let now = stored_time(now);
        let (result, dropped) = self.offer(samples, |all| self.store.append(now, all));
        let maintenance = result.as_ref().ok().and_then(|_| self.store.maintain(now).err());
        Kept { result, dropped, maintenance }
    }

    /// Offers what waits and `samples` to `append`; what it does not take waits, but for those beyond the limit, whose
    /// number is the second answer.
    fn offer(
        &self,
        samples: Vec<Sample>,
        append: impl FnOnce(&[Sample]) -> Result<Appended, AppendError>,
    ) -> (Result<Appended, KeepError>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(samples);
        match append(&waiting) {
            Ok(appended) => {
                *waiting = Vec::new();
                (Ok(appended), 0)
            }
            Err(cause) => {
                let dropped = waiting.len().saturating_sub(self.limit);
                waiting.drain(..dropped);
                (Err(KeepError { waiting: waiting.len(), cause }), dropped as u64)
            }
        }
    }

    /// How many samples wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The store's own time.
pub(super) fn stored_time(at: Timestamp) -> optipod_storage::Timestamp {
    optipod_storage::Timestamp(at.as_millisecond())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use optipod_storage::{SeriesKey, StoreOptions};

    fn keeper(limit: usize) -> (Keeper, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default(), optipod_storage::Timestamp(0)).unwrap();
        (Keeper::new(Arc::new(store), limit), dir)
    }

    fn samples(keeper: &Keeper, seconds: std::ops::Range<i64>) -> Vec<Sample> {
        let part = || "x".to_owned();
        let key = SeriesKey { namespace: part(), kind: part(), workload: part(), container: part() };
        let series = keeper.store.intern(&key);
        let at = optipod_storage::Timestamp::from_secs;
        seconds.map(|s| Sample { series, pod: 1, at: at(s), cpu: 1.0, memory: 1.0 }).collect()
    }

    fn full(_: &[Sample]) -> Result<Appended, AppendError> {
        Err(AppendError::NotDurable { dir: "/data".into(), reason: "no space left".into() })
    }

    #[test]
    fn samples_that_the_store_cannot_take_wait_and_are_stored_with_the_next_that_it_can() {
        let (keeper, _dir) = keeper(10);
        let (result, dropped) = keeper.offer(samples(&keeper, 0..3), full);
        assert!(result.unwrap_err().to_string().contains("no space left"));
        assert_eq!((dropped, keeper.waiting()), (0, 3));
        let kept = keeper.keep(Timestamp::from_second(5).unwrap(), samples(&keeper, 3..5));
        assert_eq!((kept.result.unwrap().accepted, keeper.waiting()), (5, 0));
    }

    #[test]
    fn the_oldest_give_way_when_too_many_wait() {
        let (keeper, _dir) = keeper(4);
        assert_eq!(keeper.offer(samples(&keeper, 0..3), full).1, 0);
        assert_eq!(keeper.offer(samples(&keeper, 3..6), full).1, 2);
        let mut offered = Vec::new();
        let (result, _) = keeper.offer(Vec::new(), |all| {
            offered = all.iter().map(|sample| sample.at.0 / 1000).collect();
            Ok(Appended::default())
        });
        assert!(result.is_ok());
        assert_eq!(offered, [2, 3, 4, 5]);
    }
}
