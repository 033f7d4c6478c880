//! Step one: everything that decisions about a policy's workloads need, read from the watched cluster, the usage provider
//! and the answers of the API server about rights.
//!
//! It reads and asks; it decides nothing and writes nothing.

use super::Controller;
use super::brake::brakes;
use super::cluster::{Cluster, Workload};
use super::kills::{self, Killed};
use super::providers;
use super::schedule::Focus;
use super::select::Covered;
use crate::decide::{Brakes, Guards, HpaFacts, PodFacts, Reason, Rights, fit};
use crate::policy::{Mode, Policy, PolicyId};
use crate::provider::UsageQuery;
use crate::recommend::{Insufficient, OomFloor, Recommendation, recommend};
use crate::usage::{SeriesKey, WindowUsage};
use crate::workload::WorkloadKind;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// What one evaluation of a policy sees.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) policy: Policy,
    pub(super) now: Timestamp,
    /// The workloads that the policy acts on.
    pub(super) workloads: Vec<Observed>,
    /// Workloads that it covers and another policy acts on.
    pub(super) overridden: Vec<(Arc<Workload>, PolicyId)>,
    pub(super) resize_served: bool,
    /// Why nothing may be changed now, whatever is decided.
    pub(super) blocked: Option<Reason>,
    /// Why there is no usage, if there is none.
    pub(super) unavailable: Option<Reason>,
}

/// What was recommended for one container, or why nothing could be.
pub(super) type Outcome = (String, Result<Recommendation, Insufficient>);

/// One workload as seen.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) workload: Arc<Workload>,
    pub(super) pods: Vec<PodFacts>,
    /// Why its pods cannot be read.
    pub(super) unreadable: Option<String>,
    pub(super) brakes: Brakes,
    pub(super) hpa: HpaFacts,
    pub(super) guards: Guards,
    pub(super) rights: Rights,
    /// Its containers that were killed for memory within the policy's window.
    pub(super) killed: Vec<Killed>,
    /// Every container that is not excluded, in the template's order, injected ones last.
    pub(super) outcomes: Vec<Outcome>,
}

impl Controller {
    /// Looks at a policy's workloads, or at some of them.
    pub(super) async fn observe(&mut self, policy: &Policy, focus: &Focus) -> Observation {
        self.refresh_selection();
        let (mut workloads, overridden) =
            self.shared.with(|cluster| look(cluster, policy, focus, self.selection.of(&policy.id)));
        self.remember_kills(policy, &mut workloads);
        let unavailable = self.recommend(policy, &mut workloads).await.err();
        let mut blocked = self.blocked();
        let mut resize_served = false;
        match self.rights.resize_served().await {
            Ok(served) => resize_served = served,
            Err(detail) => blocked = blocked.or(Some(Reason::WriteFailed { detail })),
        }
        if policy.mode == Mode::Auto && !self.options.dry_run {
            self.ask_rights(&mut workloads).await;
        }
        let now = self.clock.now();
        Observation { policy: policy.clone(), now, workloads, overridden, resize_served, blocked, unavailable }
    }

    /// Selects anew where that is due, and forgets workloads that are gone.
    pub(super) fn refresh_selection(&mut self) {
        self.shared.with(|cluster| {
            if self.selection.refresh(cluster, &self.options.scope) {
                self.history.retain(|workload| cluster.workload(workload).is_some());
            }
        });
    }

    /// Pods are replaced, and a later end hides the one before: what they show is remembered for the window.
    fn remember_kills(&mut self, policy: &Policy, workloads: &mut [Observed]) {
        let window = SignedDuration::try_from(policy.metrics.window).unwrap_or(SignedDuration::MAX);
        let oldest = self.clock.now().saturating_sub(window).unwrap_or(Timestamp::MIN);
        for observed in workloads {
            let id = &observed.workload.id;
            if observed.killed.is_empty() && self.history.get(id).is_none_or(|memory| memory.killed.is_empty()) {
                continue;
            }
            let memory = self.history.entry(id);
            kills::remember(&mut memory.killed, &observed.killed, oldest.max(observed.workload.created));
            observed.killed.clone_from(&memory.killed);
        }
    }

    /// Nothing is changed while we cannot see everything that may forbid it.
    fn blocked(&self) -> Option<Reason> {
        let missing = self.shared.with(|cluster| cluster.missing());
        (!missing.is_empty()).then(|| Reason::WatchMissing { resources: missing.join(", ") })
    }

