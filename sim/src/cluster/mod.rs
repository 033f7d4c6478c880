//! The simulated cluster: controllers, scheduler and kubelets around the API double.
//!
//! A step is `control` (controllers settle) → `sync` (kubelets take up changed pods) → `use_up`
//! (load, CPU shares, memory kills) → `starve` (what has less than it needs ends) → `report` (pod statuses) → `scrape` (metrics and the ledger).
//! What it may not know: OptiPod. It sees its work only as changed objects.
//! Invariant: everything that a real control plane would write goes through the API double's store;
//! one step is one instant of the timeline, without an await inside.

mod consumption;
mod controllers;
mod daemonset;
mod deployment;
mod kubelet;
mod needs;
mod node;
mod objects;
mod pressure;
mod replicaset;
mod resizing;
mod scheduler;
mod scrape;
mod statefulset;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use self::controllers::Queue;
use self::kubelet::PodRun;
pub use self::needs::Need;
use self::objects::Plane;
use crate::api::SimApi;
use crate::api::status::StatusError;
use crate::api::store::Key;
use crate::load::Behaviour;
use crate::truth::{Series, Truth};

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Seed of loads and start delays.
    pub seed: u64,
    /// Simulated time of one step.
    pub step: Duration,
    /// Resolution of metrics-server.
    pub scrape_every: Duration,
    /// Shortest time from binding to Ready.
    pub start_delay: Duration,
    /// Start delays differ by up to this much.
    pub start_spread: Duration,
    /// Time from the allocation of a resize to its actuation.
    pub resize_delay: Duration,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            step: Duration::from_secs(5),
            scrape_every: Duration::from_secs(15),
            start_delay: Duration::from_secs(4),
            start_spread: Duration::from_secs(6),
            resize_delay: Duration::from_secs(2),
        }
    }
}

/// A handle to one simulated cluster; clones share it.
#[derive(Clone)]
pub struct SimCluster {
    api: SimApi,
    options: Arc<ClusterOptions>,
    truth: Truth,
    inner: Arc<Mutex<Cluster>>,
}

impl std::fmt::Debug for SimCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimCluster").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What happens inside.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) queue: Queue,
    pub(crate) pods: BTreeMap<Key, PodRun>,
    pub(crate) loads: BTreeMap<Series, Behaviour>,
    /// What containers cannot live without.
    pub(crate) needs: BTreeMap<Series, Need>,
    /// Workloads whose new pods never get ready: namespace, kind, name.
    pub(crate) broken: BTreeSet<(String, String, String)>,
    last_step: Option<f64>,
    next_scrape: f64,
    last_scrape: f64,
    next_mark: f64,
    next_wake: f64,
    addresses: u32,
}

/// What one step works with.
pub(crate) struct Moment<'a> {
    pub(crate) options: &'a ClusterOptions,
    pub(crate) truth: &'a Truth,
    /// Seconds since the start.
    pub(crate) now: f64,
    /// Seconds since the last step.
    pub(crate) elapsed: f64,
    /// Seconds since midnight UTC of the first day.
    pub(crate) of_day: f64,
}

/// How often what asked to come back does so (deadlines, refused creations), in seconds.
const WAKE_EVERY: f64 = 15.0;
/// How often throttling is marked in the ledger, in seconds.
const MARK_EVERY: f64 = 300.0;

