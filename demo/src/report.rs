//! The JSON document at the end: what was answered and what was true, what was changed and what came of it.

use crate::day::Outcome;
use crate::frame::Requested;
use optipod::policy::types::WorkloadStatus;
use optipod::proto;
use optipod_sim::{Resource, Series};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The whole document. It holds no wall time: the same seed gives the same bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The seed of the cluster.
    pub seed: u64,
    /// How long was simulated.
    pub simulated_seconds: u64,
    /// Counts and sums over all containers.
    pub totals: Totals,
    /// One row a container.
    pub containers: Vec<Row>,
}

/// Counts and sums over all containers. "Before" is the same day without OptiPod.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names say it
pub struct Totals {
    pub workloads: usize,
    pub containers: usize,
    pub samples: u64,
    pub cpu_millicores_before: u64,
    pub cpu_millicores_after: u64,
    pub memory_bytes_before: u64,
    pub memory_bytes_after: u64,
    pub oom_kills_before: usize,
    pub oom_kills_after: usize,
    pub applied: u64,
    pub applied_by_method: BTreeMap<String, u64>,
    pub changed_workloads: usize,
    pub skipped_by_reason: BTreeMap<String, usize>,
    pub events: u64,
}

/// One container.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names say it
pub struct Row {
    pub namespace: String,
    pub kind: String,
    pub workload: String,
    pub container: String,
    pub replicas: u64,
    /// As the recommender answers for the whole day over gRPC.
    pub usage: Usage,
    /// Computed from every point that the simulated pods emitted, without OptiPod's storage.
    pub exact: Usage,
    /// |answer − exact| ÷ exact.
    pub error: Errors,
    /// How far the answer's rank among all emitted points is from the quantile's, as a share of the points. At a cliff
    /// between two modes a tiny error of rank is a large one of value.
    pub rank_error: Errors,
    /// Requests over all replicas.
    pub before: Requested,
    pub after: Requested,
    pub recommendation: Option<Recommendation>,
    pub explanation: Option<String>,
    pub oom_kills: BeforeAfter<usize>,
    /// The share of demanded CPU time that was not received.
    pub throttled_share: BeforeAfter<f64>,
}

/// Both resources; CPU in cores, memory in bytes.
#[derive(Serialize)]
pub struct Usage {
    /// Cores.
    pub cpu: Quantiles,
    /// Bytes.
    pub memory: Quantiles,
    /// How many points the quantiles are of.
    pub samples: u64,
}

/// Three quantiles and the peak.
#[derive(Serialize, Clone, Copy)]
#[allow(missing_docs)]
pub struct Quantiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub peak: f64,
}

/// Relative errors of both resources.
#[derive(Serialize)]
#[allow(missing_docs)]
pub struct Errors {
    pub cpu: Quantiles,
    pub memory: Quantiles,
}

/// Requests of one replica.
#[derive(Serialize)]
#[allow(missing_docs)]
pub struct Recommendation {
    pub cpu: Option<String>,
    pub memory: Option<String>,
}

/// The day without OptiPod and the day with it.
#[derive(Serialize)]
#[allow(missing_docs)]
pub struct BeforeAfter<T> {
    pub before: T,
    pub after: T,
}

impl Report {
    /// Puts the two days side by side.
    pub fn new(seed: u64, until: Duration, without: &Outcome, with: &Outcome) -> Self {
        let statuses: Vec<&WorkloadStatus> =
            with.policies.iter().filter_map(|p| p.status.as_ref()).flat_map(|s| &s.workloads).collect();
        let containers: Vec<Row> =
            with.answers.iter().filter_map(|(series, usage)| row(series, usage, &statuses, without, with)).collect();
        let totals = totals(&containers, &statuses, with);
        Self { seed, simulated_seconds: until.as_secs(), totals, containers }
    }
}

fn row(
    series: &Series,
    usage: &proto::Usage,
    statuses: &[&WorkloadStatus],
    without: &Outcome,
    with: &Outcome,
) -> Option<Row> {
    let (answered, exact) = (answered(usage)?, exact(series, usage, with)?);
    // A workload that two policies cover stands in both; the one that acts has recommendations.
    let of_workload =
        |s: &&&WorkloadStatus| s.kind == series.kind && s.namespace == series.namespace && s.name == series.workload;
    let entries = statuses.iter().filter(of_workload).flat_map(|s| &s.recommendations);
    let entry = entries.filter(|r| r.container == series.container).max_by_key(|r| r.cpu.is_some());
    let kills = |day: &Outcome| {
        day.truth.oom_kills(day.span.0, day.span.1).iter().filter(|kill| kill.series == *series).count()
    };
    let throttled = |day: &Outcome| day.truth.throttled_share(series, day.span.0, day.span.1);
    let requested = |of: &BTreeMap<Series, Requested>| of.get(series).copied().unwrap_or_default();
    Some(Row {
        namespace: series.namespace.clone(),
        kind: series.kind.clone(),
        workload: series.workload.clone(),
        container: series.container.clone(),
        replicas: requested(&with.after).replicas,
        error: Errors { cpu: errors(answered.cpu, exact.cpu), memory: errors(answered.memory, exact.memory) },
        rank_error: rank_errors(series, usage, &answered, with)?,
        usage: answered,
        exact,
        before: requested(&with.before),
        after: requested(&with.after),
        recommendation: entry
            .filter(|r| r.cpu.is_some() || r.memory.is_some())
            .map(|r| Recommendation { cpu: r.cpu.clone(), memory: r.memory.clone() }),
        explanation: entry.and_then(|r| r.explanation.clone()),
        oom_kills: BeforeAfter { before: kills(without), after: kills(with) },
        throttled_share: BeforeAfter { before: throttled(without), after: throttled(with) },
    })
}

