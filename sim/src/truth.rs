//! The ledger of what really happened: every published point, every kill, all throttling.
//!
//! The oracle for OptiPod's store and recommendations. It sorts exact values and shares no code with
//! what it judges.
//! What it may not know: OptiPod, or anything that the API did not publish (but kills and throttling,
//! which only the simulation can know).
//! Invariant: the points of a series are exactly those of `metrics.k8s.io`, each pod and timestamp once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

/// One container of one workload, all replicas together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Series {
    /// Namespace.
    pub namespace: String,
    /// `Deployment`, `StatefulSet`, `DaemonSet`, or `Pod` for a bare pod.
    pub kind: String,
    /// Workload name.
    pub workload: String,
    /// Container name.
    pub container: String,
}

impl Series {
    /// Names a series.
    pub fn new(namespace: &str, kind: &str, workload: &str, container: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
            workload: workload.to_owned(),
            container: container.to_owned(),
        }
    }
}

/// CPU or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Cores.
    Cpu,
    /// Bytes.
    Memory,
}

/// One published point.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: i64,
    cpu: f64,
    memory: f64,
}

/// A container killed for memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OomKill {
    /// When.
    pub at: Timestamp,
    /// Whose container.
    pub series: Series,
    /// Which pod.
    pub pod: String,
    /// Working set that could not be given, in bytes.
    pub bytes: f64,
    /// Whether the node was full (else the container's own limit was hit).
    pub node_full: bool,
}

/// CPU asked for and got, in core-seconds since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct CpuTime {
    demanded: f64,
    received: f64,
}

/// The cluster as a whole at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClusterTotals {
    /// Requested cores of all running pods.
    pub requested_cpu: f64,
    /// Requested bytes.
    pub requested_memory: f64,
    /// Used cores.
    pub used_cpu: f64,
    /// Used bytes.
    pub used_memory: f64,
    /// Running pods.
    pub pods: usize,
}

/// What is known of one series.
#[derive(Debug)]
struct Row {
    series: Series,
    points: Vec<Point>,
    cpu_time: CpuTime,
}

#[derive(Debug, Default)]
struct Ledger {
    index: BTreeMap<Series, usize>,
    rows: Vec<Row>,
    kills: Vec<OomKill>,
    /// Cumulative CPU time of each row, at each mark.
    marks: BTreeMap<i64, Vec<CpuTime>>,
    totals: BTreeMap<i64, ClusterTotals>,
}

impl Ledger {
    fn row(&self, series: &Series) -> Option<&Row> {
        self.rows.get(*self.index.get(series)?)
    }
}

/// The number of a series in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowId(usize);

/// A handle to the ledger; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Truth(Arc<Mutex<Ledger>>);

impl Truth {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All series seen so far, in order.
    pub fn series(&self) -> Vec<Series> {
        self.lock().index.keys().cloned().collect()
    }

    /// Number of points in `[from, to]`.
    pub fn count(&self, series: &Series, from: Timestamp, to: Timestamp) -> usize {
        self.values(series, Resource::Cpu, from, to).len()
    }

