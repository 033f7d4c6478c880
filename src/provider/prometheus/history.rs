//! Values one by one, as they go into a store that is filled with the past.

use super::PrometheusProvider;
use super::answer::Answer;
use super::ask::{Namespace, Question};
use super::client::Failure;
use super::grid::Grid;
use super::owners::{Owners, Source, Wanted};
use super::pool::Resource;
use crate::provider::ProviderError;
use crate::usage::SeriesKey;
use crate::workload::WorkloadId;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// One answer holds at most this many values; more need shorter times.
const MOST_VALUES: usize = 1_000_000;

/// What one container of one pod used at some moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct UsagePoint {
    /// The end of the minute.
    pub at: Timestamp,
    /// CPU in cores, on average since a minute before (longer where scrapes are rarer than twice a minute).
    pub cpu: f64,
    /// The working set at `at`, in bytes.
    pub memory: f64,
}

/// The values of one container of one pod, in the order of time.
#[derive(Clone, PartialEq, Debug)]
pub struct PodHistory {
    /// The workload's container.
    pub series: SeriesKey,
    /// The pod's name.
    pub pod: String,
    /// The values; at least one.
    pub points: Vec<UsagePoint>,
}

/// What a namespace used.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct History {
    /// By series and pod, in their order.
    pub pods: Vec<PodHistory>,
    /// Pods whose workload cannot be told; they are left out.
    pub unknown: BTreeSet<String>,
    /// Pods whose workload was told by their names.
    pub by_name: BTreeSet<String>,
    /// Why something may be missing, in the server's words.
    pub missing: Option<String>,
}

impl PrometheusProvider {
    /// What each container of a namespace used in each minute after `from` up to `to`.
    ///
    /// A pod that kube-state-metrics knows belongs to the workload that it names, whether that is still there or not;
    /// any other to the one of `workloads` that its name looks like. Values come by the minute, each about CPU and
    /// memory: a minute that lacks either is left out, and memory's peaks between minutes are not in them.
    ///
    /// # Errors
    /// When the server cannot be asked, or the time is too long for one answer (a million values: 1,000 containers over 16 hours).
    pub async fn history(
        &self,
        namespace: &str,
        workloads: &BTreeSet<WorkloadId>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<History, ProviderError> {
        let Some(grid) = Grid::between(from, to) else { return Ok(History::default()) };
        let gathered = gather(&self.namespace(namespace), namespace, workloads, grid).await;
        gathered.map_err(|failure| self.client.error(failure))
    }
}

/// CPU and memory of a moment, as far as they came.
type Values = (Option<f64>, Option<f64>);

async fn gather(
    asked: &Namespace<'_>,
    namespace: &str,
    workloads: &BTreeSet<WorkloadId>,
    grid: Grid,
) -> Result<History, Failure> {
    let end = grid.at(grid.count() - 1);
    let (owners, missing) = asked.owners(grid.span(), end).await?;
    let scrapes = asked.scrapes(end).await?;
    if scrapes.containers * grid.count() as usize > MOST_VALUES {
        let cause =
            format!("{} containers for {} minutes are too much for one answer", scrapes.containers, grid.count());
        return Err(Failure::Refused(format!("{cause}; ask about a shorter time")));
    }
    let questions = [Question::Values(Resource::Cpu), Question::Values(Resource::Memory)];
    let mut found: BTreeMap<(String, String), BTreeMap<u32, Values>> = BTreeMap::new();
    let seen =
        asked.slices(grid, scrapes, &questions, |question, answer| take(&mut found, grid, question, answer)).await?;
    let mut history = History { missing: missing.or(seen), ..History::default() };
    let wanted = Wanted::new(workloads.iter().filter(|id| id.namespace == namespace));
    for ((pod, container), values) in found {
        let Some((workload, source)) = workload_of(&owners, &wanted, namespace, &pod) else {
            history.unknown.insert(pod);
            continue;
        };
        if source == Source::Name {
            history.by_name.insert(pod.clone());
        }
        let point = |(index, values)| match values {
            (Some(cpu), Some(memory)) => Some(UsagePoint { at: grid.at(index), cpu, memory }),
            _ => None,
        };
        let points: Vec<UsagePoint> = values.into_iter().filter_map(point).collect();
        if !points.is_empty() {
            history.pods.push(PodHistory { series: SeriesKey { workload, container }, pod, points });
        }
    }
    history.pods.sort_by(|a, b| (&a.series, &a.pod).cmp(&(&b.series, &b.pod)));
    Ok(history)
}

fn take(
    found: &mut BTreeMap<(String, String), BTreeMap<u32, Values>>,
    grid: Grid,
    question: Question,
    answer: &Answer<'_>,
) {
    for series in &answer.series {
        let key = (series.label("pod").to_owned(), series.label("container").to_owned());
        let values = found.entry(key).or_default();
        for (at, value) in series.points() {
            let Some(index) = grid.index(at) else { continue };
            let (cpu, memory) = values.entry(index).or_default();
            *(if question == Question::Values(Resource::Cpu) { cpu } else { memory }) = Some(value);
        }
    }
}

fn workload_of(owners: &Owners, wanted: &Wanted<'_>, namespace: &str, pod: &str) -> Option<(WorkloadId, Source)> {
    if let Some((kind, name)) = owners.of(pod) {
        let id = WorkloadId { namespace: namespace.to_owned(), kind, name: name.to_owned() };
        return Some((id, Source::Metrics));
    }
    wanted.workload_of(owners, pod).map(|(id, source)| (id.clone(), source))
}
