//! From metrics-server to the store, one tick every 15 seconds: scrape → resolve owners → samples → keep.
//!
//! It may not know what usage is used for: no policies, no recommendations. It only reads the cluster.
//!
//! Invariants: one metrics LIST a tick, never a call per pod. A point counts under its own timestamp, once. What cannot
//! be collected is counted and said, and the loop goes on: no failure ends the process.

mod backoff;
mod health;
mod keep;
mod owners;
mod run;
mod samples;
mod scrape;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod double;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

pub use health::{CollectorHealth, CollectorState};
pub use keep::KeepError;
pub use owners::{Controller, Lookup, OwnerRef, Owners, PodOwner, resolve};
pub use scrape::{ContainerPoint, Format, PodPoints, RawList, ScrapeError, decode_json, decode_protobuf, fetch};

use crate::blocking;
use crate::telemetry::{Metrics, RefusedCause};
use jiff::Timestamp;
use keep::Keeper;
use optipod_storage::{Appended, OpenError, Store};
use samples::Batch;
use std::sync::Arc;
use std::time::Duration;

/// How the collector works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorOptions {
    /// From tick to tick; metrics-server has a new point every 15 s as shipped.
    pub interval: Duration,
    /// The longest that the metrics LIST may take; never more than `interval`.
    pub timeout: Duration,
    /// How many samples may wait in memory while the store cannot take them; about 40 bytes each.
    pub waiting_samples: usize,
}

impl Default for CollectorOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), timeout: Duration::from_secs(10), waiting_samples: 1_000_000 }
    }
}

/// What one tick did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tick {
    /// Pods in metrics-server's answer.
    pub pods: usize,
    /// Containers whose pod or owner is not known yet; their next point comes with a later tick.
    pub unresolved: u64,
    /// Points that are negative, not a number or not a quantity.
    pub invalid: u64,
    /// What the store did with the rest.
    pub stored: Appended,
    /// What is wrong although samples were stored: owners that cannot be watched, slots that cannot be sealed.
    pub degraded: Option<String>,
}

/// Why a tick failed.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// metrics-server did not answer, or not with metrics.
    #[error(transparent)]
    Scrape(#[from] ScrapeError),
    /// No pod's owner is known.
    #[error(
        "no container can be told apart yet: {0}; the recommender needs list and watch on pods, replicasets and jobs"
    )]
    Owners(String),
    /// The store could not take the samples.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl TickError {
    /// The step that failed, as the metric's label.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Scrape(_) => "scrape",
            Self::Owners(_) => "owners",
            Self::Keep(_) => "keep",
        }
    }
}

/// Collects usage from metrics-server into the store.
pub struct Collector {
    client: kube::Client,
    owners: Arc<Owners>,
    store: Arc<Store>,
    keeper: Keeper,
    metrics: Metrics,
    health: CollectorHealth,
    options: CollectorOptions,
}

impl Collector {
    /// A collector that has not begun. `client` should not retry by itself: the retry policy is ours.
    pub fn new(client: kube::Client, store: Arc<Store>, metrics: &Metrics, options: &CollectorOptions) -> Self {
        let options = CollectorOptions { timeout: options.timeout.min(options.interval), ..options.clone() };
        let health = CollectorHealth::new(options.interval);
        health.history(store.sealed_until().map(|at| Timestamp::from_millisecond(at.0).unwrap_or_default()));
        Self {
            owners: Arc::new(Owners::default()),
            keeper: Keeper::new(store.clone(), options.waiting_samples),
            health,
            client,
            store,
            metrics: metrics.clone(),
            options,
        }
    }

    /// How it is doing; the handle stays valid while the collector runs.
    pub fn health(&self) -> CollectorHealth {
        self.health.clone()
    }

    /// What is known of pods and their owners; [`Collector::run`] fills it.
    pub fn owners(&self) -> Arc<Owners> {
        self.owners.clone()
    }

    /// Reads the open slots of a store that was just opened; each tick does so where it was not done.
    pub fn load(&self, now: Timestamp) -> Result<(), OpenError> {
        blocking::inline(|| self.store.load(keep::stored_time(now)))
    }

    /// One tick.
    pub async fn tick(&self, now: Timestamp) -> Result<Tick, TickError> {
        let list = self.scrape().await?;
        blocking::inline(|| self.take(now, &list))
    }

    async fn scrape(&self) -> Result<RawList, ScrapeError> {
        let began = tokio::time::Instant::now();
        let list = fetch(&self.client, self.options.timeout).await;
        self.metrics.observe_collection(scrape::PROVIDER, began.elapsed());
        list
    }

    /// The rest of a tick, which waits for the disk and not for the network.
    fn take(&self, now: Timestamp, list: &RawList) -> Result<Tick, TickError> {
        let mut batch = Batch::default();
        let pods = list.decode(|pod| batch.add(pod, &self.owners, |key| self.store.intern(key)))?;
        self.count_refused(RefusedCause::Unresolved, batch.unresolved);
        self.count_refused(RefusedCause::Invalid, batch.invalid);
        let nothing_resolved = batch.samples.is_empty() && batch.unresolved > 0;
        let kept = self.keeper.keep(now, batch.samples);
        self.count_kept(&kept, now);
        let stored = kept.result?;
        if nothing_resolved && !self.owners.synced() {
            let problem = self.owners.problem();
            return Err(TickError::Owners(problem.unwrap_or_else(|| "pods and their owners are being listed".into())));
        }
        let maintenance = kept.maintenance.map(|error| format!("the store cannot be maintained: {error}"));
        let degraded = maintenance.or_else(|| self.owners.problem());
        Ok(Tick { pods, unresolved: batch.unresolved, invalid: batch.invalid, stored, degraded })
    }

    fn count_kept(&self, kept: &keep::Kept, now: Timestamp) {
        let stored = kept.result.as_ref().copied().unwrap_or_default();
        let Appended { accepted, duplicates, late, future, invalid } = stored;
        self.metrics.collector().accept(accepted);
        self.count_refused(RefusedCause::Duplicate, duplicates);
        self.count_refused(RefusedCause::Late, late);
        self.count_refused(RefusedCause::Future, future);
        self.count_refused(RefusedCause::Invalid, invalid);
        self.count_refused(RefusedCause::Dropped, kept.dropped);
        self.metrics.collector().set_waiting(self.keeper.waiting());
        let status = self.store.status(keep::stored_time(now));
        self.metrics.collector().set_store(status.series, status.disk_bytes, status.problems.len());
    }

    fn count_refused(&self, cause: RefusedCause, points: u64) {
        self.metrics.collector().refuse(cause, points);
    }
}
