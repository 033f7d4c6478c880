//! What the real server does to an object before it validates it: canonical quantities and defaults.
//!
//! What it may not know: who writes, and what was there before.
//! Invariant: idempotent; only built-in kinds are touched here (custom ones by their CRD).

use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::pods::qos_class;
use crate::json::{list_at_mut, map_at, object_mut, set, set_default, str_at};
use crate::quantity::Quantity;

/// The pointer to the pod spec inside objects of this kind.
pub(crate) fn pod_spec_pointer(kind: &Kind) -> Option<&'static str> {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => Some("/spec"),
        ("batch", "cronjobs") => Some("/spec/jobTemplate/spec/template/spec"),
        _ if kind.has_template() => Some("/spec/template/spec"),
        _ => None,
    }
}

/// Canonical quantities and defaults.
pub(crate) fn normalise(kind: &Kind, object: &mut Value) {
    if kind.custom {
        return;
    }
    crate::json::drop_nulls(object);
    if let Some(spec) = pod_spec_pointer(kind).and_then(|pointer| object.pointer_mut(pointer)) {
        pod_spec_defaults(spec);
    }
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod_defaults(object),
        ("", "namespaces") => namespace_defaults(object),
        ("", "nodes") => {
            for list in ["capacity", "allocatable"] {
                canonical_map(object.pointer_mut(&format!("/status/{list}")));
            }
        }
        ("", "resourcequotas") => canonical_map(object.pointer_mut("/spec/hard")),
        ("", "limitranges") => limit_range_defaults(object),
        ("apps", plural) => workload_defaults(plural, object),
        ("autoscaling", _) => set_default(object, &["spec", "minReplicas"], 1),
        _ => {}
    }
}

/// Canonical quantities only: an applied configuration must not own fields that it does not list.
pub(crate) fn normalise_config(kind: &Kind, config: &mut Value) {
    if kind.custom {
        return;
    }
    crate::json::drop_nulls(config);
    let Some(spec) = pod_spec_pointer(kind).and_then(|pointer| config.pointer_mut(pointer)) else {
        return;
    };
    for list in super::pods::CONTAINER_LISTS {
        for container in list_at_mut(spec, &format!("/{list}")).into_iter().flatten() {
            for which in ["requests", "limits"] {
                canonical_map(container.pointer_mut(&format!("/resources/{which}")));
            }
        }
    }
}

/// Rewrites each value of a resource list in its canonical spelling; bad ones stay for validation.
fn canonical_map(list: Option<&mut Value>) {
    for value in list.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        if let Some(quantity) = Quantity::from_json(value) {
            *value = Value::String(quantity.canonical());
        }
    }
}

fn pod_spec_defaults(spec: &mut Value) {
    set_default(spec, &["restartPolicy"], "Always");
    set_default(spec, &["dnsPolicy"], "ClusterFirst");
    set_default(spec, &["terminationGracePeriodSeconds"], 30);
    set_default(spec, &["schedulerName"], "default-scheduler");
    set_default(spec, &["securityContext"], json!({}));
    for which in ["requests", "limits"] {
        canonical_map(spec.pointer_mut(&format!("/resources/{which}")));
    }
    for list in super::pods::CONTAINER_LISTS {
        let containers = list_at_mut(spec, &format!("/{list}"));
        containers.into_iter().flatten().for_each(container_defaults);
    }
}

fn container_defaults(container: &mut Value) {
    if !container.is_object() {
        return;
    }
    set_default(container, &["resources"], json!({}));
    for which in ["requests", "limits"] {
        canonical_map(container.pointer_mut(&format!("/resources/{which}")));
        if map_at(container, &format!("/resources/{which}")).is_some_and(Map::is_empty) {
            crate::json::remove(container, &["resources", which]);
        }
    }
    if str_at(container, "/image").is_empty() {
        return;
    }
    let image = str_at(container, "/image");
    let tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let latest = !tagged || image.ends_with(":latest");
    let pull = if latest { "Always" } else { "IfNotPresent" };
    set_default(container, &["imagePullPolicy"], pull);
    set_default(container, &["terminationMessagePath"], "/dev/termination-log");
    set_default(container, &["terminationMessagePolicy"], "File");
    for port in list_at_mut(container, "/ports").into_iter().flatten() {
        set_default(port, &["protocol"], "TCP");
    }
}

