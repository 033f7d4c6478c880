//! From answers about namespaces to samples in the order in which the store takes them.
//!
//! Invariant: what is held is bounded by the number of values.

use crate::hash::fnv_1a;
use crate::provider::prometheus::PodHistory;
use optipod_storage::{PastSample, SeriesKey, Timestamp};
use std::collections::BTreeMap;

/// Values that are held at once at most, 40 bytes each; more make the slices shorter.
pub(super) const MOST_VALUES: usize = 1_500_000;

/// Seconds of the store's shortest slots: it takes samples in any order within one, and slots in order.
const SLOT: i64 = 300;

struct Value {
    series: usize,
    pod: u64,
    at: Timestamp,
    cpu: f64,
    memory: f64,
}

/// Values of a slice.
#[derive(Default)]
pub(super) struct Samples {
    keys: Vec<SeriesKey>,
    by_slot: BTreeMap<i64, Vec<Value>>,
    count: usize,
}

impl Samples {
    /// How many values.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Takes what one container of one pod used.
    pub(super) fn add(&mut self, history: PodHistory) {
        let PodHistory { series, pod, points } = history;
        let index = self.keys.len();
        let pod = fnv_1a(pod.bytes());
        self.count += points.len();
        for point in points {
            let at = Timestamp(point.at.as_millisecond());
            let slot = point.at.as_second().div_euclid(SLOT);
            let value = Value { series: index, pod, at, cpu: point.cpu, memory: point.memory };
            self.by_slot.entry(slot).or_default().push(value);
        }
        self.keys.push(SeriesKey {
            namespace: series.workload.namespace,
            kind: series.workload.kind.as_str().to_owned(),
            workload: series.workload.name,
            container: series.container,
        });
    }

    /// All of it, slot after slot.
    pub(super) fn into_slots(self) -> impl Iterator<Item = Vec<PastSample>> {
        let Self { keys, by_slot, .. } = self;
        by_slot.into_values().map(move |values| {
            let sample = |value: Value| {
                let Value { series, pod, at, cpu, memory } = value;
                Some(PastSample { key: keys.get(series)?.clone(), pod, at, cpu, memory })
            };
            values.into_iter().filter_map(sample).collect()
        })
    }
}
