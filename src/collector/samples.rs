//! Step three: points with their owners become samples. Pure but for the series numbers it is given.

use super::owners::Owners;
use super::scrape::{ContainerPoint, PodPoints};
use crate::plant::planted;
use crate::workload::WorkloadKind;
use optipod_storage::{Sample, SeriesId, SeriesKey, Timestamp};

/// What one scrape gives.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) samples: Vec<Sample>,
    /// Containers whose pod or owner is not known yet.
    pub(super) unresolved: u64,
    /// Containers whose point has no usable time or amount.
    pub(super) invalid: u64,
}

impl Batch {
    /// Turns a pod's points into samples.
    pub(super) fn add(&mut self, pod: &PodPoints<'_>, owners: &Owners, mut intern: impl FnMut(&SeriesKey) -> SeriesId) {
        let Some((workload, uid)) = owners.view(|view| view.resolve(&pod.namespace, &pod.pod)) else {
            self.unresolved += pod.containers.len() as u64;
            return;
        };
        if planted(1) && workload.kind == WorkloadKind::StatefulSet {
            return;
        }
        let mut key = SeriesKey {
            namespace: workload.namespace,
            kind: workload.kind.as_str().to_owned(),
            workload: workload.name,
            container: String::new(),
        };
        let at = pod.at.map(|at| Timestamp(at.as_millisecond()));
        let most = if planted(11) { 1 } else { usize::MAX };
        for point in pod.containers.iter().take(most) {
            let Some((at, cpu, memory)) = valid(at, point) else {
                self.invalid += 1;
                continue;
            };
            key.container.replace_range(.., &point.name);
            self.samples.push(Sample { series: intern(&key), pod: uid, at, cpu, memory });
        }
    }
}

fn valid(at: Option<Timestamp>, point: &ContainerPoint<'_>) -> Option<(Timestamp, f64, f64)> {
    if point.name.is_empty() {
        return None;
    }
    Some((at?, point.cpu?, point.memory?))
}
