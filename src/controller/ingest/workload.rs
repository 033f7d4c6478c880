//! What decisions need of a Deployment, StatefulSet or DaemonSet.

use super::{object_key, progress, replicas, rollout};
use crate::controller::FIELD_MANAGER;
use crate::controller::cluster::Workload;
use crate::controller::notes;
use crate::decide::{Progress, Replicas, Rollout, Size};
use crate::workload::{ContainerResources, Resources, WorkloadId, WorkloadKind};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use std::collections::BTreeSet;

pub(in crate::controller) fn deployment(object: Deployment) -> Workload {
    let progress = progress::deployment(&object);
    let spec = object.spec;
    let rollout = rollout::deployment(object.metadata.generation, &spec, object.status.as_ref());
    let replicas = replicas::deployment(&spec);
    Workload { progress, ..workload(WorkloadKind::Deployment, object.metadata, &spec.template, rollout, replicas) }
}

pub(in crate::controller) fn stateful_set(object: StatefulSet) -> Workload {
    let progress = progress::stateful_set(&object);
    let spec = object.spec;
    let rollout = rollout::stateful_set(object.metadata.generation, &spec, object.status.as_ref());
    let replicas = replicas::stateful_set(&spec);
    Workload { progress, ..workload(WorkloadKind::StatefulSet, object.metadata, &spec.template, rollout, replicas) }
}

pub(in crate::controller) fn daemon_set(object: DaemonSet) -> Workload {
    let progress = progress::daemon_set(&object);
    let spec = object.spec;
    let rollout = rollout::daemon_set(object.metadata.generation, &spec, object.status.as_ref());
    let replicas = replicas::daemon_set(&spec, object.status.as_ref());
    Workload { progress, ..workload(WorkloadKind::DaemonSet, object.metadata, &spec.template, rollout, replicas) }
}

fn workload(
    kind: WorkloadKind,
    metadata: ObjectMeta,
    template: &PodTemplateSpec,
    rollout: Rollout,
    replicas: Replicas,
) -> Workload {
    let (namespace, name) = object_key(&metadata);
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
    let applied_cause = annotation(notes::CAUSE).and_then(|text| text.parse().ok());
    let applied = annotation(notes::REQUESTS).map(|text| notes::parse_requests(text)).unwrap_or_default();
    let applied_at = annotation(notes::CHANGED_AT).and_then(|text| text.parse().ok());
    let original = annotation(notes::ORIGINAL_REQUESTS).cloned();
    let template = containers(template);
    let reverted_by = template.as_ref().ok().and_then(|template| {
        let container = reverted(template, &applied)?;
        Some(manager_of(metadata.managed_fields.as_deref().unwrap_or_default(), container))
    });
    let limits_are_ours = limits_of(metadata.managed_fields.as_deref().unwrap_or_default());
    Workload {
        id: WorkloadId { namespace, kind, name },
        limits_are_ours,
        held: notes::held(metadata.annotations.as_ref()),
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        created: metadata.creation_timestamp.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        deleting: metadata.deletion_timestamp.is_some(),
        template,
        rollout,
        replicas,
        reverted_by,
        applied,
        applied_at,
        applied_cause,
        progress: Progress::default(),
        original,
    }
}

fn containers(template: &PodTemplateSpec) -> Result<Vec<ContainerResources>, String> {
    let containers = template.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    containers
        .iter()
        .map(|c| ContainerResources::of(c).map_err(|error| format!("container {}: {error}", c.name)))
        .collect()
}

/// A container whose requests are not those that we applied. One that was removed from the template is nobody's revert.
fn reverted<'a>(template: &'a [ContainerResources], applied: &[Size]) -> Option<&'a str> {
    let differs = |now: Resources, ours: Resources| {
        ours.cpu.is_some_and(|cpu| now.cpu != Some(cpu)) || ours.memory.is_some_and(|memory| now.memory != Some(memory))
    };
    let mut found = template.iter().filter(|container| {
        applied.iter().any(|size| size.container == container.name && differs(container.requests, size.requests))
    });
    found.next().map(|container| container.name.as_str())
}

