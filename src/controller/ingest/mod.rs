//! From objects of the API to what we keep of them. Pure.
//!
//! Invariant: nothing that is cached holds managed fields, a whole spec or a whole status.

mod bounds;
mod life;
mod pod;
mod progress;
mod replicas;
mod rollout;
mod workload;

pub(super) use bounds::{limit_range, node, quota, vpa};
pub(super) use pod::pod;
pub(super) use workload::{daemon_set, deployment, stateful_set};

use super::cluster::{Autoscaler, Namespace, ObjectKey, PolicyObject, ReplicaSet};
use super::notes;
use crate::policy::{FieldError, OptimizationPolicy, Policy, PolicyId};
use k8s_openapi::api::apps::v1::ReplicaSet as ApiReplicaSet;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec, MetricTarget};
use k8s_openapi::api::core::v1::Namespace as ApiNamespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::{DeserializeGuard, PartialObjectMeta};

/// Namespace and name of an object.
pub(super) fn object_key(metadata: &ObjectMeta) -> ObjectKey {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

pub(super) fn policy_id(metadata: &ObjectMeta) -> PolicyId {
    let (namespace, name) = object_key(metadata);
    PolicyId { namespace, name }
}

/// A policy that cannot be decoded is kept with the reason, so that its owner learns of it.
pub(super) fn policy(object: DeserializeGuard<OptimizationPolicy>) -> PolicyObject {
    let (metadata, parsed) = match object.0 {
        Ok(policy) => {
            let parsed = Policy::resolve(&policy);
            (policy.metadata, parsed)
        }
        Err(invalid) => {
            let error = FieldError { field: "spec".to_owned(), message: invalid.error };
            (invalid.metadata, Err(vec![error]))
        }
    };
    PolicyObject {
        id: policy_id(&metadata),
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        deleting: metadata.deletion_timestamp.map(|time| time.0),
        kept: metadata.finalizers.iter().flatten().any(|finalizer| finalizer == notes::FINALIZER),
        parsed,
    }
}

/// A namespace's labels and whether it is held.
pub(super) fn namespace(object: PartialObjectMeta<ApiNamespace>) -> Namespace {
    let held = notes::held(object.metadata.annotations.as_ref());
    Namespace { labels: object.metadata.labels.unwrap_or_default(), held }
}

/// A ReplicaSet that a Deployment owns.
pub(super) fn replica_set(object: PartialObjectMeta<ApiReplicaSet>) -> Option<ReplicaSet> {
    let owner = controller(&object.metadata).filter(|owner| owner.kind == "Deployment")?.uid.clone();
    Some(ReplicaSet { uid: object.metadata.uid?, owner })
}

/// An autoscaler that scales on the utilization of CPU or memory; others do not depend on requests.
pub(super) fn autoscaler(object: HorizontalPodAutoscaler) -> Option<Autoscaler> {
    let spec = object.spec;
    let metrics = spec.metrics.unwrap_or_default();
    let reads = |resource: &str| metrics.iter().any(|metric| utilization(metric, resource));
    let (cpu, memory) = (reads("cpu"), reads("memory"));
    // Without metrics an autoscaler scales on CPU utilization, as the API server defaults it.
    let cpu = cpu || metrics.is_empty();
    (cpu || memory).then_some(Autoscaler {
        target_kind: spec.scale_target_ref.kind,
        target_name: spec.scale_target_ref.name,
        cpu,
        memory,
    })
}

fn utilization(metric: &MetricSpec, resource: &str) -> bool {
    let by = |name: &str, target: &MetricTarget| name == resource && target.type_ == "Utilization";
    metric.resource.as_ref().is_some_and(|m| by(&m.name, &m.target))
        || metric.container_resource.as_ref().is_some_and(|m| by(&m.name, &m.target))
}

/// The owner that controls an object.
fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // a test that panics has failed; json! makes values
mod tests {
    use super::*;
    use serde_json::json;

    fn hpa(metrics: serde_json::Value) -> Option<(bool, bool)> {
        let spec =
            json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "metrics": metrics});
        let object = serde_json::from_value(json!({"metadata": {"name": "h"}, "spec": spec})).unwrap();
        autoscaler(object).map(|hpa| (hpa.cpu, hpa.memory))
    }

    #[test]
    fn only_utilization_targets_depend_on_requests() {
        let target = |kind: &str| json!({"type": kind, "averageUtilization": 50});
        let resource =
            |name: &str, kind: &str| json!({"type": "Resource", "resource": {"name": name, "target": target(kind)}});
        let container = json!({"type": "ContainerResource", "containerResource": {"name": "memory", "container": "web", "target": target("Utilization")}});
        assert_eq!(hpa(json!([resource("cpu", "Utilization")])), Some((true, false)));
        assert_eq!(hpa(json!([resource("cpu", "AverageValue")])), None);
        assert_eq!(hpa(json!([resource("cpu", "AverageValue"), container])), Some((false, true)));
        assert_eq!(hpa(json!([])), Some((true, false)));
    }

    #[test]
    fn a_policy_that_cannot_be_decoded_keeps_its_name_and_says_why() {
        let object =
            json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u", "generation": 3}, "spec": {"mode": 7}});
        let kept = policy(serde_json::from_value(object).unwrap());
        assert_eq!((kept.id.to_string().as_str(), kept.uid.as_str()), ("ns/p", "u"));
        assert_eq!(kept.parsed.unwrap_err()[0].field, "spec");
    }
}
