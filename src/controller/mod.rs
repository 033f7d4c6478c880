//! The controller: for every policy that is due, observe → plan → apply → report.
//!
//! - [`watch`]: what is known of the cluster ([`cluster`], [`bounds`], trimmed by [`ingest`]). [`select`]: which policy acts on what.
//! - [`observe`], [`plan`], [`apply`], [`report`]: the four steps. Only [`writer`] writes.
//! - [`schedule`]: when. [`history`]: what happened before. [`aftermath`]: what became of it. [`kills`]: who ran out of
//!   memory. [`leader`]: who. [`rate`], [`rights`]: how much, and whether.
//! - [`brake`]: what stops every write at once. [`on_delete`]: what a deleted policy leaves behind.
//!
//! It knows no store and no PromQL: usage comes through [`crate::provider::UsageProvider`]. Invariants: one policy is
//! evaluated at a time, in the order of due time and name; the same cluster, usage and timeline give the same writes.

mod aftermath;
mod apply;
mod bounds;
mod brake;
mod cluster;
mod errors;
mod history;
mod ingest;
mod kills;
mod leader;
mod motive;
pub mod notes;
mod observe;
mod on_delete;
mod plan;
mod providers;
mod rate;
mod report;
mod restore;
mod rights;
mod schedule;
mod select;
mod table;
mod undo;
mod uninstall;
mod watch;
mod writer;

pub use providers::Providers;
pub use undo::{Restored, Undo, UndoError, Undone};
pub use uninstall::{UninstallError, Uninstalled, uninstall};
pub use watch::Readiness;

use crate::clock::Clock;
use crate::decide::Reason;
use crate::plant::planted;
use crate::policy::{Mode, Policy, PolicyId, Scope};
use crate::telemetry::Metrics;
use crate::telemetry::events::{Events, Recorder};
use cluster::PolicyObject;
use jiff::Timestamp;
use report::PolicyState;
use schedule::{Focus, FollowUp};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// The field manager of everything that we apply.
pub const FIELD_MANAGER: &str = "optipod";

/// The field manager of what is put back.
pub const RESTORE_MANAGER: &str = "optipod-restore";

/// How the controller behaves.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// Our own namespace, where the lease lies.
    pub namespace: String,
    /// Names this process in the lease and in events.
    pub identity: String,
    /// Nothing is written but status and events.
    pub dry_run: bool,
    /// How far policies reach.
    pub scope: Scope,
    /// Policies may change limits, with `updateRequestsOnly: false`.
    pub allow_limit_changes: bool,
    /// How many workloads may begin to change a minute, over all policies.
    pub max_updates_per_minute: u32,
    /// Only the holder of the lease acts.
    pub leader_election: bool,
    /// How often a policy is evaluated that does not say so itself.
    pub interval: Duration,
    /// The deadline of one call to the API server.
    pub call_timeout: Duration,
    /// The deadline of one question to a usage provider.
    pub provider_timeout: Duration,
}

impl ControllerOptions {
    /// The defaults, for an operator that runs in `namespace` as `identity`.
    pub fn new(namespace: impl Into<String>, identity: impl Into<String>) -> Self {
        let namespace = namespace.into();
        Self {
            identity: identity.into(),
            dry_run: false,
            allow_limit_changes: true,
            scope: Scope { operator_namespace: namespace.clone(), ..Scope::default() },
            max_updates_per_minute: 20,
            leader_election: false,
            interval: Duration::from_mins(5),
            call_timeout: Duration::from_secs(10),
            provider_timeout: Duration::from_secs(30),
            namespace,
        }
    }
}

/// What the controller works with.
pub struct Deps {
    /// The cluster; its own retry must be off (`Config::default_retry`), ours is [`errors`].
    pub client: kube::Client,
    /// Where usage comes from.
    pub providers: Providers,
    /// Where figures go.
    pub metrics: Metrics,
    /// The one clock.
    pub clock: Clock,
}

/// Evaluates policies and changes workloads.
pub struct Controller {
    options: ControllerOptions,
    client: kube::Client,
    providers: Providers,
    metrics: Metrics,
    clock: Clock,
    shared: watch::Shared,
    selection: select::Selection,
    schedule: schedule::Schedule,
    history: history::History,
    policies: BTreeMap<PolicyId, PolicyState>,
    rights: rights::RightsCache,
    rate: rate::Rate,
    executor: apply::Executor,
    events: Recorder,
    leadership: leader::Leadership,
    /// The loops beside the main one, until it runs.
    beside: Option<Beside>,
    /// No further write begins.
    stopping: CancellationToken,
}

struct Beside {
    events: Events<writer::Writer>,
    elector: Option<leader::Elector>,
}

