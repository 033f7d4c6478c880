//! The questions about a namespace: who owns the pods, how often they are scraped, and then slice after slice.
//!
//! Invariant: at most a few answers are in memory at once, whatever the window and the namespace.

use super::answer::{self, Answer, Series};
use super::client::{Client, Failure};
use super::grid::Grid;
use super::owners::{Owners, Source, Wanted};
use super::pool::{Pool, Resource};
use super::promql::{self, Matcher, Scope};
use crate::usage::{SeriesKey, WindowUsage};
use crate::workload::WorkloadId;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// How far back it is looked to see how often containers are scraped.
const PROBED: Duration = Duration::from_mins(10);

/// How often containers are taken to be scraped where that cannot be seen: Prometheus' own default.
const USUAL_INTERVAL: Duration = Duration::from_mins(1);

/// Answers that are too large make slices smaller, this often for one namespace.
const MOST_SPLITS: u32 = 64;

/// What a slice is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// A resource at each moment.
    Values(Resource),
    /// The largest memory in the whole slice: moments alone would miss a peak between them.
    MemoryPeak,
}

/// How a namespace's containers are scraped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scrapes {
    /// How many containers.
    pub containers: usize,
    /// How often.
    pub interval: Duration,
}

impl Scrapes {
    /// The range in which a rate finds two samples, also where scrapes are a little late, and at least a step.
    fn two(self, step: Duration) -> Duration {
        step.max(Duration::from_secs(self.interval.as_secs() * 5 / 2))
    }

    /// The range in which there is one.
    fn one(self, step: Duration) -> Duration {
        step.max(Duration::from_secs(self.interval.as_secs() * 3 / 2))
    }
}

/// Asks about one namespace.
pub struct Namespace<'a> {
    client: &'a Client,
    scope: Scope,
}

impl<'a> Namespace<'a> {
    /// All pods of a namespace.
    pub fn new(client: &'a Client, name: &str, matchers: &[Matcher]) -> Self {
        Self { client, scope: Scope::new(name, matchers) }
    }

    /// The usage of some containers over the window that ends now; those that nothing is known of are left out.
    pub async fn usage<'s>(
        mut self,
        series: &BTreeSet<&'s SeriesKey>,
        window: Duration,
        now: Timestamp,
    ) -> Result<BTreeMap<&'s SeriesKey, WindowUsage>, Failure> {
        let (owners, mut missing) = self.owners(window, now).await?;
        let wanted = Wanted::new(series.iter().map(|key| &key.workload));
        self.narrow(&wanted, &owners);
        let scrapes = self.scrapes(now).await?;
        let grid = Grid::of_window(now, window, scrapes.containers);
        let mut pools = Pools::new(series, grid, &wanted, &owners);
        let questions = [Question::Values(Resource::Cpu), Question::Values(Resource::Memory), Question::MemoryPeak];
        let seen = self.slices(grid, scrapes, &questions, |question, answer| pools.take(question, answer)).await?;
        missing = missing.or(seen);
        Ok(pools.finish(missing.as_deref()))
    }

    /// Asks only about pods that may belong to these workloads, where that can be said shortly.
    pub fn narrow(&mut self, wanted: &Wanted<'_>, owners: &Owners) {
        if let Some(pattern) = wanted.pattern(owners) {
            self.scope = self.scope.clone().of_pods(&pattern);
        }
    }

    /// Who owned the pods that were there within `range`, as far as kube-state-metrics is scraped; and what may be
    /// missing. Where these are too many, names must do.
    pub async fn owners(&self, range: Duration, at: Timestamp) -> Result<(Owners, Option<String>), Failure> {
        let asked = futures::try_join!(
            self.instant(promql::pod_owners(&self.scope, range), at.as_second()),
            self.instant(promql::replicaset_owners(&self.scope, range), at.as_second()),
            self.instant(promql::job_owners(&self.scope, range), at.as_second()),
        );
        let (pods, replicasets, jobs) = match asked {
            Err(Failure::TooLarge(_)) => return Ok((Owners::default(), None)),
            asked => asked?,
        };
        let [pods, replicasets, jobs] = [read(&pods)?, read(&replicasets)?, read(&jobs)?];
        let owners = Owners::new(&pods, &replicasets, &jobs);
        Ok((owners, pods.missing.or(replicasets.missing).or(jobs.missing)))
    }

    /// How the containers are scraped, by the one with the most samples: others may be young.
    pub async fn scrapes(&self, at: Timestamp) -> Result<Scrapes, Failure> {
        let body = self.instant(promql::scrapes(&self.scope, PROBED), at.as_second()).await?;
        let answer = read(&body)?;
        let most = answer.series.iter().flat_map(Series::points).map(|(_, count)| count).fold(0.0, f64::max);
        let interval = if most >= 2.0 { PROBED.div_f64(most) } else { USUAL_INTERVAL };
        Ok(Scrapes { containers: answer.series.len(), interval })
    }

    /// Asks slice after slice, a few ahead, and hands the answers on in the order of time. Returns what may be missing.
    pub async fn slices(
        &self,
        grid: Grid,
        scrapes: Scrapes,
        questions: &[Question],
        mut take: impl FnMut(Question, &Answer<'_>),
    ) -> Result<Option<String>, Failure> {
        let (mut splits, mut missing) = (0, None);
        let mut digest = |bodies: Vec<Bytes>| -> Result<(), Failure> {
            for (question, body) in questions.iter().zip(&bodies) {
                let answer = read(body)?;
                take(*question, &answer);
                missing = missing.take().or(answer.missing);
            }
            Ok(())
        };
        let ahead = self.client.max_concurrency().div_ceil(questions.len().max(1));
        let slices = stream::iter(grid.slices(scrapes.containers));
        let asked = slices.map(|slice| async move { (slice, self.slice(slice, scrapes, questions).await) });
        let mut answered = std::pin::pin!(asked.buffered(ahead));
        while let Some((slice, bodies)) = answered.next().await {
            let mut again = match bodies {
                Err(Failure::TooLarge(cause)) => halves(slice, &mut splits, cause)?,
                bodies => {
                    digest(bodies?)?;
                    Vec::new()
                }
            };
            while let Some(slice) = again.pop() {
                match self.slice(slice, scrapes, questions).await {
                    Err(Failure::TooLarge(cause)) => again.extend(halves(slice, &mut splits, cause)?),
                    bodies => digest(bodies?)?,
                }
            }
        }
        Ok(missing)
    }

    async fn slice(&self, slice: Grid, scrapes: Scrapes, questions: &[Question]) -> Result<Vec<Bytes>, Failure> {
        let ask = |question: &Question| {
            let question = *question;
            async move {
                match question {
                    Question::Values(Resource::Cpu) => {
                        self.range(promql::cpu(&self.scope, scrapes.two(slice.step())), slice).await
                    }
                    Question::Values(Resource::Memory) => {
                        self.range(promql::memory(&self.scope, scrapes.one(slice.step())), slice).await
                    }
                    Question::MemoryPeak => {
                        self.instant(promql::memory_peak(&self.scope, slice.span()), slice.last()).await
                    }
                }
            }
        };
        futures::future::try_join_all(questions.iter().map(ask)).await
    }

    async fn instant(&self, query: String, at: i64) -> Result<Bytes, Failure> {
        self.client.post("query", &[("query", &query), ("time", &at.to_string())]).await
    }

    async fn range(&self, query: String, grid: Grid) -> Result<Bytes, Failure> {
        let (start, end) = (grid.first().to_string(), grid.last().to_string());
        let step = grid.step().as_secs().to_string();
        self.client.post("query_range", &[("query", &query), ("start", &start), ("end", &end), ("step", &step)]).await
    }
}

