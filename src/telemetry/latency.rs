//! OptiPod's own latencies: median, 99th percentile and maximum of the last minutes, as a Prometheus summary.
//!
//! It may not know what it times. Invariant: memory is bounded whatever happens, and a lock is held for one count or one
//! copy.

use hdrhistogram::Histogram;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const NAME: &str = "optipod_latency_seconds";
const HELP: &str = "Median, 99th percentile and maximum of the last 5 to 10 minutes: a tick until durable, a question \
                    to a usage provider, a cycle of a policy";
/// What is shown covers this period and the one before.
const PERIOD: Duration = Duration::from_mins(5);
/// An hour; what takes longer counts as that.
const MOST_MICROSECONDS: u64 = 3_600_000_000;
/// Of each value, so that it is off by 1 % at most. It takes 13 KB an operation and period.
const DIGITS: u8 = 2;
/// As the summary shows them; the last is the maximum.
const QUANTILES: [f64; 3] = [0.5, 0.99, 1.0];

/// The latencies of one operation; clones share them.
#[derive(Clone)]
pub(super) struct Latency(Arc<Mutex<Recent>>);

struct Recent {
    began: Instant,
    current: Histogram<u32>,
    before: Histogram<u32>,
    /// Since the start, because a summary's count and sum only grow.
    count: u64,
    sum: Duration,
}

impl Latency {
    fn new() -> Result<Self, prometheus::Error> {
        let empty = Histogram::new_with_bounds(1, MOST_MICROSECONDS, DIGITS);
        let empty: Histogram<u32> = empty.map_err(|error| prometheus::Error::Msg(error.to_string()))?;
        let (current, before) = (empty.clone(), empty);
        Ok(Self(Arc::new(Mutex::new(Recent { began: Instant::now(), current, before, count: 0, sum: Duration::ZERO }))))
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It took so long, and ended now.
    pub(super) fn observe(&self, took: Duration) {
        self.observe_at(took, Instant::now());
    }

    fn observe_at(&self, took: Duration, now: Instant) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut recent = self.lock();
        recent.turn(now);
        recent.current.saturating_record(microseconds);
        recent.count += 1;
        recent.sum = recent.sum.saturating_add(took);
    }

    fn summary_at(&self, now: Instant) -> Summary {
        let (mut values, more, count, sum) = {
            let mut recent = self.lock();
            recent.turn(now);
            (recent.current.clone(), recent.before.clone(), recent.count, recent.sum)
        };
        let mut summary = Summary::default();
        summary.set_sample_count(count);
        summary.set_sample_sum(sum.as_secs_f64());
        // Both have the same bounds. Where nothing was timed lately, there are no quantiles.
        if values.add(&more).is_ok() && !values.is_empty() {
            summary.set_quantile(QUANTILES.iter().map(|q| quantile(&values, *q)).collect());
        }
        summary
    }
}

fn quantile(values: &Histogram<u32>, q: f64) -> Quantile {
    let mut quantile = Quantile::default();
    quantile.set_quantile(q);
    quantile.set_value(values.value_at_quantile(q) as f64 / 1e6);
    quantile
}

impl Recent {
    /// Begins a period when the current one is over.
    fn turn(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.began).as_secs() / PERIOD.as_secs();
        if periods == 0 {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.before);
        self.current.reset();
        self.began += PERIOD;
        if periods > 1 {
            self.before.reset();
            self.began = now;
        }
    }
}

/// The latencies of each operation.
#[derive(Clone)]
pub(super) struct Latencies {
    desc: Desc,
    pub(super) tick: Latency,
    pub(super) query: Latency,
    pub(super) reconcile: Latency,
}

impl Latencies {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let desc = Desc::new(NAME.to_owned(), HELP.to_owned(), vec!["operation".to_owned()], HashMap::new())?;
        Ok(Self { desc, tick: Latency::new()?, query: Latency::new()?, reconcile: Latency::new()? })
    }
}

impl Collector for Latencies {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Instant::now();
        let metric = |(operation, latency): (&str, &Latency)| {
            let mut label = LabelPair::default();
            label.set_name("operation".to_owned());
            label.set_value(operation.to_owned());
            let mut metric = Metric::from_label(vec![label]);
            metric.set_summary(latency.summary_at(now));
            metric
        };
        let operations = [("query", &self.query), ("reconcile", &self.reconcile), ("tick", &self.tick)];
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(operations.into_iter().map(metric).collect());
        vec![family]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(latency: &Latency, now: Instant) -> Vec<f64> {
        latency.summary_at(now).get_quantile().iter().map(Quantile::value).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn quantiles_are_those_of_the_sorted_latencies(micros in prop::collection::vec(1_u64..100_000_000, 1..200)) {
            let latency = Latency::new().unwrap();
            let now = Instant::now();
            for micros in &micros {
                latency.observe_at(Duration::from_micros(*micros), now);
            }
            let mut exact = micros.clone();
            exact.sort_unstable();
            let rank = |percent: usize| exact[(exact.len() * percent).div_ceil(100) - 1] as f64 / 1e6;
            for (got, exact) in shown(&latency, now).into_iter().zip([rank(50), rank(99), rank(100)]) {
                prop_assert!((got - exact).abs() <= exact * 0.01, "{got} {exact}");
            }
            let summary = latency.summary_at(now);
            prop_assert_eq!(summary.sample_count(), micros.len() as u64);
            let sum = micros.iter().sum::<u64>() as f64 / 1e6;
            prop_assert!((summary.sample_sum() - sum).abs() < 1e-6);
        }
    }

    #[test]
    fn what_is_older_than_two_periods_is_forgotten() {
        let latency = Latency::new().unwrap();
        let start = Instant::now();
        let after = |minutes| start + Duration::from_mins(minutes);
        latency.observe_at(Duration::from_secs(9), after(1));
        latency.observe_at(Duration::from_secs(1), after(6));
        let maximum = |minutes| shown(&latency, after(minutes)).last().map(|seconds| seconds.round());
        assert_eq!(maximum(9), Some(9.0));
        assert_eq!(maximum(11), Some(1.0));
        assert_eq!(maximum(40), None);
        assert_eq!(latency.summary_at(after(40)).sample_count(), 2, "the count only grows");
        latency.observe_at(Duration::from_secs(3), after(41));
        assert_eq!(maximum(42), Some(3.0));
    }

    #[test]
    fn what_takes_longer_than_an_hour_counts_as_an_hour() {
        let latency = Latency::new().unwrap();
        latency.observe(Duration::MAX);
        let maximum = *shown(&latency, Instant::now()).last().unwrap();
        assert!((maximum - 3600.0).abs() < 36.0, "{maximum}");
    }
}