/// The containers whose limits we own by an apply.
fn limits_of(managed: &[ManagedFieldsEntry]) -> BTreeSet<String> {
    let ours = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
    };
    let fields = managed.iter().filter(ours).filter_map(|entry| entry.fields_v1.as_ref());
    let containers =
        fields.filter_map(|fields| fields.0.pointer("/f:spec/f:template/f:spec/f:containers")?.as_object());
    let with_limits = containers.flatten().filter(|(_, fields)| fields.pointer("/f:resources/f:limits").is_some());
    with_limits.filter_map(|(key, _)| name_in(key)).collect()
}

/// The name in `k:{"name":"web"}`.
fn name_in(key: &str) -> Option<String> {
    let key: serde_json::Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    key.get("name")?.as_str().map(str::to_owned)
}

/// Whoever else owns the container's requests; the latest of several.
fn manager_of(managed: &[ManagedFieldsEntry], container: &str) -> String {
    let path = [
        "f:spec",
        "f:template",
        "f:spec",
        "f:containers",
        &format!("k:{{\"name\":\"{container}\"}}"),
        "f:resources",
        "f:requests",
    ]
    .map(str::to_owned);
    let owns = |entry: &&ManagedFieldsEntry| {
        let mut at = entry.fields_v1.as_ref().map(|fields| &fields.0);
        for step in &path {
            at = at.and_then(|value| value.get(step));
        }
        at.is_some()
    };
    let others = managed.iter().filter(|entry| entry.manager.as_deref().is_some_and(|name| !OURS.contains(&name)));
    let latest = others.filter(owns).max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    latest.and_then(|entry| entry.manager.clone()).unwrap_or_else(|| "somebody else".to_owned())
}

/// Our own field managers.
const OURS: [&str; 2] = [crate::controller::FIELD_MANAGER, crate::controller::RESTORE_MANAGER];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // a test that panics has failed; json! makes values
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(requests: Value, note: &str) -> Workload {
        let owned = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:resources": {"f:requests": {"f:cpu": {}}}}}}}}});
        let object = json!({
            "metadata": {"namespace": "shop", "name": "web", "uid": "u", "generation": 1, "annotations": {"optipod.io/requests": note},
                "managedFields": [
                    {"manager": "optipod", "operation": "Apply", "fieldsV1": {}},
                    {"manager": "helm", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": owned},
                ]},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "web", "resources": {"requests": requests}}]}}},
        });
        deployment(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn requests_that_differ_from_our_note_were_taken_by_their_manager() {
        let note = r#"{"web":{"cpu":"200m"}}"#;
        assert_eq!(read(json!({"cpu": "0.2"}), note).reverted_by, None, "another spelling is the same request");
        assert_eq!(read(json!({"cpu": "100m"}), note).reverted_by.as_deref(), Some("helm"));
        assert_eq!(read(json!({"cpu": "100m"}), r#"{"gone":{"cpu":"200m"}}"#).reverted_by, None);
        assert_eq!(read(json!({"cpu": "100m"}), "").reverted_by, None);
    }

    #[test]
    fn limits_that_an_apply_of_ours_set_are_ours_to_keep() {
        let of = |manager: &str, operation: &str, list: &str| {
            let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"web\"}": {"f:resources": {list: {"f:cpu": {}}}}, "k:{\"name\":\"proxy\"}": {}}}}}});
            limits_of(&[ManagedFieldsEntry {
                manager: Some(manager.into()),
                operation: Some(operation.into()),
                fields_v1: Some(serde_json::from_value(fields).unwrap()),
                ..ManagedFieldsEntry::default()
            }])
        };
        assert_eq!(of("optipod", "Apply", "f:limits"), BTreeSet::from(["web".to_owned()]));
        let others =
            [("optipod", "Apply", "f:requests"), ("optipod", "Update", "f:limits"), ("helm", "Apply", "f:limits")];
        assert!(others.iter().all(|(manager, operation, list)| of(manager, operation, list).is_empty()));
    }

    #[test]
    fn resources_that_cannot_be_read_are_kept_as_a_reason() {
        assert!(read(json!({"cpu": "lots"}), "").template.unwrap_err().contains("container web"));
    }
}
