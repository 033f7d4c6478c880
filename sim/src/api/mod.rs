//! The API server double: an in-process `tower::Service` that behaves like a Kubernetes 1.37 server.
//!
//! A request passes `service` (faults, journal) → `route` → `access` → `read` | `watch` | `write` |
//! `delete` | `metrics` | `discovery`; `store` holds the objects. `apply` is server-side apply,
//! `strategic` strategic merge, `resize` the rules of `pods/resize`, `admission` quotas and nodes,
//! `limit_ranges` LimitRanges, `grants` roles, `normal` defaults, `validate` and `crd` refusals, `status` their wording.
//! What it may not know: the simulated cluster. Controllers and kubelets act on it from outside.
//! Invariant: deterministic on a current-thread runtime with paused time.

pub(crate) mod access;
mod admission;
pub(crate) mod answer;
mod apply;
mod change;
pub(crate) mod control;
mod crd;
mod delete;
mod discovery;
mod events;
pub(crate) mod faults;
mod grants;
pub(crate) mod journal;
pub(crate) mod kinds;
mod limit_ranges;
pub(crate) mod metrics;
mod metrics_protobuf;
pub(crate) mod normal;
pub(crate) mod pods;
mod read;
mod resize;
pub(crate) mod route;
mod selector;
pub(crate) mod service;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod store;
mod strategic;
mod validate;
mod watch;
pub(crate) mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use self::access::{Access, Deny};
use self::control::FaultControl;
use self::faults::Faults;
use self::grants::Grant;
use self::journal::{Entry, Journal};
use self::kinds::Registry;
use self::metrics::{MetricsTable, PodPoint};
use self::route::Target;
use self::service::SimService;
use self::state::State;
use self::status::StatusError;
use self::store::{Key, Store};
use self::write::Writer;
use crate::clock::SimClock;
use crate::json::str_at;

/// The user of [`SimApi::client`].
pub const DEFAULT_USER: &str = "system:serviceaccount:optipod-system:optipod";

/// How a double is set up.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Seed of the fault injector.
    pub seed: u64,
    /// Wall-clock time at the start.
    pub epoch: Timestamp,
    /// Changes kept for watches, for each resource.
    pub history_limit: usize,
    /// Whether the journal keeps reads.
    pub journal_reads: bool,
    /// Whether the journal keeps bodies, and objects before and after a write.
    pub journal_objects: bool,
    /// Whether `pods/resize` is discovered and served.
    pub resize: bool,
    /// The manager recorded for [`SimApi::create`].
    pub setup_manager: String,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            // A Monday, so that weekly patterns begin where people expect them to.
            epoch: Timestamp::from_second(1_767_571_200).unwrap_or(Timestamp::UNIX_EPOCH),
            history_limit: 5000,
            journal_reads: true,
            journal_objects: true,
            resize: true,
            setup_manager: "kubectl-client-side-apply".to_owned(),
        }
    }
}

/// A handle to one API server double; clones share it.
#[derive(Clone)]
pub struct SimApi {
    state: Arc<Mutex<State>>,
    clock: SimClock,
    setup_manager: Arc<str>,
}

impl std::fmt::Debug for SimApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimApi").finish_non_exhaustive()
    }
}

impl SimApi {
    /// A double with the four system namespaces and nothing else. Call it inside the runtime.
    pub fn new(options: SimOptions) -> Self {
        let state = State {
            registry: Registry::new(),
            store: Store::new(options.history_limit),
            access: Access::default(),
            faults: Faults::new(options.seed),
            journal: Journal::new(options.journal_reads, options.journal_objects),
            metrics: MetricsTable::default(),
            resize_served: options.resize,
            metrics_served: true,
            kubelets: false,
            cut_epoch: 0,
            suffixes: 0,
        };
        let api = Self {
            state: Arc::new(Mutex::new(state)),
            clock: SimClock::starting_at(options.epoch),
            setup_manager: options.setup_manager.into(),
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            // Cannot fail: the names are valid and the store is empty.
            let _ = api.create_namespace(name, &json!({}));
        }
        api
    }

