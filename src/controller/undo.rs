//! Putting back the requests from before OptiPod: what `optipod restore` does to one workload.
//!
//! [`template`] and [`pod`] say what has to be put back, from what our notes and the field managers tell; they are pure.
//! [`Undo`] does it. Invariant: only what we have set, and what nobody has changed since, is put back.

use super::FIELD_MANAGER;
use super::errors::WriteError;
use super::ingest;
use super::notes;
use super::writer::{RequestsBefore, Undoer, Writer, resource};
use crate::decide::{PodResize, Size};
use crate::quantity::QuantityError;
use crate::workload::{ContainerResources, Resources, WorkloadId, WorkloadKind};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ManagedFieldsEntry};
use kube::api::{Api, DynamicObject, ListParams, ResourceExt};
use kube::core::Selector;
use kube::{Client, Error};
use std::collections::BTreeSet;
use tokio::time::timeout;

/// A workload that changes again and again while we look is given up.
const TRIES: usize = 5;
/// Pods of one list.
const PAGE: u32 = 500;

/// One container's requests, put back or left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The pod, or none where it is the template.
    pub pod: Option<String>,
    /// The container.
    pub container: String,
    /// What it requested.
    pub from: Resources,
    /// What it requests now.
    pub to: Resources,
}

/// What was done to a workload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Undone {
    /// What was put back.
    pub restored: Vec<Restored>,
    /// What was left, each with the reason.
    pub left: Vec<String>,
}

/// Why a workload was not restored, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The API server refused, or did not answer.
    #[error("{what}: {cause}")]
    Call {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: String,
    },
    /// Nothing was sent: a brake is on, or we are no longer the one who acts.
    #[error("{0}")]
    Withheld(String),
    /// No such workload.
    #[error("there is no {0}")]
    Absent(WorkloadId),
    /// Deployments, StatefulSets and DaemonSets only.
    #[error("a {0} is never changed by OptiPod, so that there is nothing to restore")]
    Kind(WorkloadKind),
    /// Its resources are not quantities.
    #[error("its resources cannot be read: {0}")]
    Unreadable(#[from] QuantityError),
}

/// What the template gets back, and what of it somebody has changed since.
pub(super) fn template(
    now: &[ContainerResources],
    ours: &[Size],
    before: &[Size],
) -> (Vec<RequestsBefore>, Vec<String>) {
    let (mut back, mut left) = (Vec::new(), Vec::new());
    for size in ours {
        let Some(current) = now.iter().find(|container| container.name == size.container) else { continue };
        let original = before.iter().find(|before| before.container == size.container);
        let original = original.map(|before| before.requests).unwrap_or_default();
        let (cpu, memory) = (size.requests.cpu, size.requests.memory);
        let is_ours = Resources {
            cpu: cpu.filter(|cpu| current.requests.cpu == Some(*cpu)),
            memory: memory.filter(|memory| current.requests.memory == Some(*memory)),
        };
        let to = Resources {
            cpu: if is_ours.cpu.is_some() { original.cpu } else { current.requests.cpu },
            memory: if is_ours.memory.is_some() { original.memory } else { current.requests.memory },
        };
        if cpu.is_some() && to.cpu != original.cpu || memory.is_some() && to.memory != original.memory {
            left.push(format!("container {} of the template: its requests were changed since", size.container));
        }
        if to != current.requests {
            back.push(RequestsBefore { container: size.container.clone(), from: current.requests, to });
        }
    }
    (back, left)
}

/// What a pod that we resized gets back from its template. A request that the template lacks stays until the pod is
/// replaced: nothing can be removed in place.
pub(super) fn pod(
    pod: &Pod,
    template: &[ContainerResources],
) -> Result<(Option<PodResize>, Vec<String>), QuantityError> {
    let name = pod.name_any();
    let managed = pod.metadata.managed_fields.as_deref().unwrap_or_default();
    let (mut containers, mut left) = (Vec::new(), Vec::new());
    for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
        let now = ContainerResources::of(container)?;
        let Some(wanted) = template.iter().find(|wanted| wanted.name == now.name) else { continue };
        let owns = |list: &str, resource: &str| resized_by_us(managed, &now.name, list, resource);
        let mut after = now.clone();
        for (list, after, wanted) in
            [("f:limits", &mut after.limits, wanted.limits), ("f:requests", &mut after.requests, wanted.requests)]
        {
            if owns(list, "f:cpu") {
                after.cpu = wanted.cpu.or(after.cpu);
            }
            if owns(list, "f:memory") {
                after.memory = wanted.memory.or(after.memory);
            }
            if (owns(list, "f:cpu") && wanted.cpu.is_none()) || (owns(list, "f:memory") && wanted.memory.is_none()) {
                let list = list.trim_start_matches("f:");
                left.push(format!(
                    "pod {name}, container {}: {list} that the template lacks stay until the pod is replaced",
                    now.name
                ));
            }
        }
        if after != now {
            containers.push(after);
        }
    }
    let resize = (!containers.is_empty()).then(|| PodResize {
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        pod: name,
        containers,
    });
    Ok((resize, left))
}

