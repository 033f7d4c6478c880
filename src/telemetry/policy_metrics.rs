//! The metrics of policies.
//!
//! Metrics with a `namespace` label carry the policy's name in `policy`; those without carry `namespace/name`, because
//! two policies may share a name and their counters must not.

use super::declare::Declare;
use super::latency::Latency;
use crate::policy::PolicyId;
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The metric families, and which label values each policy has used.
pub(super) struct PolicySeries {
    monitored: IntGaugeVec,
    updated: IntGaugeVec,
    skipped: IntGaugeVec,
    reconciliation: HistogramVec,
    latency: Latency,
    errors: IntCounterVec,
    recommendations: IntCounterVec,
    applications: IntCounterVec,
    used: Mutex<BTreeMap<PolicyId, UsedLabels>>,
}

#[derive(Default)]
struct UsedLabels {
    reasons: BTreeSet<String>,
    error_types: BTreeSet<String>,
    methods: BTreeSet<String>,
}

impl PolicySeries {
    pub(super) fn new(registry: &Registry, latency: Latency) -> Result<Self, prometheus::Error> {
        const OWN: [&str; 2] = ["namespace", "policy"];
        let declare = Declare(registry);
        Ok(Self {
            latency,
            monitored: declare.gauges("optipod_workloads_monitored", "Workloads that a policy covers", &OWN)?,
            updated: declare.gauges("optipod_workloads_updated", "Workloads changed in the last cycle", &OWN)?,
            skipped: declare.gauges(
                "optipod_workloads_skipped",
                "Workloads left as they are in the last cycle, by reason",
                &["namespace", "policy", "reason"],
            )?,
            reconciliation: declare.durations(
                "optipod_reconciliation_duration_seconds",
                "Time one cycle of a policy took",
                "policy",
            )?,
            errors: declare.counters(
                "optipod_reconciliation_errors_total",
                "Errors while a policy was reconciled",
                &["policy", "error_type"],
            )?,
            recommendations: declare.counters(
                "optipod_recommendations_total",
                "Recommendations made, one for each container and cycle",
                &["policy"],
            )?,
            applications: declare.counters(
                "optipod_applications_total",
                "Changes carried out, by method",
                &["policy", "method"],
            )?,
            used: Mutex::default(),
        })
    }

    fn note<T>(&self, id: &PolicyId, change: impl FnOnce(&mut UsedLabels) -> T) -> T {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        change(used.entry(id.clone()).or_default())
    }
}

/// The metrics of one policy.
pub struct PolicyMetrics<'a> {
    series: &'a PolicySeries,
    id: &'a PolicyId,
    /// `namespace/name`
    full_name: String,
}

impl<'a> PolicyMetrics<'a> {
    pub(super) fn new(series: &'a PolicySeries, id: &'a PolicyId) -> Self {
        Self { series, id, full_name: id.to_string() }
    }

    fn own(&self) -> [&str; 2] {
        [&self.id.namespace, &self.id.name]
    }

    /// This many workloads are covered.
    pub fn set_monitored(&self, workloads: usize) {
        self.series.monitored.with_label_values(&self.own()).set(count(workloads));
    }

    /// This many workloads were changed in the cycle that just ended.
    pub fn set_updated(&self, workloads: usize) {
        self.series.updated.with_label_values(&self.own()).set(count(workloads));
    }

    /// How many workloads were left as they are in the cycle that just ended, by reason. Reasons that are not named
    /// any more disappear.
    pub fn set_skipped<'r>(&self, by_reason: impl IntoIterator<Item = (&'r str, usize)>) {
        let now: BTreeMap<String, usize> =
            by_reason.into_iter().map(|(reason, workloads)| (reason.to_owned(), workloads)).collect();
        let before =
            self.series.note(self.id, |used| std::mem::replace(&mut used.reasons, now.keys().cloned().collect()));
        let [namespace, name] = self.own();
        for gone in before.iter().filter(|reason| !now.contains_key(*reason)) {
            let _ = self.series.skipped.remove_label_values(&[namespace, name, gone]);
        }
        for (reason, workloads) in &now {
            self.series.skipped.with_label_values(&[namespace, name, reason]).set(count(*workloads));
        }
    }

    /// One cycle took this long.
    pub fn observe_reconciliation(&self, took: Duration) {
        self.series.reconciliation.with_label_values(&[&self.full_name]).observe(took.as_secs_f64());
        self.series.latency.observe(took);
    }

    /// One error of this type.
    pub fn count_error(&self, error_type: &str) {
        self.series.note(self.id, |used| used.error_types.insert(error_type.to_owned()));
        self.series.errors.with_label_values(&[&*self.full_name, error_type]).inc();
    }

    /// This many recommendations were made.
    pub fn count_recommendations(&self, made: usize) {
        self.series.recommendations.with_label_values(&[&self.full_name]).inc_by(made as u64);
    }

    /// One change was carried out by this method.
    pub fn count_application(&self, method: &str) {
        self.series.note(self.id, |used| used.methods.insert(method.to_owned()));
        self.series.applications.with_label_values(&[&*self.full_name, method]).inc();
    }

    /// Forgets the policy: it was deleted.
    pub fn remove(&self) {
        let used = {
            let mut all = self.series.used.lock().unwrap_or_else(PoisonError::into_inner);
            all.remove(self.id).unwrap_or_default()
        };
        let [namespace, name] = self.own();
        // A series that was never set is not there to be removed; that is no error.
        let _ = self.series.monitored.remove_label_values(&[namespace, name]);
        let _ = self.series.updated.remove_label_values(&[namespace, name]);
        let _ = self.series.reconciliation.remove_label_values(&[&self.full_name]);
        let _ = self.series.recommendations.remove_label_values(&[&self.full_name]);
        for reason in &used.reasons {
            let _ = self.series.skipped.remove_label_values(&[namespace, name, reason]);
        }
        for error_type in &used.error_types {
            let _ = self.series.errors.remove_label_values(&[&self.full_name, error_type]);
        }
        for method in &used.methods {
            let _ = self.series.applications.remove_label_values(&[&self.full_name, method]);
        }
    }
}

fn count(workloads: usize) -> i64 {
    i64::try_from(workloads).unwrap_or(i64::MAX)
}
