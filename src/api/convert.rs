//! Between the protocol's types, the store's and our own. Total: nothing here can fail.

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
        p90: of.quantile(0.90),
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
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

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
}