/// Whether we set this resource through the pod's `resize` subresource last.
fn resized_by_us(managed: &[ManagedFieldsEntry], container: &str, list: &str, resource: &str) -> bool {
    let path = ["f:spec", "f:containers", &format!("k:{{\"name\":\"{container}\"}}"), "f:resources", list, resource];
    let ours = managed.iter().filter(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.subresource.as_deref() == Some("resize")
    });
    let mut fields = ours.filter_map(|entry| entry.fields_v1.as_ref());
    fields.any(|fields| path.iter().try_fold(&fields.0, |at, step| at.get(step)).is_some())
}

/// Restores workloads.
pub struct Undo {
    client: Client,
    writer: Writer,
    by: Undoer,
}

/// A workload as it is read for this.
struct Found {
    uid: String,
    resource_version: String,
    template: Vec<ContainerResources>,
    selector: LabelSelector,
    ours: Vec<Size>,
    before: Vec<Size>,
    /// We own fields by an apply.
    is_applied: bool,
}

impl Undo {
    /// Restores for a person, with the rights of `client`.
    pub fn new(client: Client) -> Self {
        let writer = Writer::of_a_person(client.clone());
        Self { client, writer, by: Undoer::Person }
    }

    /// Restores for a policy that is being deleted.
    pub(super) fn of_deletion(writer: Writer) -> Self {
        Self { client: writer.client.clone(), writer, by: Undoer::Deletion }
    }

    /// Puts the requests of a workload back: those of the template as our notes tell them, those of resized pods as the
    /// template has them. With `hold` the workload is marked first, so that OptiPod does not change it again.
    ///
    /// # Errors
    /// What could not be read or written; what was put back before that stays so, and asking again goes on.
    pub async fn workload(&self, id: &WorkloadId, hold: bool) -> Result<Undone, UndoError> {
        if !matches!(id.kind, WorkloadKind::Deployment | WorkloadKind::StatefulSet | WorkloadKind::DaemonSet) {
            return Err(UndoError::Kind(id.kind));
        }
        let mut undone = Undone::default();
        let found = self.restore_template(id, hold, &mut undone).await?;
        if undone.restored.is_empty() {
            self.restore_pods(id, &found, &mut undone).await?;
        }
        Ok(undone)
    }

    /// The strategic merge sets the values as another manager's, and only then we let go of ours: an apply that leaves
    /// fields out removes those that nobody else owns.
    async fn restore_template(&self, id: &WorkloadId, hold: bool, undone: &mut Undone) -> Result<Found, UndoError> {
        for attempt in 1..=TRIES {
            let found = self.find(id).await?;
            let (back, left) = template(&found.template, &found.ours, &found.before);
            if hold || !back.is_empty() {
                let written =
                    self.writer.restore_template(self.by, id, (&found.uid, &found.resource_version), hold, &back).await;
                match written {
                    Err(WriteError::Stale) if attempt < TRIES => continue,
                    written => written.map_err(|error| failed(format!("restoring {id}"), &error))?,
                }
            }
            if found.is_applied {
                let released = self.writer.release(self.by, id, &found.uid).await;
                released.map_err(|error| failed(format!("giving up the fields of {id}"), &error))?;
            }
            undone.restored.extend(back.iter().map(|back| Restored {
                pod: None,
                container: back.container.clone(),
                from: back.from,
                to: back.to,
            }));
            undone.left.extend(left);
            return Ok(found);
        }
        Err(call(format!("restoring {id}"), &WriteError::Stale))
    }

