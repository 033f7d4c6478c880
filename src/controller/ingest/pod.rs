//! What decisions need of a pod.

use super::{controller, life};
use crate::controller::cluster::Pod;
use crate::controller::notes;
use crate::decide::{PodContainer, PodFacts, ResizeState};
use crate::quantity::{Bytes, Millicores, QuantityError};
use crate::workload::{ContainerResources, Resources};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod as ApiPod, PodSpec, PodStatus};

/// A pod that a ReplicaSet, StatefulSet or DaemonSet controls.
pub(in crate::controller) fn pod(object: &ApiPod) -> Option<Pod> {
    let owner = controller(&object.metadata)
        .filter(|owner| matches!(owner.kind.as_str(), "ReplicaSet" | "StatefulSet" | "DaemonSet"))?
        .uid
        .clone();
    let ended = matches!(phase(object.status.as_ref()), "Succeeded" | "Failed");
    Some(Pod {
        owner,
        held: notes::held(object.metadata.annotations.as_ref()),
        running: !ended && object.metadata.deletion_timestamp.is_none(),
        memory: life::memory(object),
        facts: facts(object).map_err(|error| error.to_string()),
    })
}

fn phase(status: Option<&PodStatus>) -> &str {
    status.and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn facts(object: &ApiPod) -> Result<PodFacts, QuantityError> {
    let spec = object.spec.as_ref();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let status = object.status.as_ref();
    let containers: Vec<PodContainer> = containers.iter().map(|c| container(c, status)).collect::<Result<_, _>>()?;
    let init = spec.and_then(|spec| spec.init_containers.as_ref());
    Ok(PodFacts {
        name: object.metadata.name.clone().unwrap_or_default(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
        ready: condition(status, "Ready").is_some_and(|(ready, _, _)| ready),
        node: spec.and_then(|spec| spec.node_name.clone()),
        resize: resize_state(status, &containers)?,
        pod_level_resources: spec.is_some_and(has_own_resources),
        containers,
        beside: beside(spec)?,
        init_containers: init.into_iter().flatten().map(ContainerResources::of).collect::<Result<_, _>>()?,
        life: life::pod(object),
    })
}

/// Native sidecars run beside the containers; the overhead is the runtime class's.
fn beside(spec: Option<&PodSpec>) -> Result<Resources, QuantityError> {
    let mut sum = Resources::of(spec.and_then(|spec| spec.overhead.as_ref()))?;
    let init = spec.and_then(|spec| spec.init_containers.as_ref());
    for sidecar in init.into_iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always")) {
        let requests = ContainerResources::of(sidecar)?.requests;
        sum.cpu = requests.cpu.map(|cpu| Millicores(cpu.0.saturating_add(sum.cpu.unwrap_or_default().0))).or(sum.cpu);
        sum.memory =
            requests.memory.map(|m| Bytes(m.0.saturating_add(sum.memory.unwrap_or_default().0))).or(sum.memory);
    }
    Ok(sum)
}

fn has_own_resources(spec: &PodSpec) -> bool {
    spec.resources.as_ref().is_some_and(|r| {
        r.requests.as_ref().is_some_and(|list| !list.is_empty())
            || r.limits.as_ref().is_some_and(|list| !list.is_empty())
    })
}

fn container(container: &Container, status: Option<&PodStatus>) -> Result<PodContainer, QuantityError> {
    let restarts = |resource: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|policy| policy.resource_name == resource && policy.restart_policy == "RestartContainer")
    };
    Ok(PodContainer {
        resources: ContainerResources::of(container)?,
        cpu_restarts: restarts("cpu"),
        memory_restarts: restarts("memory"),
        life: life::container(status, &container.name),
    })
}

/// Status, reason and message of one of the pod's conditions.
fn condition<'a>(status: Option<&'a PodStatus>, type_: &str) -> Option<(bool, &'a str, &'a str)> {
    let condition = status?.conditions.iter().flatten().find(|condition| condition.type_ == type_)?;
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    Some((condition.status == "True", text(&condition.reason), text(&condition.message)))
}

/// Conditions say what is pending; without any, the kubelet is done when it reports what `spec` says.
fn resize_state(status: Option<&PodStatus>, containers: &[PodContainer]) -> Result<ResizeState, QuantityError> {
    if let Some((true, reason, message)) = condition(status, "PodResizePending") {
        return Ok(match reason {
            "Infeasible" => ResizeState::Infeasible(message.to_owned()),
            _ => ResizeState::Deferred,
        });
    }
    if let Some((true, _, _)) = condition(status, "PodResizeInProgress") {
        return Ok(ResizeState::InProgress);
    }
    for reported in status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten() {
        if !actuated(reported, containers)? {
            return Ok(ResizeState::InProgress);
        }
    }
    Ok(ResizeState::Actuated)
}

/// Kubelets that report no resources know no resize, so that nothing can be under way.
fn actuated(reported: &ContainerStatus, containers: &[PodContainer]) -> Result<bool, QuantityError> {
    let Some(resources) = reported.resources.as_ref() else { return Ok(true) };
    let Some(wanted) = containers.iter().find(|c| c.resources.name == reported.name) else { return Ok(true) };
    let same = |wanted: Resources, got: Resources| {
        got.cpu.is_none_or(|cpu| Some(cpu) == wanted.cpu)
            && got.memory.is_none_or(|memory| Some(memory) == wanted.memory)
    };
    Ok(same(wanted.resources.requests, Resources::of(resources.requests.as_ref())?)
        && same(wanted.resources.limits, Resources::of(resources.limits.as_ref())?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // a test that panics has failed; json! makes values
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(status: Value) -> ResizeState {
        let object = json!({
            "metadata": {"name": "web-1", "uid": "u", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "o", "controller": true}]},
            "spec": {"containers": [{"name": "web", "resources": {"requests": {"cpu": "200m", "memory": "64Mi"}}}]},
            "status": status,
        });
        pod(&serde_json::from_value(object).unwrap()).unwrap().facts.unwrap().resize
    }

    fn reported(cpu: &str) -> Value {
        json!([{"name": "web", "ready": true, "restartCount": 0, "image": "i", "imageID": "", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}])
    }

    #[test]
    fn a_resize_is_done_when_the_kubelet_reports_what_the_spec_says() {
        assert_eq!(read(json!({"containerStatuses": reported("0.2")})), ResizeState::Actuated);
        assert_eq!(read(json!({"containerStatuses": reported("100m")})), ResizeState::InProgress);
        assert_eq!(read(json!({})), ResizeState::Actuated, "a kubelet that reports no resources");
    }

    #[test]
    fn conditions_come_before_the_reported_resources() {
        let with = |type_: &str, reason: &str| json!({"containerStatuses": reported("200m"), "conditions": [{"type": type_, "status": "True", "reason": reason, "message": "m"}]});
        assert_eq!(read(with("PodResizePending", "Infeasible")), ResizeState::Infeasible("m".into()));
        assert_eq!(read(with("PodResizePending", "Deferred")), ResizeState::Deferred);
        assert_eq!(read(with("PodResizeInProgress", "")), ResizeState::InProgress);
    }

    #[test]
    fn pods_without_a_workload_controller_are_not_kept() {
        let job = json!({"metadata": {"name": "j", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "o", "controller": true}]}});
        assert!(pod(&serde_json::from_value(job).unwrap()).is_none());
        assert!(pod(&ApiPod::default()).is_none());
    }
}