    /// The values in `[from, to]` in ascending order: cores or bytes.
    pub fn values(&self, series: &Series, resource: Resource, from: Timestamp, to: Timestamp) -> Vec<f64> {
        let ledger = self.lock();
        let row = ledger.row(series);
        let points = row.map(|row| row.points.as_slice()).unwrap_or_default();
        let mut values: Vec<f64> = points
            .iter()
            .filter(|point| (from.as_second()..=to.as_second()).contains(&point.at))
            .map(|point| match resource {
                Resource::Cpu => point.cpu,
                Resource::Memory => point.memory,
            })
            .collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// Exact quantiles over `[from, to]` by nearest rank (the ⌈q·n⌉-th smallest value).
    ///
    /// `None` where the window holds no point. Units: cores or bytes.
    pub fn quantiles(
        &self,
        series: &Series,
        resource: Resource,
        from: Timestamp,
        to: Timestamp,
        quantiles: &[f64],
    ) -> Option<Vec<f64>> {
        let values = self.values(series, resource, from, to);
        let rank = |q: f64| {
            // At most the number of points, which is far below 2^52.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rank = (q * values.len() as f64).ceil() as usize;
            values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
        };
        quantiles.iter().map(|q| rank(*q)).collect()
    }

    /// The largest value in `[from, to]`.
    pub fn max(&self, series: &Series, resource: Resource, from: Timestamp, to: Timestamp) -> Option<f64> {
        self.values(series, resource, from, to).last().copied()
    }

    /// Kills for memory in `[from, to]`.
    pub fn oom_kills(&self, from: Timestamp, to: Timestamp) -> Vec<OomKill> {
        let ledger = self.lock();
        let inside = ledger.kills.iter().filter(|kill| (from..=to).contains(&kill.at));
        inside.cloned().collect()
    }

    /// The share of demanded CPU time that a series did not get in `[from, to]`, 0 to 1.
    ///
    /// Exact at marks five minutes apart; other instants are taken to the mark before.
    pub fn throttled_share(&self, series: &Series, from: Timestamp, to: Timestamp) -> f64 {
        let ledger = self.lock();
        let row = ledger.index.get(series).copied().unwrap_or(usize::MAX);
        let at = |time: Timestamp| {
            let mark = ledger.marks.range(..=time.as_second()).next_back();
            mark.and_then(|(_, times)| times.get(row)).copied().unwrap_or_default()
        };
        let (start, end) = (at(from), at(to));
        let demanded = end.demanded - start.demanded;
        if demanded > 0.0 { 1.0 - (end.received - start.received) / demanded } else { 0.0 }
    }

    /// The cluster's totals at the last scrape not after `at`.
    pub fn totals(&self, at: Timestamp) -> Option<ClusterTotals> {
        let ledger = self.lock();
        ledger.totals.range(..=at.as_second()).next_back().map(|(_, totals)| *totals)
    }

    /// The whole ledger as text, for comparing two runs byte for byte.
    pub fn dump(&self) -> String {
        use std::fmt::Write as _;
        let ledger = self.lock();
        let mut out = String::new();
        for row in ledger.index.values().filter_map(|row| ledger.rows.get(*row)) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:?}", row.series);
            for point in &row.points {
                let _ = writeln!(out, "{} {} {}", point.at, point.cpu, point.memory);
            }
        }
        let _ = writeln!(out, "{:?}", ledger.kills);
        for (at, totals) in &ledger.totals {
            let _ = writeln!(out, "{at} {totals:?}");
        }
        out
    }

    /// The row of a series, made if it is new.
    pub(crate) fn row(&self, series: &Series) -> RowId {
        let mut ledger = self.lock();
        if let Some(row) = ledger.index.get(series) {
            return RowId(*row);
        }
        let row = ledger.rows.len();
        ledger.index.insert(series.clone(), row);
        ledger.rows.push(Row { series: series.clone(), points: Vec::new(), cpu_time: CpuTime::default() });
        RowId(row)
    }

    /// Notes a published point: cores and bytes.
    pub(crate) fn record(&self, row: RowId, at: Timestamp, cpu: f64, memory: f64) {
        if let Some(row) = self.lock().rows.get_mut(row.0) {
            row.points.push(Point { at: at.as_second(), cpu, memory });
        }
    }

    pub(crate) fn record_kill(&self, kill: OomKill) {
        self.lock().kills.push(kill);
    }

    /// Adds core-seconds asked for and got.
    pub(crate) fn record_cpu_time(&self, row: RowId, demanded: f64, received: f64) {
        if let Some(row) = self.lock().rows.get_mut(row.0) {
            row.cpu_time.demanded += demanded;
            row.cpu_time.received += received;
        }
    }

    pub(crate) fn mark(&self, at: Timestamp) {
        let mut ledger = self.lock();
        let times = ledger.rows.iter().map(|row| row.cpu_time).collect();
        ledger.marks.insert(at.as_second(), times);
    }

    pub(crate) fn record_totals(&self, at: Timestamp, totals: ClusterTotals) {
        self.lock().totals.insert(at.as_second(), totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank_over_the_window() {
        let truth = Truth::default();
        let series = Series::new("shop", "Deployment", "web", "app");
        let at = |second| Timestamp::from_second(second).unwrap();
        let row = truth.row(&series);
        for n in 1..=100 {
            truth.record(row, at(n), f64::from(u8::try_from(n).unwrap()), 0.0);
        }
        let all = truth.quantiles(&series, Resource::Cpu, at(0), at(200), &[0.5, 0.9, 0.99, 1.0]);
        assert_eq!(all, Some(vec![50.0, 90.0, 99.0, 100.0]));
        let some = truth.quantiles(&series, Resource::Cpu, at(91), at(100), &[0.5]);
        assert_eq!(some, Some(vec![95.0]));
        assert_eq!(truth.quantiles(&series, Resource::Cpu, at(300), at(400), &[0.5]), None);
        assert_eq!(truth.count(&series, at(91), at(100)), 10);
    }
}