    /// The simulation's clock.
    pub fn clock(&self) -> SimClock {
        self.clock
    }

    /// A client that speaks as [`DEFAULT_USER`].
    pub fn client(&self) -> kube::Client {
        self.client_as(DEFAULT_USER)
    }

    /// A client that speaks as the given user.
    pub fn client_as(&self, user: &str) -> kube::Client {
        kube::Client::new(self.service(user), "default")
    }

    /// The bare service, for tests that put their own layers around it.
    pub fn service(&self, user: &str) -> SimService {
        SimService::new(self.clone(), user)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writer(&self, manager: Option<&str>) -> Writer {
        Writer {
            manager: manager.map(str::to_owned),
            dry_run: false,
            force: false,
            now: crate::clock::rfc3339(self.clock.now()),
        }
    }

    /// Creates a namespace with the given labels.
    pub fn create_namespace(&self, name: &str, labels: &Value) -> Result<Value, StatusError> {
        self.create(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels}}))
    }

    /// Creates an object, typed or as JSON with `apiVersion` and `kind`, as a person with kubectl.
    pub fn create(&self, object: impl Serialize) -> Result<Value, StatusError> {
        let body = to_json(object)?;
        let mut state = self.lock();
        let target = target_of(&state.registry, &body, false)?;
        let writer = self.writer(Some(&self.setup_manager));
        let written = state.create(&target, body, &writer)?;
        Ok(Value::clone(&written.answer))
    }

    /// Changes an object by a strategic merge patch (merge patch for custom resources).
    ///
    /// `manager` is the field manager, such as `kubectl-edit`.
    pub fn patch(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        manager: &str,
        patch: &Value,
    ) -> Result<Value, StatusError> {
        let mut state = self.lock();
        let target = named_target(&state.registry, api_version, kind, namespace, name)?;
        let media =
            if target.kind.custom { "application/merge-patch+json" } else { "application/strategic-merge-patch+json" };
        let written = state.patch(&target, media, patch, &self.writer(Some(manager)))?;
        Ok(Value::clone(&written.answer))
    }

    /// Changes a pod's resources through its `resize` subresource, as a person with kubectl.
    pub fn resize(&self, manager: &str, namespace: &str, name: &str, patch: &Value) -> Result<Value, StatusError> {
        let mut state = self.lock();
        let mut target = named_target(&state.registry, "v1", "Pod", namespace, name)?;
        target.subresource = Some("resize".to_owned());
        let media = "application/strategic-merge-patch+json";
        let written = state.patch(&target, media, patch, &self.writer(Some(manager)))?;
        Ok(Value::clone(&written.answer))
    }

    /// Replaces the status of an object, as a controller of the control plane.
    pub fn set_status(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        status: &Value,
    ) -> Result<Value, StatusError> {
        let mut state = self.lock();
        let mut target = named_target(&state.registry, api_version, kind, namespace, name)?;
        target.subresource = Some("status".to_owned());
        let patch = json!([{"op": "add", "path": "/status", "value": status}]);
        let written = state.patch(&target, "application/json-patch+json", &patch, &self.writer(None))?;
        Ok(Value::clone(&written.answer))
    }

    /// Deletes an object.
    pub fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<(), StatusError> {
        let mut state = self.lock();
        let target = named_target(&state.registry, api_version, kind, namespace, name)?;
        state.delete(&target, &Value::Null, &self.writer(None)).map(drop)
    }

    /// Reads an object past the service: no journal, no faults. `None` when it is absent.
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.lock();
        let kind = state.registry.of_object(api_version, kind)?;
        let object = state.store.get(&kind, &Key::new(namespace, name))?;
        Some(Value::clone(&object))
    }

    /// All objects of a kind, past the service, in order of namespace and name.
    pub fn list(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let state = self.lock();
        let Some(kind) = state.registry.of_object(api_version, kind) else {
            return Vec::new();
        };
        state.store.list(&kind, None).map(|(_, object)| Value::clone(object)).collect()
    }

    /// Installs a CRD manifest: its schema, defaults and merge rules replace the built-in ones.
    pub fn install_crd(&self, crd: impl Serialize) -> Result<(), StatusError> {
        let crd = to_json(crd)?;
        let kind = crd::kind_of(&crd).ok_or_else(|| StatusError::bad_request("the CRD serves no version"))?;
        self.lock().registry.install(kind);
        Ok(())
    }

    /// Publishes the usage of a pod, as a metrics-server scrape would.
    pub fn publish_metrics(&self, point: PodPoint) {
        self.lock().metrics.publish(point);
    }

    /// Takes a pod out of `metrics.k8s.io`.
    pub fn retract_metrics(&self, namespace: &str, name: &str) {
        self.lock().metrics.retract(namespace, name);
    }

    /// Switches `metrics.k8s.io` on or off (503 and not discovered).
    pub fn serve_metrics(&self, served: bool) {
        self.lock().metrics_served = served;
    }

    /// Switches `pods/resize` on or off, in discovery and in fact.
    pub fn serve_resize(&self, served: bool) {
        self.lock().resize_served = served;
    }

    /// The requests so far, oldest first.
    pub fn journal(&self) -> Vec<Entry> {
        self.lock().journal.entries().to_vec()
    }

    /// The writes so far that were carried out and changed something.
    pub fn changes(&self) -> Vec<Entry> {
        let state = self.lock();
        let entries = state.journal.entries().iter();
        entries.filter(|entry| entry.is_write() && entry.changed).cloned().collect()
    }

    /// The number of requests so far, also of those that the journal does not keep.
    pub fn request_count(&self) -> u64 {
        self.lock().journal.count()
    }

    /// Forgets the journal's entries; their numbering goes on.
    pub fn clear_journal(&self) {
        self.lock().journal.clear();
    }

    /// The fault injector.
    pub fn faults(&self) -> FaultControl {
        FaultControl(self.clone())
    }

    /// Denies what the rule says, from now on.
    pub fn deny(&self, rule: Deny) {
        self.lock().access.denied.push(rule);
    }

    /// From now on this user may do what these RBAC rules (a list of `PolicyRule`) say in this namespace, everywhere
    /// for `""`, and what earlier grants say; nothing else.
    pub fn grant(&self, user: &str, namespace: &str, rules: Value) {
        let grant = Grant { user: user.to_owned(), namespace: namespace.to_owned(), rules };
        self.lock().access.granted.push(grant);
    }

    /// Takes back all rules of [`Self::deny`].
    pub fn allow_all(&self) {
        self.lock().access.denied.clear();
    }
}

fn to_json(object: impl Serialize) -> Result<Value, StatusError> {
    serde_json::to_value(object).map_err(|error| StatusError::bad_request(error.to_string()))
}

/// The collection (or object) that a manifest belongs to.
pub(crate) fn target_of(registry: &Registry, object: &Value, named: bool) -> Result<Target, StatusError> {
    let (version, kind) = (str_at(object, "/apiVersion"), str_at(object, "/kind"));
    let (namespace, name) = (str_at(object, "/metadata/namespace"), str_at(object, "/metadata/name"));
    let mut target = named_target(registry, version, kind, namespace, name)?;
    if !named {
        target.name = None;
    }
    Ok(target)
}

fn named_target(
    registry: &Registry,
    api_version: &str,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<Target, StatusError> {
    let found = registry.of_object(api_version, kind).ok_or_else(|| {
        let message = format!("no matches for kind \"{kind}\" in version \"{api_version}\"");
        StatusError::new(404, "NotFound", message)
    })?;
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    Ok(Target {
        namespace: found.namespaced.then(|| namespace.to_owned()),
        name: Some(name.to_owned()),
        subresource: None,
        kind: found,
    })
}