fn answered(usage: &proto::Usage) -> Option<Usage> {
    let quantiles = |d: &proto::Distribution| Quantiles { p50: d.p50, p90: d.p90, p99: d.p99, peak: d.peak };
    let (cpu, memory) = (usage.cpu.as_ref()?, usage.memory.as_ref()?);
    Some(Usage { cpu: quantiles(cpu), memory: quantiles(memory), samples: cpu.samples })
}

/// The same over the same span, by sorting every point that was emitted.
fn exact(series: &Series, usage: &proto::Usage, day: &Outcome) -> Option<Usage> {
    let (from, to) = span(usage)?;
    let quantiles = |resource| {
        let values = day.truth.quantiles(series, resource, from, to, &[0.5, 0.9, 0.99, 1.0])?;
        let [p50, p90, p99, peak] = values.try_into().ok()?;
        Some(Quantiles { p50, p90, p99, peak })
    };
    let samples = day.truth.count(series, from, to) as u64;
    Some(Usage { cpu: quantiles(Resource::Cpu)?, memory: quantiles(Resource::Memory)?, samples })
}

/// The first and the last sample that an answer speaks of.
fn span(usage: &proto::Usage) -> Option<(jiff::Timestamp, jiff::Timestamp)> {
    let moment = |t: Option<prost_types::Timestamp>| t.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok());
    Some((moment(usage.from)?, moment(usage.to)?))
}

fn rank_errors(series: &Series, usage: &proto::Usage, answered: &Usage, day: &Outcome) -> Option<Errors> {
    let (from, to) = span(usage)?;
    let of = |resource, answers: Quantiles| {
        let values = day.truth.values(series, resource, from, to);
        let error = |q: f64, answer: f64| {
            let share = |count: usize| count as f64 / values.len().max(1) as f64;
            let below = share(values.partition_point(|value| *value < answer));
            let up_to = share(values.partition_point(|value| *value <= answer));
            (below - q).max(q - up_to).max(0.0)
        };
        Quantiles {
            p50: error(0.5, answers.p50),
            p90: error(0.9, answers.p90),
            p99: error(0.99, answers.p99),
            peak: error(1.0, answers.peak),
        }
    };
    Some(Errors { cpu: of(Resource::Cpu, answered.cpu), memory: of(Resource::Memory, answered.memory) })
}

fn errors(answered: Quantiles, exact: Quantiles) -> Quantiles {
    let error = |a: f64, e: f64| if e == 0.0 { a.abs() } else { (a - e).abs() / e };
    Quantiles {
        p50: error(answered.p50, exact.p50),
        p90: error(answered.p90, exact.p90),
        p99: error(answered.p99, exact.p99),
        peak: error(answered.peak, exact.peak),
    }
}

fn totals(rows: &[Row], statuses: &[&WorkloadStatus], with: &Outcome) -> Totals {
    let mut skipped_by_reason = BTreeMap::new();
    for reason in statuses.iter().filter_map(|s| s.reason.clone()) {
        *skipped_by_reason.entry(reason).or_insert(0) += 1;
    }
    let workloads: BTreeSet<_> = rows.iter().map(|r| (&r.namespace, &r.kind, &r.workload)).collect();
    Totals {
        workloads: workloads.len(),
        containers: rows.len(),
        samples: rows.iter().map(|r| r.usage.samples).sum(),
        cpu_millicores_before: rows.iter().map(|r| r.before.cpu_millicores).sum(),
        cpu_millicores_after: rows.iter().map(|r| r.after.cpu_millicores).sum(),
        memory_bytes_before: rows.iter().map(|r| r.before.memory_bytes).sum(),
        memory_bytes_after: rows.iter().map(|r| r.after.memory_bytes).sum(),
        oom_kills_before: rows.iter().map(|r| r.oom_kills.before).sum(),
        oom_kills_after: rows.iter().map(|r| r.oom_kills.after).sum(),
        applied: with.applied.values().sum(),
        applied_by_method: with.applied.clone(),
        changed_workloads: statuses.iter().filter(|s| s.last_applied.is_some()).count(),
        skipped_by_reason,
        events: with.events,
    }
}