/// A policy whose state could not be read is tried again after this.
const RETRY: Duration = Duration::from_secs(10);
/// What may forbid a change and cannot be seen holds every change; recommendations go on without it after this time.
const PATIENCE: Duration = Duration::from_mins(1);
/// What no recommendation depends on.
const MAY_STAY_UNSEEN: [&str; 6] =
    ["horizontalpodautoscalers", brake::WATCH, bounds::LIMIT_RANGES, bounds::QUOTAS, bounds::NODES, bounds::VPAS];
/// A cycle that runs at the end may take this long; the lease and the last events need the rest of 10 seconds.
const GRACE: Duration = Duration::from_secs(5);

impl Controller {
    /// A controller that has not begun.
    pub fn new(deps: Deps, options: ControllerOptions) -> Self {
        let Deps { client, providers, metrics, clock } = deps;
        let stopping = CancellationToken::new();
        let elector = options.leader_election.then(|| {
            let (namespace, identity) = (options.namespace.clone(), options.identity.clone());
            leader::Elector::new(client.clone(), namespace, identity, clock, options.call_timeout)
        });
        let leadership = match &elector {
            Some(elector) => elector.leadership(),
            None => leader::Leadership::without_election(),
        };
        let shared = watch::Shared::default();
        let writer = writer::Writer {
            client: client.clone(),
            shared: shared.clone(),
            dry_run: options.dry_run,
            deadline: options.call_timeout,
            leadership: leadership.clone(),
            stopping: stopping.clone(),
        };
        let (recorder, events) = Events::new(writer.clone(), clock, options.identity.clone());
        Self {
            selection: select::Selection::default(),
            schedule: schedule::Schedule::default(),
            history: history::History::default(),
            policies: BTreeMap::new(),
            rights: rights::RightsCache::new(client.clone(), options.call_timeout, options.allow_limit_changes),
            rate: rate::Rate::new(options.max_updates_per_minute),
            executor: apply::Executor { client: client.clone(), writer, deadline: options.call_timeout },
            events: recorder,
            beside: Some(Beside { events, elector }),
            options,
            client,
            providers,
            metrics,
            clock,
            shared,
            leadership,
            stopping,
        }
    }

    /// Tells which watches are not complete, for `/readyz`.
    pub fn readiness(&self) -> Readiness {
        Readiness::new(self.shared.clone())
    }

