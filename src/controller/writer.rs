//! The one file that writes to the cluster.
//!
//! Invariants: no pod and no workload is changed while a brake is on ([`may_write`]); every call has a deadline; nothing is sent when we do not lead until 2 seconds after that deadline, or are
//! shutting down; every patch names the uid of the object that was decided upon, and its resourceVersion too (but for statuses,
//! finalizers, and giving up what is ours).

use super::brake::{may_put_back, may_write};
use super::errors::{WriteError, classify};
use super::leader::Leadership;
use super::watch::Shared;
use super::{FIELD_MANAGER, RESTORE_MANAGER, notes};
use crate::decide::PodResize;
use crate::plant::planted;
use crate::policy::{OptimizationPolicy, Policy, PolicyId};
use crate::telemetry::events::EventWriter;
use crate::workload::{ContainerResources, Resources, WorkloadId, WorkloadKind};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, ResourceExt as _,
};
use kube::{Api, Client, Error};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// A write's deadline ends this long before our lease does.
const LEASE_MARGIN: Duration = Duration::from_secs(2);
/// The deadline of a call that a person waits for.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Writes to the cluster while we may.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) client: Client,
    /// Where the brakes stand.
    pub(super) shared: Shared,
    pub(super) dry_run: bool,
    pub(super) deadline: Duration,
    pub(super) leadership: Leadership,
    pub(super) stopping: CancellationToken,
}

/// Whose pods or template a write changes, and which policy wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) policy: &'a Policy,
    pub(super) workload: &'a WorkloadId,
}

/// A complete apply of a workload's requests.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct TemplateWrite {
    pub(super) uid: String,
    pub(super) resource_version: String,
    /// Every container of the template.
    pub(super) containers: Vec<ContainerResources>,
    /// Those of which limits are set, or kept because they are ours.
    pub(super) with_limits: BTreeSet<String>,
    /// Our notes, on the workload's own metadata.
    pub(super) annotations: BTreeMap<&'static str, String>,
}

/// A template's container and the requests that it gets back.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct RequestsBefore {
    pub(super) container: String,
    pub(super) from: Resources,
    pub(super) to: Resources,
}

/// Who wants requests put back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Undoer {
    /// A person, whom no brake stops.
    Person,
    /// A policy that is being deleted.
    Deletion,
}

impl Writer {
    /// Writes for a person, with the rights of `client`: no lease and no brake is asked.
    pub(super) fn of_a_person(client: Client) -> Self {
        Self {
            client,
            shared: Shared::default(),
            dry_run: false,
            deadline: DEADLINE,
            leadership: Leadership::without_election(),
            stopping: CancellationToken::new(),
        }
    }

    /// Resizes one running pod.
    pub(super) async fn resize(
        &self,
        subject: Subject<'_>,
        pod: &PodResize,
        with_limits: bool,
    ) -> Result<Pod, WriteError> {
        self.change(subject, self.patch_resize(&subject.workload.namespace, pod, with_limits)).await
    }

    /// Resizes one running pod of a workload back, requests and limits.
    pub(super) async fn resize_back(&self, by: Undoer, id: &WorkloadId, pod: &PodResize) -> Result<(), WriteError> {
        self.put_back(by, id, self.patch_resize(&id.namespace, pod, true)).await.map(drop)
    }

