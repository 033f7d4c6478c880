//! Everything the double holds, behind one lock.
//!
//! What it may not know: HTTP or tasks; the lock is never held across an await.
//! Invariant: one state, one order of events.

use super::access::Access;
use super::faults::Faults;
use super::journal::Journal;
use super::kinds::Registry;
use super::metrics::MetricsTable;
use super::store::Store;
use crate::rng::{fnv1a, name_suffix};

/// The state of one API server double.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) store: Store,
    pub(crate) access: Access,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) metrics: MetricsTable,
    /// Whether discovery lists `pods/resize` and the path is served.
    pub(crate) resize_served: bool,
    /// Whether `metrics.k8s.io` is served.
    pub(crate) metrics_served: bool,
    /// Whether simulated kubelets finish deletions.
    pub(crate) kubelets: bool,
    /// Watches opened before this epoch are cut.
    pub(crate) cut_epoch: u64,
    pub(crate) suffixes: u64,
}

impl State {
    /// Five letters for a generated name, the same in every run.
    pub(crate) fn next_suffix(&mut self, prefix: &str) -> String {
        self.suffixes += 1;
        let text = format!("{prefix}{}", self.suffixes);
        name_suffix(fnv1a(text.as_bytes()), 5)
    }
}
