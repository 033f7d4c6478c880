//! What decisions need of LimitRanges, quotas, nodes and VerticalPodAutoscalers.
//!
//! An amount that cannot be read bounds nothing here: the API server judges every write anyway.

use super::object_key;
use crate::controller::bounds::Vpa;
use crate::decide::{Counted, LimitRange, Quota, QuotaRow, Ratio, Resource, Scope};
use crate::quantity::{Bytes, Millicores};
use crate::workload::Resources;
use k8s_openapi::api::core::v1::{LimitRange as ApiLimitRange, LimitRangeItem, Node, ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::DynamicObject;
use std::collections::BTreeMap;
use std::sync::Arc;

type Amounts = Option<BTreeMap<String, Quantity>>;

fn amounts(list: &Amounts) -> Resources {
    let text = |name| Some(&list.as_ref()?.get(name)?.0);
    Resources {
        cpu: text("cpu").and_then(|text| text.parse().ok()),
        memory: text("memory").and_then(|text| text.parse().ok()),
    }
}

/// Those of its items that bound pods and containers, with the defaults that the API server derives.
pub(in crate::controller) fn limit_range(object: ApiLimitRange) -> Option<Vec<Arc<LimitRange>>> {
    let name = object_key(&object.metadata).1;
    let items = object.spec.map(|spec| spec.limits).unwrap_or_default();
    let items: Vec<_> = items.iter().filter_map(|item| limit_range_item(&name, item)).map(Arc::new).collect();
    (!items.is_empty()).then_some(items)
}

fn limit_range_item(name: &str, item: &LimitRangeItem) -> Option<LimitRange> {
    let scope = match item.type_.as_str() {
        "Container" => Scope::Container,
        "Pod" => Scope::Pod,
        _ => return None,
    };
    let (min, max) = (amounts(&item.min), amounts(&item.max));
    let or = |a: Resources, b: Resources| Resources { cpu: a.cpu.or(b.cpu), memory: a.memory.or(b.memory) };
    // As SetDefaults_LimitRangeItem: of containers only.
    let (default, default_request) = match scope {
        Scope::Pod => (Resources::default(), Resources::default()),
        Scope::Container => {
            let default = or(amounts(&item.default), max);
            (default, or(or(amounts(&item.default_request), default), min))
        }
    };
    let thousandths = |name| {
        let text = &item.max_limit_request_ratio.as_ref()?.get(name)?.0;
        text.parse::<Millicores>().ok().map(|ratio| ratio.0)
    };
    let ratio = Ratio { cpu: thousandths("cpu"), memory: thousandths("memory") };
    Some(LimitRange { name: name.to_owned(), scope, min, max, ratio, default, default_request })
}

/// A quota whose scopes take in all pods of workloads. One that counts some pods only, by their priority or otherwise, is
/// left to the API server.
pub(in crate::controller) fn quota(object: ResourceQuota) -> Option<Quota> {
    let name = object_key(&object.metadata).1;
    if !counts_all_pods(object.spec.as_ref()?) {
        return None;
    }
    let status = object.status?;
    let used = status.used.unwrap_or_default();
    let row = |(key, hard): (String, Quantity)| {
        let (counted, resource) = counted(&key)?;
        let read = |quantity: &Quantity| match resource {
            Resource::Cpu => quantity.0.parse::<Millicores>().ok().map(|cpu| cpu.0),
            Resource::Memory => quantity.0.parse::<Bytes>().ok().map(|memory| memory.0),
        };
        let (hard, used) = (read(&hard)?, read(used.get(&key)?)?);
        Some(QuotaRow { key, counted, resource, hard, used })
    };
    let rows: Vec<_> = status.hard.unwrap_or_default().into_iter().filter_map(row).collect();
    (!rows.is_empty()).then_some(Quota { name, rows })
}

/// Pods of Deployments, StatefulSets and DaemonSets have no deadline, and requests once they are sized.
fn counts_all_pods(spec: &ResourceQuotaSpec) -> bool {
    let selects =
        spec.scope_selector.as_ref().is_some_and(|s| s.match_expressions.as_ref().is_some_and(|all| !all.is_empty()));
    let all = |scope: &String| matches!(scope.as_str(), "NotTerminating" | "NotBestEffort");
    !selects && spec.scopes.iter().flatten().all(all)
}

fn counted(key: &str) -> Option<(Counted, Resource)> {
    Some(match key {
        "cpu" | "requests.cpu" => (Counted::Requests, Resource::Cpu),
        "memory" | "requests.memory" => (Counted::Requests, Resource::Memory),
        "limits.cpu" => (Counted::Limits, Resource::Cpu),
        "limits.memory" => (Counted::Limits, Resource::Memory),
        _ => return None,
    })
}

/// What a node can give to pods, where it says so.
#[allow(clippy::needless_pass_by_value)] // the shape that a watch takes
pub(in crate::controller) fn node(object: Node) -> Option<Resources> {
    let allocatable = amounts(&object.status?.allocatable);
    (allocatable.cpu.is_some() && allocatable.memory.is_some()).then_some(allocatable)
}

/// A VerticalPodAutoscaler, unless it only recommends.
#[allow(clippy::needless_pass_by_value)] // the shape that a watch takes
pub(in crate::controller) fn vpa(object: DynamicObject) -> Option<Vpa> {
    let spec = object.data.get("spec")?;
    let text = |pointer: &str| spec.pointer(pointer).and_then(|value| value.as_str());
    let acts = text("/updatePolicy/updateMode") != Some("Off");
    let target = |field: &str| text(&format!("/targetRef/{field}")).map(str::to_owned);
    let (target_kind, target_name) = (target("kind")?, target("name")?);
    acts.then_some(Vpa { target_kind, target_name })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // a test that panics has failed; json! makes values
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn defaults_of_a_limit_range_follow_from_max_and_min_as_the_api_server_has_them() {
        let limits = json!([
            {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "64Mi"}, "maxLimitRequestRatio": {"cpu": "2500m"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
            {"type": "Pod", "max": {"cpu": "4"}},
        ]);
        let object = json!({"metadata": {"namespace": "shop", "name": "range"}, "spec": {"limits": limits}});
        let items = limit_range(serde_json::from_value(object).unwrap()).unwrap();
        let cpu = |cpu| Resources { cpu: Some(Millicores(cpu)), memory: None };
        assert_eq!(items.len(), 2);
        assert_eq!((items[0].default, items[0].ratio.cpu), (cpu(2000), Some(2500)));
        let memory = Some(Bytes(64 << 20));
        assert_eq!(items[0].default_request, Resources { memory, ..cpu(2000) });
        assert_eq!((items[1].scope, items[1].max, items[1].default), (Scope::Pod, cpu(4000), Resources::default()));
    }

    fn read(spec: Value) -> Option<Quota> {
        let amounts = |cpu: &str| json!({"requests.cpu": cpu, "pods": "3", "limits.memory": "1Gi", "limits.cpu": "-1"});
        let object = json!({"metadata": {"name": "q"}, "spec": spec, "status": {"hard": amounts("2"), "used": amounts("1500m")}});
        quota(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_quota_keeps_what_we_change_and_is_left_out_where_it_counts_some_pods_only() {
        let rows = read(json!({})).unwrap().rows;
        let of = |key: &str| rows.iter().find(|row| row.key == key).map(|row| (row.hard, row.used));
        assert_eq!((of("requests.cpu"), of("limits.memory")), (Some((2000, 1500)), Some((1 << 30, 1 << 30))));
        assert_eq!(rows.len(), 2, "pods are not ours to change, and what cannot be read is left out");
        assert!(read(json!({"scopes": ["NotTerminating", "NotBestEffort"]})).is_some());
        assert!(read(json!({"scopes": ["Terminating"]})).is_none());
        assert!(read(json!({"scopes": ["BestEffort"]})).is_none());
        let high = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]});
        assert!(read(json!({"scopeSelector": high})).is_none());
    }

    #[test]
    fn a_vpa_that_only_recommends_holds_nothing() {
        let read = |policy: Value| {
            let spec = json!({"targetRef": {"kind": "Deployment", "name": "web"}, "updatePolicy": policy});
            let object = json!({"apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": {"name": "v"}, "spec": spec});
            vpa(serde_json::from_value(object).unwrap()).is_some()
        };
        assert!(!read(json!({"updateMode": "Off"})));
        assert!(read(json!({"updateMode": "Initial"})) && read(json!({"updateMode": "InPlaceOrRecreate"})));
        assert!(read(json!(null)), "Auto is the default");
    }
}
