//! Step four: samples become durable.
//!
//! While the store cannot take them (a full volume, most often) they wait here, the oldest giving way when too many do.

use crate::blocking;
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
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = std::mem::take(&mut *waiting);
        all.extend(samples);
        match blocking::inline(|| self.store.append(now, &all)) {
            Ok(appended) => {
                let maintenance = blocking::inline(|| self.store.maintain(now)).err();
                Kept { result: Ok(appended), dropped: 0, maintenance }
            }
            Err(cause) => {
                let dropped = all.len().saturating_sub(self.limit);
                all.drain(..dropped);
                *waiting = all;
                let error = KeepError { waiting: waiting.len(), cause };
                Kept { result: Err(error), dropped: dropped as u64, maintenance: None }
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
