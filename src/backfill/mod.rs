//! Fills an empty store with what Prometheus knows of the past, so that a new install recommends within minutes.
//!
//! It may not know the collector, which goes on beside it. Invariants: it begins only with an empty store, and what it has
//! begun it goes on with after a restart; a slot that the store has stays as it is, so that nothing counts twice; what is
//! held in memory is bounded whatever the history.

mod plan;
mod samples;

use crate::blocking;
use crate::clock::Clock;
use crate::provider::{PrometheusProvider, ProviderError};
use crate::telemetry::{Due, Progress};
use crate::workload::WorkloadId;
use jiff::Timestamp;
use optipod_storage::{ImportError, Imported, OpenError, RollUpsHeld, Store};
use plan::{Plan, Slice};
use samples::{MOST_VALUES, Samples};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A slice is at most this long. The first is an hour, and each may be twice the one before: what is too much is then found
/// out on little.
const MOST_HOURS: u32 = 24;

/// What fails is tried again this often in a row, with pauses of 1 s to 1 min: half an hour in all.
const ATTEMPTS: u32 = 36;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why a backfill does not go on.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// How far it is cannot be read or written.
    #[error("{path}: {cause}; the store's folder must be readable and writable")]
    Plan {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// Prometheus does not answer.
    #[error(transparent)]
    Source(#[from] ProviderError),
    /// The store cannot be written.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The store cannot be read yet.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// What a backfill did in this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filled {
    /// Samples taken in.
    pub samples: u64,
    /// 5-minute slots written.
    pub slots: u64,
    /// 5-minute slots left as they were, because the store had them.
    pub kept: u64,
    /// All of the window is in.
    pub complete: bool,
}

/// A backfill that has something to do.
pub struct Backfill {
    store: Arc<Store>,
    source: PrometheusProvider,
    clock: Clock,
    plan: Plan,
    _held: RollUpsHeld,
}

impl Backfill {
    /// Of the `window` that ends now. `None` where it is done already, or the store has history of its own. To be called
    /// before the store takes samples, so that what was interrupted finds nothing rolled up.
    ///
    /// # Errors
    /// When the file that tells how far it is cannot be read or written.
    pub fn begin(
        store: Arc<Store>,
        source: PrometheusProvider,
        window: Duration,
        clock: Clock,
    ) -> Result<Option<Self>, BackfillError> {
        let anew = Plan::new(clock.now(), window);
        let plan = match Plan::load(store.dir(), anew.clone())? {
            Some(plan) if plan.is_done() => return Ok(None),
            Some(plan) => plan,
            None if store.sealed_until().is_some() => {
                tracing::info!("no backfill: the store has history; `optipod store import` adds to it");
                return Ok(None);
            }
            None => {
                anew.save(store.dir())?;
                anew
            }
        };
        let held = store.hold_roll_ups();
        Ok(Some(Self { store, source, clock, plan, _held: held }))
    }

    /// Fills until all is in or `shutdown`. Pods that the source cannot name the workload of belong to the one of
    /// `workloads` that their name looks like; only namespaces of `workloads` are asked about.
    ///
    /// # Errors
    /// What failed, when it failed for half an hour; the next start goes on from there.
    pub async fn run(
        mut self,
        workloads: &BTreeSet<WorkloadId>,
        shutdown: &CancellationToken,
    ) -> Result<Filled, BackfillError> {
        let mut namespaces: BTreeMap<&str, BTreeSet<WorkloadId>> = BTreeMap::new();
        for workload in workloads {
            namespaces.entry(&workload.namespace).or_default().insert(workload.clone());
        }
        let (mut filled, mut hours, mut most_hours, mut failures) = (Filled::default(), 1, MOST_HOURS, 0);
        let mut progress = Progress::new("backfill", Some(self.plan.progress().1));
        while let Some(slice) = self.plan.next(hours) {
            match self.fill(slice, &namespaces, hours > 1, shutdown).await {
                Ok(Step::Taken(done, values)) => {
                    self.plan.advance(slice);
                    blocking::inline(|| self.plan.save(self.store.dir()))?;
                    filled.add(&done);
                    self.tell(&mut progress, filled.samples);
                    failures = 0;
                    if values <= MOST_VALUES / 2 {
                        hours = (2 * hours).min(most_hours);
                    }
                }
                Ok(Step::TooMuch) => {
                    most_hours = (hours / 2).max(1);
                    hours = most_hours;
                }
                Ok(Step::Stopped) => return Ok(filled),
                Err(error) => {
                    failures += 1;
                    if failures > ATTEMPTS {
                        return Err(error);
                    }
                    tracing::warn!(failures, %error, "the backfill waits; it goes on by itself");
                    if shutdown.run_until_cancelled(tokio::time::sleep(pause(failures))).await.is_none() {
                        return Ok(filled);
                    }
                }
            }
        }
        filled.complete = true;
        Ok(filled)
    }

    fn tell(&self, progress: &mut Progress, samples: u64) {
        let (done, all) = self.plan.progress();
        if let Some(Due { percent }) = progress.tell(done, || format!("{samples} samples")) {
            tracing::info!(percent, samples, hours_done = done / 3600, hours = all / 3600, "backfill goes on");
        }
    }

    /// Asks for one slice and takes it in.
    async fn fill(
        &self,
        slice: Slice,
        namespaces: &BTreeMap<&str, BTreeSet<WorkloadId>>,
        may_shrink: bool,
        shutdown: &CancellationToken,
    ) -> Result<Step, BackfillError> {
        // A moment stands for the minute before it; a slot takes its first moment and not its end.
        let moment = |second: i64| Timestamp::from_second(second - 60).unwrap_or_default();
        let mut samples = Samples::default();
        for (namespace, workloads) in namespaces {
            let asked = self.source.history(namespace, workloads, moment(slice.from), moment(slice.to));
            let Some(answer) = shutdown.run_until_cancelled(asked).await else { return Ok(Step::Stopped) };
            let history = match answer {
                Err(ProviderError::Refused { .. }) if may_shrink => return Ok(Step::TooMuch),
                answer => answer?,
            };
            if let Some(missing) = history.missing {
                tracing::warn!(namespace, missing, "the history may be incomplete");
            }
            tracing::debug!(namespace, by_name = history.by_name.len(), left_out = history.unknown.len(), "history");
            for pod in history.pods {
                samples.add(pod);
            }
            if samples.count() > MOST_VALUES && may_shrink {
                return Ok(Step::TooMuch);
            }
        }
        blocking::inline(|| self.take_in(samples, shutdown))
    }

    fn take_in(&self, samples: Samples, shutdown: &CancellationToken) -> Result<Step, BackfillError> {
        let now = optipod_storage::Timestamp(self.clock.now().as_millisecond());
        self.store.load(now)?;
        let values = samples.count();
        let mut import = self.store.backfill(now);
        for slot in samples.into_slots() {
            if shutdown.is_cancelled() {
                return Ok(Step::Stopped);
            }
            for sample in slot {
                import.sample(sample)?;
            }
        }
        Ok(Step::Taken(import.finish()?, values))
    }
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    SHORTEST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

/// What became of a slice.
enum Step {
    /// So many values are in.
    Taken(Imported, usize),
    /// A shorter one is needed.
    TooMuch,
    Stopped,
}

impl Filled {
    fn add(&mut self, done: &Imported) {
        self.samples += done.samples;
        self.slots += done.slots;
        self.kept += done.kept;
    }
}