    async fn patch_resize(&self, namespace: &str, pod: &PodResize, with_limits: bool) -> Result<Pod, Error> {
        let patch = json!({
            "metadata": identity(&pod.uid, &pod.resource_version),
            "spec": {"containers": containers(&pod.containers, |_| with_limits)},
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        api.patch_resize(&pod.pod, &params, &Patch::Strategic(patch)).await
    }

    /// Applies requests to a workload's template.
    pub(super) async fn apply_template(&self, subject: Subject<'_>, write: &TemplateWrite) -> Result<(), WriteError> {
        let id = subject.workload;
        let resource = resource(id.kind);
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": id.name, "namespace": id.namespace, "uid": write.uid, "resourceVersion": write.resource_version,
                "annotations": write.annotations,
            },
            "spec": {"template": {"spec": {"containers": containers(&write.containers, |name| write.with_limits.contains(name))}}},
        });
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &id.namespace, &resource);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.change(subject, api.patch(&id.name, &params, &Patch::Apply(patch))).await.map(drop)
    }

    /// Sets requests of a template back as [`RESTORE_MANAGER`], and with `hold` marks the workload to be left alone.
    pub(super) async fn restore_template(
        &self,
        by: Undoer,
        id: &WorkloadId,
        (uid, resource_version): (&str, &str),
        hold: bool,
        before: &[RequestsBefore],
    ) -> Result<(), WriteError> {
        let mut patch = json!({"metadata": {"uid": uid, "resourceVersion": resource_version}});
        if hold {
            patch["metadata"]["annotations"] = json!({notes::HOLD: "restored"});
        }
        if !before.is_empty() {
            let one = |back: &RequestsBefore| {
                let mut requests = Map::new();
                // What was not there before is removed by a null.
                if back.to.cpu != back.from.cpu {
                    requests.insert("cpu".into(), back.to.cpu.map(|cpu| cpu.to_string()).into());
                }
                if back.to.memory != back.from.memory {
                    requests.insert("memory".into(), back.to.memory.map(|memory| memory.to_string()).into());
                }
                json!({"name": back.container, "resources": {"requests": requests}})
            };
            let containers: Vec<Value> = before.iter().map(one).collect();
            patch["spec"] = json!({"template": {"spec": {"containers": containers}}});
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &id.namespace, &resource(id.kind));
        let params = PatchParams { field_manager: Some(RESTORE_MANAGER.to_owned()), ..PatchParams::default() };
        self.put_back(by, id, api.patch(&id.name, &params, &Patch::Strategic(patch))).await.map(drop)
    }

    /// Gives up every field that we own by an apply. What nobody else owns goes with it: our notes.
    pub(super) async fn release(&self, by: Undoer, id: &WorkloadId, uid: &str) -> Result<(), WriteError> {
        let resource = resource(id.kind);
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": id.name, "namespace": id.namespace, "uid": uid},
        });
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &id.namespace, &resource);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.put_back(by, id, api.patch(&id.name, &params, &Patch::Apply(patch))).await.map(drop)
    }

    /// Sets our finalizer on a policy, or takes it away. Others' finalizers stay.
    pub(super) async fn finalizer(&self, policy: &PolicyId, uid: &str, is_set: bool) -> Result<(), WriteError> {
        let resource = ApiResource::erase::<OptimizationPolicy>(&());
        let mut patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": policy.name, "namespace": policy.namespace, "uid": uid},
        });
        if is_set {
            patch["metadata"]["finalizers"] = json!([notes::FINALIZER]);
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &policy.namespace, &resource);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.bounded(api.patch(&policy.name, &params, &Patch::Apply(patch))).await?;
        let is_left = applied.finalizers().iter().any(|finalizer| finalizer == notes::FINALIZER);
        if is_set || !is_left {
            return Ok(());
        }
        // It is somebody else's too, as in a policy that was put back from a backup: an apply leaves it to them.
        let others: Vec<_> = applied.finalizers().iter().filter(|finalizer| *finalizer != notes::FINALIZER).collect();
        let version = applied.metadata.resource_version.as_ref();
        let patch = json!({"metadata": {"uid": uid, "resourceVersion": version, "finalizers": others}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.bounded(api.patch(&policy.name, &params, &Patch::Merge(patch))).await.map(drop)
    }

    /// Deletes a policy; one that is gone is no error.
    pub(super) async fn delete_policy(&self, policy: &PolicyId, uid: &str) -> Result<(), WriteError> {
        let resource = ApiResource::erase::<OptimizationPolicy>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &policy.namespace, &resource);
        let params =
            DeleteParams::default().preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        match self.bounded(api.delete(&policy.name, &params)).await {
            Ok(_) | Err(WriteError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Merges a policy's status. A list is replaced as a whole.
    pub(super) async fn status(&self, policy: &PolicyId, uid: &str, status: &Value) -> Result<(), WriteError> {
        let patch = json!({"metadata": {"uid": uid}, "status": status});
        let resource = ApiResource::erase::<OptimizationPolicy>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &policy.namespace, &resource);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.bounded(api.patch_status(&policy.name, &params, &Patch::Merge(patch))).await.map(drop)
    }

    /// Sends one call that changes pods or workloads, if no brake is on in this instant.
    async fn change<T>(
        &self,
        subject: Subject<'_>,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, WriteError> {
        let Subject { policy, workload } = subject;
        self.shared.with(|cluster| may_write(cluster, self.dry_run, policy, workload))?;
        self.bounded(call).await
    }

    /// Sends one call that puts back what was there before; for a deleted policy only if no brake is on in this instant.
    async fn put_back<T>(
        &self,
        by: Undoer,
        workload: &WorkloadId,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, WriteError> {
        if by == Undoer::Deletion {
            self.shared.with(|cluster| may_put_back(cluster, self.dry_run, workload))?;
        }
        self.bounded(call).await
    }

    /// Sends one call, if we may, and waits for its answer no longer than the deadline.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, WriteError> {
        if self.stopping.is_cancelled() {
            return Err(WriteError::Stopping);
        }
        if !planted(103) && !self.leadership.covers(Instant::now() + self.deadline + LEASE_MARGIN) {
            return Err(WriteError::NotLeader);
        }
        match timeout(self.deadline, call).await {
            Ok(answer) => answer.map_err(classify),
            Err(_) => Err(WriteError::Unknown(format!("the API server did not answer within {:?}", self.deadline))),
        }
    }
}

#[async_trait::async_trait]
impl EventWriter for Writer {
    async fn create(&self, event: &Event) -> Result<(), String> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        self.bounded(api.create(&PostParams::default(), event)).await.map(drop).map_err(|error| error.to_string())
    }

    async fn repeat(&self, namespace: &str, name: &str, series: Value) -> Result<(), String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(json!({ "series": series }));
        self.bounded(api.patch(name, &PatchParams::default(), &patch))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// Reads a lease; the caller bounds the time.
pub(super) async fn read_lease(client: &Client, namespace: &str, name: &str) -> Result<Option<Lease>, WriteError> {
    Api::namespaced(client.clone(), namespace).get_opt(name).await.map_err(classify)
}

/// Creates a lease without, replaces one with a resourceVersion; the caller bounds the time.
pub(super) async fn write_lease(client: &Client, namespace: &str, lease: &Lease) -> Result<Lease, WriteError> {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let name = lease.metadata.name.as_deref().unwrap_or_default();
    let written = match lease.metadata.resource_version {
        Some(_) => api.replace(name, &PostParams::default(), lease).await,
        None => api.create(&PostParams::default(), lease).await,
    };
    written.map_err(classify)
}

/// The service account in `namespace` that the API server knows us as, to own what we create; the caller bounds the time.
pub(super) async fn own_account(client: &Client, namespace: &str) -> Result<Option<OwnerReference>, WriteError> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await.map_err(classify)?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    let account = user.username.as_deref().and_then(|name| name.strip_prefix("system:serviceaccount:"));
    let Some((within, name)) = account.and_then(|account| account.split_once(':')) else { return Ok(None) };
    let owner = |uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        uid,
        ..OwnerReference::default()
    };
    // An owner is of the same namespace, or the object is collected at once.
    Ok(user.uid.filter(|_| within == namespace).map(owner))
}

