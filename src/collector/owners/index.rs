//! What is known of pods, replicasets and jobs: as little as resolving needs.

use super::resolve::{Controller, Lookup, OwnerRef, PodOwner, resolve};
use crate::hash::fnv_1a;
use crate::workload::{WorkloadId, WorkloadKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::Notify;

/// The watched kinds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Watched {
    Pods,
    ReplicaSets,
    Jobs,
}

/// Pods and their owners, as the watches last reported them. Shared between the watches, which write, and the tick.
#[derive(Default)]
pub struct Owners {
    tables: RwLock<Tables>,
    /// Woken when the last kind has been listed.
    all_listed: Notify,
}

#[derive(Default)]
struct Tables {
    pods: Table,
    replica_sets: Table,
    jobs: Table,
}

/// One watched kind: what is served, and the list being received, which replaces it when complete.
#[derive(Default)]
struct Table {
    objects: ByName,
    incoming: ByName,
    synced: bool,
    /// Why the watch fails, while it does.
    problem: Option<String>,
    /// Attempts in a row that failed.
    failures: u32,
}

/// Namespace → name → object. Its order tells nothing: what is listed is put in order.
type ByName = HashMap<String, HashMap<String, Entry>>;

struct Entry {
    /// A stable hash of the uid.
    uid: u64,
    owner: Option<OwnerRef>,
}

impl Owners {
    /// Every kind has been listed once.
    pub fn synced(&self) -> bool {
        self.read().each().iter().all(|(_, table)| table.synced)
    }

    /// Waits until every kind has been listed once.
    pub async fn until_synced(&self) {
        let mut listed = std::pin::pin!(self.all_listed.notified());
        listed.as_mut().enable();
        if !self.synced() {
            listed.await;
        }
    }

    /// Which watches fail, and why; `None` when all work.
    pub fn problem(&self) -> Option<String> {
        let tables = self.read();
        let problems = tables.each().into_iter().filter_map(|(kind, table)| Some((kind, table.problem.as_deref()?)));
        let texts: Vec<String> = problems.map(|(kind, problem)| format!("cannot watch {kind}: {problem}")).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// The workloads of all pods, as far as they are known.
    pub fn workloads(&self) -> BTreeSet<WorkloadId> {
        let tables = self.read();
        let pods =
            tables.pods.objects.iter().flat_map(|(namespace, pods)| pods.keys().map(move |pod| (namespace, pod)));
        pods.filter_map(|(namespace, pod)| Some(View(&tables).resolve(namespace, pod)?.0)).collect()
    }

    /// Runs `ask` on a consistent view, which holds the watches' writes back as long: for one pod, not a whole tick.
    pub(in crate::collector) fn view<T>(&self, ask: impl FnOnce(View<'_>) -> T) -> T {
        ask(View(&self.read()))
    }

    /// Takes one watch event.
    pub(super) fn apply(&self, kind: Watched, event: Event<ObjectMeta>) {
        let listed = matches!(event, Event::InitDone);
        self.write().table(kind).apply(event);
        if listed && self.synced() {
            self.all_listed.notify_waiters();
        }
    }

    /// A watch was answered.
    pub(super) fn works(&self, kind: Watched) {
        let mut tables = self.write();
        let table = tables.table(kind);
        table.failures = 0;
        if table.problem.take().is_some() {
            tracing::info!(%kind, "watch works again");
        }
    }

    /// A watch failed; it is tried again. Returns how many attempts in a row have failed.
    pub(super) fn fail(&self, kind: Watched, problem: String) -> u32 {
        let mut tables = self.write();
        let table = tables.table(kind);
        table.failures = table.failures.saturating_add(1);
        if table.problem.is_none() {
            tracing::warn!(%kind, problem, "watch fails; owners may be out of date until it works again");
        }
        table.problem = Some(problem);
        table.failures
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn table(&mut self, kind: Watched) -> &mut Table {
        match kind {
            Watched::Pods => &mut self.pods,
            Watched::ReplicaSets => &mut self.replica_sets,
            Watched::Jobs => &mut self.jobs,
        }
    }

    fn each(&self) -> [(Watched, &Table); 3] {
        [(Watched::Pods, &self.pods), (Watched::ReplicaSets, &self.replica_sets), (Watched::Jobs, &self.jobs)]
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pods => "pods",
            Self::ReplicaSets => "replicasets",
            Self::Jobs => "jobs",
        })
    }
}

impl Table {
    fn apply(&mut self, event: Event<ObjectMeta>) {
        match event {
            Event::Init => self.incoming.clear(),
            Event::InitApply(meta) => insert(&mut self.incoming, meta),
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.incoming);
                self.synced = true;
            }
            Event::Apply(meta) => insert(&mut self.objects, meta),
            Event::Delete(meta) => remove(&mut self.objects, &meta),
        }
    }

    fn get(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.objects.get(namespace)?.get(name)
    }
}

