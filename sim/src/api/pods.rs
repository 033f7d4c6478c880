//! What the API server and the kubelet both compute from a pod: QoS class, requests, containers.
//!
//! What it may not know: the store, nodes, time.
//! Invariant: pure functions of one pod, with the rules of `pkg/apis/core/helper/qos` and
//! `component-helpers/resource`.

use serde_json::Value;

use crate::json::{list_at, list_at_mut, set, str_at};
use crate::quantity::Quantity;

/// The two resources that can be resized.
pub(crate) const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// The container lists of a pod spec, in the order of QoS and of validation.
pub(crate) const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

/// One quantity of a container's `requests` or `limits`.
pub(crate) fn resource(container: &Value, which: &str, name: &str) -> Option<Quantity> {
    Quantity::from_json(container.get("resources")?.get(which)?.get(name)?)
}

/// Whether an init container keeps running beside the others.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    str_at(container, "/restartPolicy") == "Always"
}

/// Whether a pod spec names resources of its own, beside those of its containers.
pub(crate) fn has_own_resources(spec: &Value) -> bool {
    ["requests", "limits"].iter().any(|which| RESIZABLE.iter().any(|name| resource(spec, which, name).is_some()))
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from the pod's own resources where it has any, else its containers'.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    let own = has_own_resources(spec).then_some(spec);
    let lists = CONTAINER_LISTS.iter().filter(|_| own.is_none());
    let containers = || own.into_iter().chain(lists.clone().flat_map(|list| list_at(spec, &format!("/{list}"))));
    let positive =
        |container: &Value, which, name| resource(container, which, name).filter(|quantity| quantity.nanos() > 0);
    let any = containers().any(|container| {
        RESIZABLE.iter().any(|name| ["requests", "limits"].iter().any(|w| positive(container, w, name).is_some()))
    });
    if !any {
        return "BestEffort";
    }
    let guaranteed = containers().all(|container| {
        RESIZABLE.iter().all(|name| {
            let limit = positive(container, "limits", name);
            let request = positive(container, "requests", name).or(limit);
            limit.is_some() && limit.map(Quantity::nanos) == request.map(Quantity::nanos)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

/// What a pod counts for of one resource; zero where nothing in it names the resource.
pub(crate) fn total(spec: &Value, which: &str, name: &str) -> Quantity {
    sum(spec, which, name).unwrap_or(Quantity::whole(0))
}

/// What a pod counts for of one resource, where it names it: its own `resources`, else its containers'.
pub(crate) fn sum(spec: &Value, which: &str, name: &str) -> Option<Quantity> {
    let own = resource(spec, which, name).filter(|_| RESIZABLE.contains(&name));
    own.or_else(|| sum_of_containers(spec, which, name))
}

/// The most that a pod's containers have at the same time: an init container runs beside the sidecars before it.
pub(crate) fn sum_of_containers(spec: &Value, which: &str, name: &str) -> Option<Quantity> {
    let of = |container: &Value| resource(container, which, name);
    let add = |a: Option<Quantity>, b: Option<Quantity>| match (a, b) {
        (Some(a), Some(b)) => Some(a.plus(b)),
        (a, b) => a.or(b),
    };
    let (mut sidecars, mut starting) = (None, None::<Quantity>);
    for container in list_at(spec, "/initContainers") {
        let now = add(of(container), sidecars);
        if is_sidecar(container) {
            sidecars = now;
        }
        starting = larger(starting, now);
    }
    let running = list_at(spec, "/containers").iter().map(of).fold(None, add);
    larger(add(running, sidecars), starting)
}

/// The pod's spec where each container has the larger of what it asks for and what its status says it has.
pub(crate) fn spec_in_force(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    for (list, statuses) in CONTAINER_LISTS.into_iter().zip(["containerStatuses", "initContainerStatuses"]) {
        let statuses = list_at(pod, &format!("/status/{statuses}"));
        for container in list_at_mut(&mut spec, &format!("/{list}")).into_iter().flatten() {
            let Some(status) = statuses.iter().find(|s| str_at(s, "/name") == str_at(container, "/name")) else {
                continue;
            };
            for (which, name) in ["requests", "limits"].iter().flat_map(|which| RESIZABLE.map(|name| (*which, name))) {
                let (asked, has) = (resource(container, which, name), resource(status, which, name));
                if let (Some(asked), Some(has)) = (asked, has)
                    && has.nanos() > asked.nanos()
                {
                    set(container, &["resources", which, name], has.canonical());
                }
            }
        }
    }
    spec
}

fn larger(a: Option<Quantity>, b: Option<Quantity>) -> Option<Quantity> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.nanos() > a.nanos() { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Whether a pod has ended and holds nothing any more.
pub(crate) fn is_terminal(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&str_at(pod, "/status/phase"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn qos_class_follows_the_documented_rules() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, wanted) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": both}), "Guaranteed"),
            (json!({"limits": both, "requests": {"cpu": "1000m", "memory": "1024Mi"}}), "Guaranteed"),
            (json!({"limits": both, "requests": {"cpu": "500m"}}), "Burstable"),
            (json!({"limits": {"cpu": "1"}}), "Burstable"),
        ] {
            let spec = json!({"containers": [{"name": "app", "resources": resources}]});
            assert_eq!(qos_class(&spec), wanted, "{resources}");
        }
    }
}
