//! Between the protocol's types, the store's and our own. Total: nothing here can fail.

use crate::plant::planted;
use crate::proto;
use crate::usage::{ResourceUsage, WindowUsage};
use jiff::Timestamp;
use optipod_storage::{Distribution, SeriesInfo, SeriesKey, StoreStatus, Usage};
use std::time::Duration;

/// The store's time.
pub(super) fn stored(at: Timestamp) -> optipod_storage::Timestamp {
    optipod_storage::Timestamp(at.as_millisecond())
}

/// A store's time as ours; saturates beyond the years that can be represented.
pub(super) fn timestamp(at: optipod_storage::Timestamp) -> Timestamp {
    let nearest = if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(at.0).unwrap_or(nearest)
}

/// A store's time on the wire.
pub(super) fn wire_time(at: optipod_storage::Timestamp) -> prost_types::Timestamp {
    let nanos = at.0.rem_euclid(1000) * 1_000_000;
    prost_types::Timestamp { seconds: at.0.div_euclid(1000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// A duration on the wire.
pub(super) fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

pub(super) fn series(key: SeriesKey) -> proto::Series {
    let SeriesKey { namespace, kind, workload, container } = key;
    proto::Series { namespace, kind, workload, container }
}

pub(super) fn series_info(info: SeriesInfo) -> proto::SeriesInfo {
    proto::SeriesInfo {
        series: Some(series(info.key)),
        first_sample: Some(wire_time(info.first)),
        last_sample: Some(wire_time(info.last)),
    }
}

/// Usage that was asked for over `window`.
pub(super) fn usage(window: Duration, usage: &Usage) -> proto::Usage {
    proto::Usage {
        window: Some(wire_duration(window)),
        from: Some(wire_time(usage.from)),
        to: Some(wire_time(usage.to)),
        covered: Some(wire_duration(usage.covered)),
        cpu: Some(distribution(&usage.cpu)),
        memory: Some(distribution(&usage.memory)),
        sub_usages: Vec::new(),
    }
}

/// A window without samples.
pub(super) fn no_usage(window: Duration) -> proto::Usage {
    proto::Usage { window: Some(wire_duration(window)), ..proto::Usage::default() }
}

fn distribution(of: &Distribution) -> proto::Distribution {
    proto::Distribution {
        p50: of.quantile(0.50),
        p75: of.quantile(0.75),
        p90: of.quantile(if planted(13) { 0.75 } else { 0.90 }),
        p95: of.quantile(0.95),
        p98: of.quantile(0.98),
        p99: of.quantile(0.99),
        mean: of.mean(),
        peak: of.max(),
        samples: of.count(),
    }
}

/// Usage as recommendations read it.
pub(super) fn window_usage(usage: &Usage) -> WindowUsage {
    WindowUsage {
        cpu: resource_usage(&usage.cpu),
        memory: resource_usage(&usage.memory),
        from: timestamp(usage.from),
        to: timestamp(usage.to),
        covered: usage.covered,
        notes: Vec::new(),
    }
}

fn resource_usage(of: &Distribution) -> ResourceUsage {
    ResourceUsage {
        p50: of.quantile(0.50),
        p90: of.quantile(0.90),
        p99: of.quantile(0.99),
        mean: of.mean(),
        peak: of.max(),
        samples: of.count(),
    }
}

pub(super) fn status(status: StoreStatus, retention: Duration) -> proto::GetStoreStatusResponse {
    proto::GetStoreStatusResponse {
        series: status.series,
        open_slots: status.open_slots,
        sealed_slots: status.sealed_slots.values().sum(),
        disk_bytes: status.disk_bytes,
        last_tick: status.last_tick.map(wire_time),
        samples_accepted: status.totals.accepted,
        samples_refused: status.totals.late + status.totals.future + status.totals.invalid,
        problems: status.problems,
        retention: Some(wire_duration(retention)),
        loading: !status.is_loaded,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_before_and_after_the_epoch_keep_their_milliseconds() {
        for (millis, seconds, nanos) in [(1_500, 1, 500_000_000), (-1, -1, 999_000_000), (0, 0, 0)] {
            let at = optipod_storage::Timestamp(millis);
            assert_eq!(wire_time(at), prost_types::Timestamp { seconds, nanos });
            assert_eq!(stored(timestamp(at)), at);
        }
        assert_eq!(timestamp(optipod_storage::Timestamp(i64::MAX)), Timestamp::MAX);
        assert_eq!(timestamp(optipod_storage::Timestamp(i64::MIN)), Timestamp::MIN);
    }

    /// The sorted values around the rank of `q`, as far below and above it as one centroid reaches: of all samples, the scale
    /// function k2 of the t-digest gives it `q (1 - q) (4 ln(n / δ) + 24) / δ` (Dunning, "The size of a t-digest"); δ is 100.
    fn around(sorted: &[f64], q: f64) -> (f64, f64) {
        let count = sorted.len() as f64;
        let slack = q * (1.0 - q) * (4.0 * (count / 100.0).ln().max(0.0) + 24.0) / 100.0;
        let low = sorted.iter().enumerate().find(|(rank, _)| (*rank + 1) as f64 >= (q - slack) * count - 1.0);
        let high = sorted.iter().enumerate().find(|(rank, _)| *rank as f64 >= (q + slack) * count + 1.0);
        (*low.unwrap().1, high.map_or(sorted[sorted.len() - 1], |(_, value)| *value))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        // Feature: k8s-workload-rightsizing, Property 13: Percentile computation
        #[test]
        fn property_13_p50_p90_and_p99_of_both_resources_are_those_of_the_sorted_samples(
            samples in prop::collection::vec((1e-6..64.0f64, 1e3..1e11f64), 1..1500),
        ) {
            let (mut cpu, mut memory): (Vec<f64>, Vec<f64>) = samples.into_iter().unzip();
            let at = optipod_storage::Timestamp(0);
            let stored = Usage {
                cpu: Distribution::from_values(cpu.iter().copied()).unwrap(),
                memory: Distribution::from_values(memory.iter().copied()).unwrap(),
                from: at,
                to: at,
                covered: Duration::ZERO,
            };
            let (own, wire) = (window_usage(&stored), usage(Duration::from_mins(5), &stored));
            for (sorted, own, wire) in [(&mut cpu, own.cpu, wire.cpu), (&mut memory, own.memory, wire.memory)] {
                sorted.sort_by(f64::total_cmp);
                let wire = wire.unwrap();
                prop_assert_eq!((own.p50, own.p90, own.p99, own.peak), (wire.p50, wire.p90, wire.p99, wire.peak));
                for (q, got) in [(0.5, own.p50), (0.9, own.p90), (0.99, own.p99)] {
                    let (low, high) = around(sorted, q);
                    prop_assert!(low * 0.999 <= got && got <= high * 1.001, "P{} {} is not in {}..{}", q, got, low, high);
                }
                let all = [wire.p50, wire.p75, wire.p90, wire.p95, wire.p98, wire.p99, wire.peak];
                prop_assert!(all.is_sorted(), "{:?}", all);
                prop_assert_eq!(own.samples, sorted.len() as u64);
            }
        }
    }
}