    /// Works until `shutdown`, then stops within 10 seconds: no further write begins, the one under way is finished or
    /// abandoned, the lease is given back.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut watches = watch::start(&self.client, &self.shared);
        let (namespace, metrics) = (self.options.namespace.clone(), self.metrics.clone());
        watches.spawn(brake::follow(self.client.clone(), namespace, self.shared.clone(), metrics));
        let (stop_events, stop_elector) = (CancellationToken::new(), CancellationToken::new());
        let beside = self.beside.take();
        let (events, elector) = beside.map_or((None, None), |beside| (Some(beside.events), beside.elector));
        let events = events.map(|events| tokio::spawn(events.run(stop_events.clone())));
        let elector = elector.map(|elector| tokio::spawn(elector.run(stop_elector.clone())));
        let stopping = self.stopping.clone();
        let ended = async {
            shutdown.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            () = self.work(&shutdown) => {}
            () = ended => tracing::warn!("a cycle was abandoned at shutdown"),
        }
        stop_events.cancel();
        if let Some(task) = events {
            let _ = task.await;
        }
        stopping.cancel();
        stop_elector.cancel();
        if let Some(task) = elector {
            let _ = task.await;
        }
        watches.shutdown().await;
    }

    async fn work(&mut self, shutdown: &CancellationToken) {
        self.wait_for_watches(shutdown).await;
        let mut led = None;
        while !shutdown.is_cancelled() {
            let term = self.leadership.term();
            if term.is_none() {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    () = self.leadership.changed() => {}
                    () = sleep(Duration::from_secs(1)) => {}
                }
                continue;
            }
            if term != led {
                self.take_over();
                led = term;
            }
            self.wait_for_work(shutdown).await;
            self.evaluate_due(led, shutdown).await;
        }
    }

    /// Nothing is planned on half a picture. Only what can do no more than forbid a change may stay unseen: then nothing is
    /// changed.
    async fn wait_for_watches(&self, shutdown: &CancellationToken) {
        let started = Instant::now();
        loop {
            let missing = self.shared.with(|cluster| cluster.missing());
            let tolerable = started.elapsed() >= PATIENCE && missing.iter().all(|name| MAY_STAY_UNSEEN.contains(name));
            if missing.is_empty() || tolerable || shutdown.is_cancelled() {
                return;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = self.shared.changed() => {}
                () = sleep(PATIENCE) => tracing::warn!(?missing, "waiting for the first list of these; check the rights to list and watch them"),
            }
        }
    }

    /// As a new leader we know nothing: what the last one did stands in the statuses.
    fn take_over(&mut self) {
        if !planted(114) {
            self.history.clear();
            self.policies.clear();
        }
        self.schedule.wake_all(Instant::now());
        tracing::info!(identity = self.options.identity, "leading");
    }

    async fn wait_for_work(&mut self, shutdown: &CancellationToken) {
        if !self.shared.with(|cluster| cluster.has_woken()) {
            // Without a policy we still look up now and then, for the sake of leadership.
            let next = self.schedule.next().unwrap_or_else(|| Instant::now() + RETRY);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = self.shared.changed() => {}
                () = sleep_until(next) => {}
            }
        }
        let woken = self.shared.with(cluster::Cluster::take_woken);
        for policy in woken {
            self.schedule.wake(policy, Instant::now());
        }
        self.look_at_killed();
    }

    /// What ran out of memory is looked at now, not in the policy's next cycle.
    fn look_at_killed(&mut self) {
        let killed = self.shared.with(cluster::Cluster::take_killed);
        if killed.is_empty() {
            return;
        }
        self.refresh_selection();
        for (policy, workloads) in self.selection.acting_on(&killed) {
            self.schedule.look(&policy, workloads, Instant::now());
        }
    }

    /// What is remembered is of `term`; in another one nothing is decided upon it.
    async fn evaluate_due(&mut self, term: Option<Timestamp>, shutdown: &CancellationToken) {
        for (policy, focus) in self.schedule.due(Instant::now()) {
            if shutdown.is_cancelled() || self.leadership.term() != term {
                return;
            }
            self.evaluate(&policy, focus, shutdown).await;
        }
    }

    async fn evaluate(&mut self, id: &PolicyId, focus: Focus, shutdown: &CancellationToken) {
        let Some(object) = self.shared.with(|cluster| cluster.policies.get(id).cloned()) else {
            return self.forget(id);
        };
        let started = Instant::now();
        if !self.restore(&object).await {
            return self.schedule.evaluated(id, &Focus::All, started, RETRY, None);
        }
        if object.deleting.is_some() {
            let again = self.let_go(&object).await;
            return self.schedule.evaluated(id, &Focus::All, started, again, None);
        }
        let (interval, follow_up) = match &object.parsed {
            Ok(policy) => {
                let promise = self.keep_promise(&object, policy).await;
                let follow_up = self.evaluate_valid(policy, promise, &focus, shutdown).await;
                (policy.interval.unwrap_or(self.options.interval), follow_up)
            }
            Err(errors) => {
                let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                self.invalid(&object, &message).await;
                (self.options.interval, None)
            }
        };
        self.metrics.policy(id).observe_reconciliation(started.elapsed());
        self.schedule.evaluated(id, &focus, started, interval, follow_up);
    }

    /// The four steps. Without a `promise` that can be kept nothing is changed.
    async fn evaluate_valid(
        &mut self,
        policy: &Policy,
        promise: Result<(), Reason>,
        focus: &Focus,
        shutdown: &CancellationToken,
    ) -> Option<FollowUp> {
        if policy.mode == Mode::Disabled && !planted(19) {
            self.report_disabled(policy).await;
            return None;
        }
        let mut observation = self.observe(policy, focus).await;
        observation.blocked = observation.blocked.or(promise.err());
        let mut planned = self.plan(&observation, focus);
        let before = self.announce(policy, &mut planned).await;
        let applied = self.executor.apply(policy, planned, shutdown).await;
        self.report(&observation, focus, applied, &before).await
    }

    /// Plans within what is left of the budgets.
    fn plan(&mut self, observation: &observe::Observation, focus: &Focus) -> Vec<plan::Planned> {
        let state = self.policies.entry(observation.policy.id.clone()).or_default();
        if *focus == Focus::All {
            state.budget = observation.policy.update.max_updates_per_cycle;
        }
        let available = self.rate.available();
        let per_minute = self.options.max_updates_per_minute;
        let mut budget = plan::Budget { cycle: state.budget, rate: available, per_minute };
        let circuit = state.open_circuit(&observation.policy);
        let planned = plan::plan(observation, &self.history, circuit, &mut budget, self.options.dry_run);
        state.budget = budget.cycle;
        self.rate.take(available - budget.rate);
        planned
    }

    async fn invalid(&mut self, object: &PolicyObject, message: &str) {
        let known = self.policies.get(&object.id).and_then(|state| state.observed_generation);
        if known != Some(object.generation) {
            tracing::warn!(policy = %object.id, message, "the policy is not valid");
            self.events.publish(report::invalid_policy(&object.id, &object.uid, message));
            self.metrics.policy(&object.id).count_error("ValidationFailed");
            self.policies.entry(object.id.clone()).or_default().observed_generation = Some(object.generation);
        }
        self.report_invalid(&object.id, object.generation, message).await;
    }
}

/// Times in status and annotations have whole seconds, as the API stores them.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