impl SimCluster {
    /// A cluster around this API, without nodes.
    pub fn new(api: &SimApi, options: ClusterOptions) -> Self {
        let mut state = api.lock();
        state.kubelets = true;
        state.store.track_dirty();
        drop(state);
        Self { api: api.clone(), options: Arc::new(options), truth: Truth::default(), inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API double.
    pub fn api(&self) -> &SimApi {
        &self.api
    }

    /// The ledger of what happened.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Adds a node with this much allocatable, such as `("n1", "8", "32Gi")`.
    pub fn add_node(&self, name: &str, cpu: &str, memory: &str) -> Result<Value, StatusError> {
        self.api.create(node::manifest(name, cpu, memory))
    }

    /// Sets what a container of a workload does from now on, in all replicas.
    pub fn set_load(&self, series: Series, behaviour: Behaviour) {
        let mut cluster = self.lock();
        for run in cluster.pods.values_mut() {
            for container in &mut run.containers {
                if self.truth.row(&series) == container.row {
                    let name = load_name(&run.key, &container.name);
                    container.load = crate::load::Load::new(behaviour, self.options.seed, &name);
                }
            }
        }
        cluster.loads.insert(series, behaviour);
    }

    /// From now on a container of a workload fails, in all replicas, while it requests less than it needs.
    pub fn set_need(&self, series: Series, need: Need) {
        self.lock().needs.insert(series, need);
    }

    /// Makes new pods of a workload never ready, or ready again: a bad release.
    pub fn break_starts(&self, namespace: &str, kind: &str, name: &str, broken: bool) {
        let workload = (namespace.to_owned(), kind.to_owned(), name.to_owned());
        let mut cluster = self.lock();
        if broken {
            cluster.broken.insert(workload);
        } else {
            cluster.broken.remove(&workload);
        }
    }

    /// Ends a container as if it had crashed (`Error`) or been killed for memory (`OOMKilled`).
    ///
    /// Says whether such a container was running.
    pub fn crash(&self, namespace: &str, pod: &str, container: &str, reason: &str) -> bool {
        let now = self.api.clock().elapsed().as_secs_f64();
        let time = crate::clock::rfc3339(self.api.clock().now());
        let mut cluster = self.lock();
        let run = cluster.pods.get_mut(&Key::new(namespace, pod));
        let found = run.and_then(|run| {
            run.status_due = true;
            run.containers.iter_mut().find(|c| c.name == container && c.is_running())
        });
        let code = if reason == "OOMKilled" { 137 } else { 1 };
        found.map(|container| container.crash(now, &time, reason, code)).is_some()
    }

    /// Steps for ever. Spawn it on the current-thread runtime of the simulation.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(self.options.step);
        loop {
            ticks.tick().await;
            self.step();
        }
    }

    /// Steps until nothing waits to start, at most `limit`; says whether it got there.
    pub async fn settle(&self, limit: Duration) -> bool {
        let end = tokio::time::Instant::now() + limit;
        loop {
            self.step();
            if self.lock().pods.values().all(PodRun::is_ready) && !self.waiting() {
                return true;
            }
            if tokio::time::Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(self.options.step).await;
        }
    }

    fn waiting(&self) -> bool {
        let pods = self.api.list("v1", "Pod");
        pods.iter().any(|pod| !objects::is_ready(pod))
    }

    /// One step at the timeline's present instant.
    pub fn step(&self) {
        let clock = self.api.clock();
        let now = clock.elapsed().as_secs_f64();
        let mut cluster = self.lock();
        let mut state = self.api.lock();
        let moment = Moment {
            options: &self.options,
            truth: &self.truth,
            now,
            elapsed: now - cluster.last_step.unwrap_or(now),
            of_day: now + (clock.epoch().as_second().rem_euclid(86_400)) as f64,
        };
        cluster.last_step = Some(now);
        let mut plane = Plane { state: &mut state, now: clock.now() };
        cluster.control(&mut plane, &moment);
        cluster.use_up(&plane, &moment);
        cluster.starve(&plane, &moment);
        cluster.report(&mut plane, &moment);
        cluster.scrape_when_due(&mut plane, &moment);
    }
}

/// The name under which a container draws its randomness.
pub(crate) fn load_name(pod: &Key, container: &str) -> String {
    format!("{}/{}/{container}", pod.namespace, pod.name)
}

impl Cluster {
    /// Controllers settle, and kubelets take up what changed.
    fn control(&mut self, plane: &mut Plane<'_>, moment: &Moment<'_>) {
        if moment.now >= self.next_wake {
            self.next_wake = moment.now + WAKE_EVERY;
            self.queue.wake();
        }
        let changed = self.queue.settle(plane);
        for key in changed {
            self.sync(plane, moment, &key);
        }
    }

    /// Time passes for every pod; statuses are written; controllers see them at once.
    fn report(&mut self, plane: &mut Plane<'_>, moment: &Moment<'_>) {
        for run in self.pods.values_mut() {
            run.advance(moment.now);
        }
        self.resize(plane, moment);
        for run in self.pods.values_mut() {
            run.write_status(plane);
        }
        self.finish_deletions(plane, moment);
        let changed = self.queue.settle(plane);
        for key in changed {
            self.sync(plane, moment, &key);
        }
    }
}
