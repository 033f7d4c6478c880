//! The metrics of the collector and its store.

use super::declare::Declare;
use super::latency::Latency;
use jiff::Timestamp;
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, Registry};
use std::time::Duration;

/// Why a point of metrics-server did not become a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedCause {
    /// Counted before: metrics-server repeats a point until it has a newer one.
    Duplicate,
    /// Its slot is closed.
    Late,
    /// Ahead of the clock.
    Future,
    /// Negative, not a number, or not a quantity.
    Invalid,
    /// Its pod or its pod's owner is not known yet.
    Unresolved,
    /// The store could not take it, and neither could the buffer that waits for the store.
    Dropped,
}

impl RefusedCause {
    /// Every cause.
    pub const ALL: [Self; 6] =
        [Self::Duplicate, Self::Late, Self::Future, Self::Invalid, Self::Unresolved, Self::Dropped];

    /// The value of the `cause` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Future => "future",
            Self::Invalid => "invalid",
            Self::Unresolved => "unresolved",
            Self::Dropped => "dropped",
        }
    }
}

/// The metrics of the collector and its store.
#[derive(Clone)]
pub struct CollectorMetrics {
    ticks: IntCounter,
    failures: IntCounterVec,
    consecutive_failures: IntGauge,
    accepted: IntCounter,
    refused: IntCounterVec,
    last_success: Gauge,
    duration: Histogram,
    latency: Latency,
    waiting: IntGauge,
    store_series: IntGauge,
    store_disk_bytes: IntGauge,
    store_problems: IntGauge,
}

impl CollectorMetrics {
    pub(super) fn new(registry: &Registry, latency: Latency) -> Result<Self, prometheus::Error> {
        let declare = Declare(registry);
        let refused =
            declare.counters("optipod_collector_samples_refused_total", "Points that were not counted", &["cause"])?;
        for cause in RefusedCause::ALL {
            refused.with_label_values(&[cause.as_str()]);
        }
        let failures =
            declare.counters("optipod_collector_tick_failures_total", "Ticks that failed, by step", &["step"])?;
        Ok(Self {
            latency,
            ticks: declare.counter("optipod_collector_ticks_total", "Ticks begun")?,
            failures,
            consecutive_failures: declare.gauge("optipod_collector_consecutive_failures", "Ticks failed in a row")?,
            accepted: declare.counter("optipod_collector_samples_accepted_total", "Samples counted")?,
            refused,
            last_success: declare.moment("optipod_collector_last_success_timestamp_seconds", "Last tick stored")?,
            duration: declare.duration("optipod_collector_tick_duration_seconds", "Time of a tick until durable")?,
            waiting: declare.gauge("optipod_collector_samples_waiting", "Samples that wait for the store in memory")?,
            store_series: declare.gauge("optipod_store_series", "Series that the store knows")?,
            store_disk_bytes: declare.gauge("optipod_store_disk_bytes", "Bytes that the store takes on disk")?,
            store_problems: declare.gauge("optipod_store_problems", "Damage found since the store was opened")?,
        })
    }

    /// A tick ended after this time, whatever its result.
    pub fn observe_tick(&self, took: Duration) {
        self.ticks.inc();
        self.duration.observe(took.as_secs_f64());
        self.latency.observe(took);
    }

    /// The tick was stored.
    pub fn succeeded(&self, at: Timestamp) {
        self.last_success.set(at.as_millisecond() as f64 / 1000.0);
        self.consecutive_failures.set(0);
    }

    /// The tick failed in this step, the `consecutive`th in a row.
    pub fn failed(&self, step: &str, consecutive: u32) {
        self.failures.with_label_values(&[step]).inc();
        self.consecutive_failures.set(i64::from(consecutive));
    }

    /// This many samples were counted.
    pub fn accept(&self, samples: u64) {
        self.accepted.inc_by(samples);
    }

    /// This many points were not counted.
    pub fn refuse(&self, cause: RefusedCause, points: u64) {
        self.refused.with_label_values(&[cause.as_str()]).inc_by(points);
    }

    /// This many samples wait in memory for the store.
    pub fn set_waiting(&self, samples: usize) {
        self.waiting.set(i64::try_from(samples).unwrap_or(i64::MAX));
    }

    /// What the store holds.
    pub fn set_store(&self, series: u64, disk_bytes: u64, problems: usize) {
        self.store_series.set(i64::try_from(series).unwrap_or(i64::MAX));
        self.store_disk_bytes.set(i64::try_from(disk_bytes).unwrap_or(i64::MAX));
        self.store_problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
    }
}
