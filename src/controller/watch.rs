//! The watches that keep [`Cluster`] up to date, and the readiness that they give.
//!
//! A watch never ends by itself: an error is logged, waited out and tried again; what is known stays until the next list.

mod vpa;

use super::bounds::{LIMIT_RANGES, NODES, QUOTAS, VPAS};
use super::cluster::Cluster;
use super::ingest;
use crate::policy::OptimizationPolicy;
use crate::workload::{WorkloadId, WorkloadKind};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, Node, Pod, ResourceQuota};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Error, Event};
use kube::{Api, Client, Resource, ResourceExt};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The cluster as watched, shared between the watches and the loop.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cluster: Mutex<Cluster>,
    changed: Notify,
}

impl Shared {
    /// Reads or notes something; never held across an await.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Cluster) -> T) -> T {
        act(&mut self.0.cluster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a policy is to be evaluated at once or a first list is complete.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Notes what a watch tells, and wakes the loop where that matters at once.
    pub(super) fn take<T>(&self, act: impl FnOnce(&mut Cluster) -> T) {
        let notable = self.with(|cluster| {
            let missing = cluster.missing().len();
            act(cluster);
            cluster.has_woken() || cluster.missing().len() != missing
        });
        if notable {
            self.0.changed.notify_one();
        }
    }
}

/// Whether the controller sees what it needs to see.
#[derive(Clone, Debug)]
pub struct Readiness(Shared);

impl Readiness {
    pub(super) fn new(shared: Shared) -> Self {
        Self(shared)
    }

    /// The watches whose first list is not complete; ready when there is none.
    pub fn missing(&self) -> Vec<&'static str> {
        self.0.with(|cluster| cluster.missing())
    }

    /// All watches are complete.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }
}

/// Starts every watch.
pub(super) fn start(client: &Client, shared: &Shared) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let config = Config::default;
    macro_rules! follow {
        ($name:expr, $stream:expr, $take:expr) => {
            tasks.spawn(follow($name, $stream, shared.clone(), $take))
        };
    }
    let policies = watcher(Api::<DeserializeGuard<OptimizationPolicy>>::all(client.clone()), config());
    follow!("optimizationpolicies", policies, |cluster, event| {
        let diffs = cluster.policies.take(event, |o| ingest::policy_id(o.meta()), |o| Some(ingest::policy(o)));
        cluster.note_policies(diffs);
    });
    follow!("deployments", watcher(Api::<Deployment>::all(client.clone()), config()), |cluster, event| {
        let key = |o: &Deployment| workload_id(WorkloadKind::Deployment, &o.metadata);
        let diffs = cluster.deployments.take(event, key, |o| Some(ingest::deployment(o)));
        cluster.note_workloads(&diffs);
    });
    follow!("statefulsets", watcher(Api::<StatefulSet>::all(client.clone()), config()), |cluster, event| {
        let key = |o: &StatefulSet| workload_id(WorkloadKind::StatefulSet, &o.metadata);
        let diffs = cluster.stateful_sets.take(event, key, |o| Some(ingest::stateful_set(o)));
        cluster.note_workloads(&diffs);
    });
    follow!("daemonsets", watcher(Api::<DaemonSet>::all(client.clone()), config()), |cluster, event| {
        let key = |o: &DaemonSet| workload_id(WorkloadKind::DaemonSet, &o.metadata);
        let diffs = cluster.daemon_sets.take(event, key, |o| Some(ingest::daemon_set(o)));
        cluster.note_workloads(&diffs);
    });
    follow!("pods", watcher(Api::<Pod>::all(client.clone()), config()), |cluster, event| {
        let diffs = cluster.pods.take(event, |o| ingest::object_key(&o.metadata), |o| ingest::pod(&o));
        cluster.note_pods(diffs);
    });
    follow!(
        "replicasets",
        watcher(Api::<PartialObjectMeta<ReplicaSet>>::all(client.clone()), config()),
        |cluster, event| {
            let diffs = cluster.replica_sets.take(event, |o| ingest::object_key(&o.metadata), ingest::replica_set);
            cluster.note_replica_sets(diffs);
        }
    );
    follow!(
        "namespaces",
        watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), config()),
        |cluster, event| {
            let diffs = cluster.namespaces.take(event, ResourceExt::name_any, |o| Some(ingest::namespace(o)));
            cluster.note_namespaces(&diffs);
        }
    );
    let autoscalers = watcher(Api::<HorizontalPodAutoscaler>::all(client.clone()), config());
    follow!("horizontalpodautoscalers", autoscalers, |cluster, event| {
        cluster.autoscalers.take(event, |o| ingest::object_key(&o.metadata), ingest::autoscaler);
    });
    follow!(LIMIT_RANGES, watcher(Api::<LimitRange>::all(client.clone()), config()), |cluster, event| {
        cluster.bounds.limit_ranges.take(event, |o| ingest::object_key(&o.metadata), ingest::limit_range);
    });
    follow!(QUOTAS, watcher(Api::<ResourceQuota>::all(client.clone()), config()), |cluster, event| {
        cluster.bounds.quotas.take(event, |o| ingest::object_key(&o.metadata), ingest::quota);
    });
    follow!(NODES, watcher(Api::<Node>::all(client.clone()), config()), |cluster, event| {
        let diffs = cluster.bounds.nodes.take(event, ResourceExt::name_any, ingest::node);
        cluster.bounds.note_nodes(&diffs);
    });
    tasks.spawn(vpa::run(client.clone(), shared.clone()));
    tasks
}

fn workload_id(kind: WorkloadKind, metadata: &ObjectMeta) -> WorkloadId {
    let (namespace, name) = ingest::object_key(metadata);
    WorkloadId { namespace, kind, name }
}

/// The first wait after an error; each further one doubles it.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(500);
/// No wait is longer, but for what may stay away.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Nodes that RBAC keeps from us, as in an installation for one namespace, are asked for this often.
const REFUSED_WAIT: Duration = Duration::from_mins(2);

/// Feeds the table from the watch; ends only where VerticalPodAutoscalers are no longer served.
async fn follow<K>(
    name: &'static str,
    events: impl Stream<Item = Result<Event<K>, Error>> + Send,
    shared: Shared,
    take: impl Fn(&mut Cluster, Event<K>) + Send,
) {
    let mut events = pin!(events);
    let mut wait = FIRST_WAIT;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // Each new attempt begins with `Init`, which says nothing about its success.
                if !matches!(event, Event::Init) {
                    wait = FIRST_WAIT;
                }
                shared.take(|cluster| take(cluster, event));
            }
            Err(error) if name == VPAS && code(&error) == Some(404) => return,
            Err(error) if name == NODES && code(&error) == Some(403) => {
                shared.take(|cluster| cluster.bounds.note_nodes_refused());
                tracing::warn!(watch = name, %error, retry_in = ?REFUSED_WAIT, "nodes may not be watched, so that their size is not asked for before a change; grant list and watch on them");
                tokio::time::sleep(REFUSED_WAIT).await;
            }
            // The API server answers, and wants a list: after an outage that is no further failure.
            Err(error) if code(&error) == Some(410) => {
                tracing::info!(watch = name, %error, "a watch has expired; its objects are listed anew");
                tokio::time::sleep(FIRST_WAIT).await;
            }
            Err(error) => {
                tracing::warn!(watch = name, %error, retry_in = ?wait, "a watch failed; what is known stays until it works again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// The HTTP code of the API server's answer, if it was one.
fn code(error: &Error) -> Option<u16> {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}
