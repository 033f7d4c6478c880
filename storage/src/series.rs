//! What a series is called, and the number that stands for it inside one store.
//!
//! May not know: samples, slots, files.

use std::fmt;

use crate::Timestamp;

/// The identity of a series: one container of one workload, all its replicas pooled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeriesKey {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The kind of the workload that owns the pods, such as `Deployment`.
    pub kind: String,
    /// The workload's name.
    pub workload: String,
    /// The container's name in the pod.
    pub container: String,
}

impl fmt::Display for SeriesKey {
    /// `namespace/kind/workload/container`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, kind, workload, container } = self;
        write!(f, "{namespace}/{kind}/{workload}/{container}")
    }
}

/// The number of a series in the store that gave it out; it means nothing to another store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeriesId(pub(crate) u32);

/// Makes room for `len` series in a list that is indexed by their numbers, and for an eighth more:
/// doubling would leave up to half of such a list empty.
pub(crate) fn make_room<T>(list: &mut Vec<T>, len: usize) {
    if list.capacity() < len {
        list.reserve_exact(len - list.len() + len / 8); // capacity is never below the length
    }
}

/// One measurement of one container in one pod.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// The series, from [`crate::Store::intern`].
    pub series: SeriesId,
    /// A stable hash of the pod's uid: samples of the same series, pod and time count once.
    pub pod: u64,
    /// When it was measured.
    pub at: Timestamp,
    /// CPU in use, in cores.
    pub cpu: f64,
    /// Memory in use, in bytes.
    pub memory: f64,
}

/// A series that the store holds samples of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeriesInfo {
    /// Its identity.
    pub key: SeriesKey,
    /// Its first sample, but never before the oldest slot that is kept.
    pub first: Timestamp,
    /// Its last sample.
    pub last: Timestamp,
}