fn read(body: &[u8]) -> Result<Answer<'_>, Failure> {
    answer::read(body).map_err(Failure::Refused)
}

/// The later half first: it is taken from the end.
fn halves(slice: Grid, splits: &mut u32, cause: String) -> Result<Vec<Grid>, Failure> {
    *splits += 1;
    match slice.halves() {
        Some([early, late]) if *splits <= MOST_SPLITS => Ok(vec![late, early]),
        _ => Err(Failure::TooLarge(cause)),
    }
}

/// The pools of the containers that were asked for.
struct Pools<'a, 's> {
    wanted: &'a Wanted<'s>,
    owners: &'a Owners,
    by_workload: HashMap<&'s WorkloadId, HashMap<&'s str, (&'s SeriesKey, Pool)>>,
    /// What was found out about pods so far.
    pods: HashMap<String, Option<(&'s WorkloadId, Source)>>,
    /// Workloads with pods that were told by name.
    by_name: BTreeSet<&'s WorkloadId>,
}

impl<'a, 's> Pools<'a, 's> {
    fn new(series: &BTreeSet<&'s SeriesKey>, grid: Grid, wanted: &'a Wanted<'s>, owners: &'a Owners) -> Self {
        let mut by_workload: HashMap<_, HashMap<_, _>> = HashMap::new();
        for key in series {
            by_workload.entry(&key.workload).or_default().insert(key.container.as_str(), (*key, Pool::new(grid)));
        }
        Self { wanted, owners, by_workload, pods: HashMap::new(), by_name: BTreeSet::new() }
    }

    fn take(&mut self, question: Question, answer: &Answer<'_>) {
        let mut told = HashSet::new();
        for series in &answer.series {
            let pod = series.label("pod");
            if !told.insert((pod, series.label("container"))) {
                continue; // no server says a thing twice, but what stands before one may
            }
            let found = match self.pods.get(pod) {
                Some(known) => *known,
                None => *self.pods.entry(pod.to_owned()).or_insert(self.wanted.workload_of(self.owners, pod)),
            };
            let Some((workload, source)) = found else { continue };
            let of_workload = self.by_workload.get_mut(workload);
            let Some((_, pool)) = of_workload.and_then(|pools| pools.get_mut(series.label("container"))) else {
                continue;
            };
            if source == Source::Name {
                self.by_name.insert(workload);
            }
            match question {
                Question::Values(resource) => pool.add(resource, series.points()),
                Question::MemoryPeak => series.points().for_each(|(_, value)| pool.add_memory_peak(value)),
            }
        }
    }

    fn finish(self, missing: Option<&str>) -> BTreeMap<&'s SeriesKey, WindowUsage> {
        let Self { by_workload, by_name, .. } = self;
        let all = by_workload.into_values().flat_map(HashMap::into_values);
        let finished = all.filter_map(|(key, pool)| Some((key, pool.finish()?)));
        finished.map(|(key, usage)| (key, noted(usage, by_name.contains(&key.workload), missing))).collect()
    }
}

/// A window with something missing counts as covered to this share at most: requests may rise by it and not fall.
const PARTIAL_SHARE: f64 = 0.9;

/// The answer with what must be said of it.
fn noted(mut usage: WindowUsage, by_name: bool, missing: Option<&str>) -> WindowUsage {
    if by_name {
        usage.notes.push(
            "some pods were told by their names, since kube_pod_owner of kube-state-metrics does not name them"
                .to_owned(),
        );
    }
    if let Some(missing) = missing {
        usage.covered = usage.covered.mul_f64(PARTIAL_SHARE);
        usage.notes.push(format!("the answer may be incomplete, so that nothing is lowered by it: {missing}"));
    }
    usage
}