/// `containers` of a pod spec with requests, and limits only where they are ours to set.
fn containers(containers: &[ContainerResources], with_limits: impl Fn(&str) -> bool) -> Vec<Value> {
    let list = |cpu: Option<String>, memory: Option<String>| {
        let named = [("cpu", cpu), ("memory", memory)];
        named
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))))
            .collect::<Map<_, _>>()
    };
    let one = |container: &ContainerResources| {
        let (requests, limits) = (container.requests, container.limits);
        let mut resources = Map::new();
        resources.insert(
            "requests".into(),
            list(requests.cpu.map(|c| c.to_string()), requests.memory.map(|m| m.to_string())).into(),
        );
        if with_limits(&container.name) {
            let limits = list(limits.cpu.map(|c| c.to_string()), limits.memory.map(|m| m.to_string()));
            resources.insert("limits".into(), limits.into());
        }
        json!({"name": container.name, "resources": resources})
    };
    containers.iter().map(one).collect()
}

/// Which object a patch is meant for, and in which state.
fn identity(uid: &str, resource_version: &str) -> Value {
    let mut identity = json!({"uid": uid, "resourceVersion": resource_version});
    for (number, field) in [(101, "resourceVersion"), (102, "uid")] {
        if planted(number) {
            identity[field] = Value::Null;
        }
    }
    identity
}

/// The API resource of a kind that we change.
pub(super) fn resource(kind: WorkloadKind) -> ApiResource {
    match kind {
        WorkloadKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        WorkloadKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        _ => ApiResource::erase::<Deployment>(&()),
    }
}