fn insert(objects: &mut ByName, meta: ObjectMeta) {
    let entry = Entry {
        uid: fnv_1a(meta.uid.as_deref().unwrap_or_default().bytes()),
        owner: OwnerRef::controller_of(meta.owner_references.as_deref().unwrap_or_default()),
    };
    let names = objects.entry(meta.namespace.unwrap_or_default()).or_default();
    names.insert(meta.name.unwrap_or_default(), entry);
}

fn remove(objects: &mut ByName, meta: &ObjectMeta) {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    if let Some(names) = objects.get_mut(namespace) {
        names.remove(meta.name.as_deref().unwrap_or_default());
        if names.is_empty() {
            objects.remove(namespace);
        }
    }
}

/// A consistent view of [`Owners`].
pub(in crate::collector) struct View<'a>(&'a Tables);

impl View<'_> {
    /// The workload of a pod and the hash of the pod's uid; `None` while either is not known.
    pub(in crate::collector) fn resolve(&self, namespace: &str, pod: &str) -> Option<(WorkloadId, u64)> {
        let entry = self.0.pods.get(namespace, pod)?;
        let workload = resolve(PodOwner { namespace, pod, owner: entry.owner.as_ref() }, self)?;
        Some((workload, entry.uid))
    }
}

impl Lookup for View<'_> {
    fn controller(&self, kind: WorkloadKind, namespace: &str, name: &str) -> Controller<'_> {
        let table = match kind {
            WorkloadKind::ReplicaSet => &self.0.replica_sets,
            WorkloadKind::Job => &self.0.jobs,
            _ => return Controller::None,
        };
        match table.get(namespace, name) {
            None => Controller::UnknownYet,
            Some(entry) => entry.owner.as_ref().map_or(Controller::None, Controller::Owner),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    fn meta(name: &str, owner: Option<(&str, &str, &str)>) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("shop".into()),
            name: Some(name.into()),
            uid: Some(format!("uid-of-{name}")),
            owner_references: owner.map(|(api_version, kind, name)| {
                vec![OwnerReference {
                    api_version: api_version.into(),
                    kind: kind.into(),
                    name: name.into(),
                    controller: Some(true),
                    ..OwnerReference::default()
                }]
            }),
            ..ObjectMeta::default()
        }
    }

    fn workload_of(owners: &Owners, pod: &str) -> Option<String> {
        owners.view(|view| view.resolve("shop", pod).map(|(workload, _)| workload.to_string()))
    }

    #[test]
    fn a_pod_is_resolved_as_soon_as_its_replicaset_is_known() {
        let owners = Owners::default();
        assert_eq!(workload_of(&owners, "web-5d-x"), None);
        owners.apply(Watched::Pods, Event::Apply(meta("web-5d-x", Some(("apps/v1", "ReplicaSet", "web-5d")))));
        assert_eq!(workload_of(&owners, "web-5d-x"), None);
        let set = meta("web-5d", Some(("apps/v1", "Deployment", "web")));
        owners.apply(Watched::ReplicaSets, Event::Apply(set));
        assert_eq!(workload_of(&owners, "web-5d-x").as_deref(), Some("shop/Deployment/web"));
        let all: Vec<String> = owners.workloads().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["shop/Deployment/web"]);
        owners.apply(Watched::Pods, Event::Delete(meta("web-5d-x", None)));
        assert_eq!(workload_of(&owners, "web-5d-x"), None);
    }

    #[test]
    fn a_new_list_replaces_the_old_one_only_when_it_is_complete() {
        let owners = Owners::default();
        owners.apply(Watched::Pods, Event::Apply(meta("old", None)));
        owners.apply(Watched::Pods, Event::Init);
        owners.apply(Watched::Pods, Event::InitApply(meta("new", None)));
        assert!(workload_of(&owners, "old").is_some() && workload_of(&owners, "new").is_none());
        owners.apply(Watched::Pods, Event::InitDone);
        assert!(workload_of(&owners, "old").is_none() && workload_of(&owners, "new").is_some());
        assert!(!owners.synced(), "replicasets and jobs are still missing");
        owners.apply(Watched::ReplicaSets, Event::InitDone);
        owners.apply(Watched::Jobs, Event::InitDone);
        assert!(owners.synced());
    }
}
