//! The metrics of the collector and its store.

use super::metrics::{DURATION_BUCKETS, register};
use jiff::Timestamp;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
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
    waiting: IntGauge,
    store_series: IntGauge,
    store_disk_bytes: IntGauge,
}

impl CollectorMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            register(registry, metric.clone()).map(|()| metric)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let metric = IntCounterVec::new(Opts::new(name, help), &[label])?;
            register(registry, metric.clone()).map(|()| metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            register(registry, metric.clone()).map(|()| metric)
        };
        let last_success =
            Gauge::new("optipod_collector_last_success_timestamp_seconds", "When the last tick was stored")?;
        register(registry, last_success.clone())?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "optipod_collector_tick_duration_seconds",
                "Time one tick took, from request to durable",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
        )?;
        register(registry, duration.clone())?;
        let refused = counters("optipod_collector_samples_refused_total", "Points that were not counted", "cause")?;
        for cause in RefusedCause::ALL {
            refused.with_label_values(&[cause.as_str()]);
        }
        Ok(Self {
            ticks: counter("optipod_collector_ticks_total", "Ticks begun")?,
            failures: counters("optipod_collector_tick_failures_total", "Ticks that failed, by step", "step")?,
            consecutive_failures: gauge(
                "optipod_collector_consecutive_failures",
                "Ticks that failed since the last that was stored",
            )?,
            accepted: counter("optipod_collector_samples_accepted_total", "Samples counted")?,
            refused,
            last_success,
            duration,
            waiting: gauge("optipod_collector_samples_waiting", "Samples in memory that the store could not take yet")?,
            store_series: gauge("optipod_store_series", "Series that the store knows")?,
            store_disk_bytes: gauge("optipod_store_disk_bytes", "Bytes that the store takes on disk")?,
        })
    }

    /// A tick ended after this time, whatever its result.
    pub fn observe_tick(&self, took: Duration) {
        self.ticks.inc();
        self.duration.observe(took.as_secs_f64());
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
    pub fn set_store(&self, series: u64, disk_bytes: u64) {
        self.store_series.set(i64::try_from(series).unwrap_or(i64::MAX));
        self.store_disk_bytes.set(i64::try_from(disk_bytes).unwrap_or(i64::MAX));
    }
}