    async fn ask_rights(&mut self, workloads: &mut [Observed]) {
        let mut known: BTreeMap<(String, WorkloadKind), Rights> = BTreeMap::new();
        for observed in workloads {
            let id = &observed.workload.id;
            let key = (id.namespace.clone(), id.kind);
            let rights = match known.get(&key) {
                Some(rights) => *rights,
                None => self.rights.rights(&id.namespace, id.kind).await,
            };
            known.insert(key, rights);
            observed.rights = rights;
        }
    }

    /// Asks the provider once for all containers and computes what each should request.
    async fn recommend(&self, policy: &Policy, workloads: &mut [Observed]) -> Result<(), Reason> {
        let (name, provider) = self.providers.named(policy.metrics.provider.as_deref())?;
        let queries: Vec<UsageQuery> = workloads.iter().flat_map(|observed| queries(policy, observed)).collect();
        if queries.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let answer = providers::ask(provider, &queries, self.options.provider_timeout).await;
        self.metrics.observe_query(name, started.elapsed());
        let usage = answer.map_err(|error| Reason::MetricsUnavailable { detail: error.to_string() })?;
        let now = self.clock.now();
        let mut answers = queries.into_iter().zip(usage);
        for observed in workloads {
            for container in containers(policy, observed) {
                let usage = answers.next().and_then(|(_, usage)| usage);
                let outcome = outcome(policy, &container, usage.as_ref(), observed, now);
                observed.outcomes.push((container, outcome));
            }
        }
        Ok(())
    }
}

/// The recommendation within what the namespace's LimitRanges allow.
fn outcome(
    policy: &Policy,
    container: &str,
    usage: Option<&WindowUsage>,
    observed: &Observed,
    now: Timestamp,
) -> Result<Recommendation, Insufficient> {
    let plan = policy.container(container);
    let kills = kills::of_container(&observed.killed, container);
    let floor = OomFloor::of(kills, policy.metrics.window, now);
    let usage = usage.ok_or_else(|| Insufficient::no_usage(floor))?;
    let recommendation = recommend(usage, &policy.metrics, plan, floor)?;
    let of_pods = observed.pods.iter().flat_map(|pod| &pod.containers).map(|container| &container.resources);
    let of_template = observed.workload.template.iter().flatten();
    let now = of_pods.chain(of_template).find(|now| now.name == container);
    Ok(fit(recommendation, now, policy.update.requests_only, plan, &observed.guards))
}

fn queries(policy: &Policy, observed: &Observed) -> Vec<UsageQuery> {
    let query = |container| UsageQuery {
        series: SeriesKey { workload: observed.workload.id.clone(), container },
        window: policy.metrics.window,
    };
    containers(policy, observed).into_iter().map(query).collect()
}

/// The template's containers in order, then those that only pods have (injected), without the excluded ones.
fn containers(policy: &Policy, observed: &Observed) -> Vec<String> {
    let template = observed.workload.template.as_ref().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<String> = template.iter().map(|container| container.name.clone()).collect();
    let of_pods: BTreeSet<&String> =
        observed.pods.iter().flat_map(|pod| &pod.containers).map(|container| &container.resources.name).collect();
    let injected: Vec<String> = of_pods.into_iter().filter(|name| !names.contains(name)).cloned().collect();
    names.extend(injected);
    names.retain(|name| !policy.container(name).exclude);
    names
}

type Overridden = Vec<(Arc<Workload>, PolicyId)>;

fn look(cluster: &Cluster, policy: &Policy, focus: &Focus, covered: &[Covered]) -> (Vec<Observed>, Overridden) {
    let (mut workloads, mut overridden) = (Vec::new(), Vec::new());
    for Covered { workload, acting } in covered {
        if let Focus::Only(some) = focus
            && !some.contains(workload)
        {
            continue;
        }
        let Some(workload) = cluster.workload(workload).cloned() else { continue };
        if *acting == policy.id {
            workloads.push(look_at(cluster, workload));
        } else {
            overridden.push((workload, acting.clone()));
        }
    }
    (workloads, overridden)
}

fn look_at(cluster: &Cluster, workload: Arc<Workload>) -> Observed {
    let running: Vec<_> = cluster.pods_of(&workload).into_iter().filter(|pod| pod.running).collect();
    let (mut pods, mut unreadable) = (Vec::new(), None);
    for pod in &running {
        match &pod.facts {
            Ok(facts) => pods.push(facts.clone()),
            Err(error) => unreadable = Some(error.clone()),
        }
    }
    let brakes = brakes(cluster, &workload.id);
    let hpa = cluster.autoscalers_of(&workload.id);
    let guards = cluster.bounds.of(&workload, &running);
    let killed = cluster.kills_of(&workload);
    let rights = Rights { resize: true, rollout: true, limits: true };
    Observed { workload, pods, unreadable, brakes, hpa, guards, rights, killed, outcomes: Vec::new() }
}