/// Limits without requests become requests, in pods only: templates keep what they say.
fn pod_defaults(pod: &mut Value) {
    for list in super::pods::CONTAINER_LISTS {
        for container in list_at_mut(pod, &format!("/spec/{list}")).into_iter().flatten() {
            let limits = map_at(container, "/resources/limits").cloned();
            for (name, limit) in limits.into_iter().flatten() {
                set_default(container, &["resources", "requests", &name], limit);
            }
        }
    }
    set_default(pod, &["spec", "enableServiceLinks"], true);
    set_default(pod, &["status", "phase"], "Pending");
    let class = qos_class(pod.get("spec").unwrap_or(&Value::Null));
    set_default(pod, &["status", "qosClass"], class);
}

fn namespace_defaults(namespace: &mut Value) {
    let name = str_at(namespace, "/metadata/name").to_owned();
    set(namespace, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
    set_default(namespace, &["spec", "finalizers"], json!(["kubernetes"]));
    set_default(namespace, &["status", "phase"], "Active");
}

fn limit_range_defaults(range: &mut Value) {
    for limit in list_at_mut(range, "/spec/limits").into_iter().flatten() {
        for part in ["default", "defaultRequest", "max", "min", "maxLimitRequestRatio"] {
            canonical_map(limit.get_mut(part));
        }
        // As SetDefaults_LimitRangeItem: max → default → defaultRequest, min → defaultRequest.
        if str_at(limit, "/type") == "Container" {
            fill(limit, "max", "default");
            fill(limit, "default", "defaultRequest");
            fill(limit, "min", "defaultRequest");
        }
    }
}

fn fill(limit: &mut Value, from: &str, to: &str) {
    for (name, value) in map_at(limit, &format!("/{from}")).cloned().into_iter().flatten() {
        set_default(limit, &[to, &name], value);
    }
}

fn workload_defaults(plural: &str, object: &mut Value) {
    object_mut(object, &["spec"]);
    if plural != "daemonsets" {
        set_default(object, &["spec", "replicas"], 1);
    }
    if plural != "replicasets" {
        set_default(object, &["spec", "revisionHistoryLimit"], 10);
    }
    match plural {
        "deployments" => deployment_defaults(object),
        "statefulsets" => {
            set_default(object, &["spec", "podManagementPolicy"], "OrderedReady");
            set_default(object, &["spec", "updateStrategy", "type"], "RollingUpdate");
            if str_at(object, "/spec/updateStrategy/type") == "RollingUpdate" {
                set_default(object, &["spec", "updateStrategy", "rollingUpdate", "partition"], 0);
            }
        }
        "daemonsets" => {
            set_default(object, &["spec", "updateStrategy", "type"], "RollingUpdate");
            if str_at(object, "/spec/updateStrategy/type") == "RollingUpdate" {
                let path = ["spec", "updateStrategy", "rollingUpdate"];
                set_default(object, &[path[0], path[1], path[2], "maxUnavailable"], 1);
                set_default(object, &[path[0], path[1], path[2], "maxSurge"], 0);
            }
        }
        _ => {}
    }
}

fn deployment_defaults(object: &mut Value) {
    set_default(object, &["spec", "progressDeadlineSeconds"], 600);
    set_default(object, &["spec", "strategy", "type"], "RollingUpdate");
    if str_at(object, "/spec/strategy/type") == "RollingUpdate" {
        for bound in ["maxSurge", "maxUnavailable"] {
            set_default(object, &["spec", "strategy", "rollingUpdate", bound], "25%");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::Registry;
    use super::*;

    #[test]
    fn quantities_are_stored_in_their_canonical_spelling() {
        let kind = Registry::new().find("apps", "v1", "deployments").unwrap();
        let mut object = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "app", "image": "a:1", "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}}}]}}}});
        normalise(&kind, &mut object);
        assert_eq!(
            object.pointer("/spec/template/spec/containers/0/resources/requests"),
            Some(&json!({"cpu": "500m", "memory": "1Gi"}))
        );
    }

    #[test]
    fn limits_become_requests_in_pods_but_not_in_templates() {
        let registry = Registry::new();
        let containers = json!([{"name": "app", "image": "a:1", "resources": {"limits": {"cpu": "1"}}}]);
        let mut pod = json!({"spec": {"containers": containers}});
        normalise(&registry.find("", "v1", "pods").unwrap(), &mut pod);
        assert_eq!(str_at(&pod, "/spec/containers/0/resources/requests/cpu"), "1");
        let mut set = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        normalise(&registry.find("apps", "v1", "statefulsets").unwrap(), &mut set);
        let template = "/spec/template/spec/containers/0/resources/requests";
        assert_eq!(set.pointer(template), None);
    }
}