    async fn restore_pods(&self, id: &WorkloadId, found: &Found, undone: &mut Undone) -> Result<(), UndoError> {
        for name in self.pods(id, found).await? {
            for attempt in 1..=TRIES {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &id.namespace);
                // A list of one, for which the controller's right to list is enough.
                let one = ListParams::default().fields(&format!("metadata.name={name}"));
                let listed = self.read(format!("reading pod {name}"), api.list(&one)).await?;
                let Some(now) = listed.items.into_iter().next() else { break };
                let (resize, left) = pod(&now, &found.template)?;
                if let Some(resize) = resize {
                    match self.writer.resize_back(self.by, id, &resize).await {
                        Err(WriteError::Stale) if attempt < TRIES => continue,
                        Err(WriteError::Gone) => break,
                        Err(error) => return Err(failed(format!("resizing pod {name} back"), &error)),
                        Ok(()) => undone.restored.extend(of_pod(&now, &resize)?),
                    }
                }
                undone.left.extend(left);
                break;
            }
        }
        Ok(())
    }

    async fn find(&self, id: &WorkloadId) -> Result<Found, UndoError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &id.namespace, &resource(id.kind));
        let object = self.read(format!("reading {id}"), api.get_opt(&id.name)).await?;
        let object = object.ok_or_else(|| UndoError::Absent(id.clone()))?;
        let note = |key: &str| object.annotations().get(key).map(|text| notes::parse_requests(text));
        let of_spec = |field: &str| object.data.pointer(&format!("/spec/{field}")).cloned().unwrap_or_default();
        let unreadable = |error: serde_json::Error| call(format!("reading {id}"), &error);
        let pods: PodTemplateSpec = serde_json::from_value(of_spec("template")).map_err(unreadable)?;
        let containers = pods.spec.iter().flat_map(|spec| &spec.containers);
        let applied = |entry: &ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
        };
        Ok(Found {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            template: containers.map(ContainerResources::of).collect::<Result<_, _>>()?,
            selector: serde_json::from_value(of_spec("selector")).map_err(unreadable)?,
            ours: note(notes::REQUESTS).unwrap_or_default(),
            before: note(notes::ORIGINAL_REQUESTS).or(note(notes::PREVIOUS_REQUESTS)).unwrap_or_default(),
            is_applied: object.managed_fields().iter().any(applied),
        })
    }

    /// The names of the workload's pods.
    async fn pods(&self, id: &WorkloadId, found: &Found) -> Result<Vec<String>, UndoError> {
        let selector: Selector =
            found.selector.clone().try_into().map_err(|error| call(format!("the selector of {id}"), &error))?;
        let mut owners = BTreeSet::from([found.uid.clone()]);
        if id.kind == WorkloadKind::Deployment {
            let sets: Vec<ReplicaSet> = self.all(id, &selector, "listing ReplicaSets").await?;
            owners = sets.iter().filter(|set| is_of(&set.metadata, &owners)).filter_map(ResourceExt::uid).collect();
        }
        let pods: Vec<Pod> = self.all(id, &selector, "listing pods").await?;
        let running = pods.iter().filter(|pod| is_of(&pod.metadata, &owners));
        let running = running.filter(|object| ingest::pod(object).is_some_and(|pod| pod.running));
        Ok(running.map(ResourceExt::name_any).collect())
    }

    async fn all<K>(&self, id: &WorkloadId, selector: &Selector, what: &str) -> Result<Vec<K>, UndoError>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &id.namespace);
        let mut params = ListParams::default().labels_from(selector).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = self.read(format!("{what} of {id}"), api.list(&params)).await?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    async fn read<T>(&self, what: String, call_: impl Future<Output = Result<T, Error>>) -> Result<T, UndoError> {
        let deadline = self.writer.deadline;
        match timeout(deadline, call_).await {
            Ok(answer) => answer.map_err(|error| call(what, &error)),
            Err(_) => Err(call(what, &format!("the API server did not answer within {deadline:?}"))),
        }
    }
}

fn is_of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, owners: &BTreeSet<String>) -> bool {
    let mut controllers = metadata.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
    controllers.any(|owner| owners.contains(&owner.uid))
}

fn of_pod(before: &Pod, resize: &PodResize) -> Result<Vec<Restored>, QuantityError> {
    let containers = before.spec.iter().flat_map(|spec| &spec.containers);
    let changed = containers.filter_map(|container| {
        let after = resize.containers.iter().find(|after| after.name == container.name)?;
        let before = ContainerResources::of(container);
        Some(before.map(|before| Restored {
            pod: Some(resize.pod.clone()),
            container: container.name.clone(),
            from: before.requests,
            to: after.requests,
        }))
    });
    changed.collect()
}

fn failed(what: String, error: &WriteError) -> UndoError {
    if error.was_withheld() { UndoError::Withheld(error.to_string()) } else { call(what, error) }
}

fn call(what: String, cause: &impl ToString) -> UndoError {
    UndoError::Call { what, cause: cause.to_string() }
}
