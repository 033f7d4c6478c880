//! What a policy may say, and which workloads it covers.

use crate::cases::for_all;
use optipod::policy::{NamespaceFacts, OptimizationPolicy, Policy, Scope, WorkloadFacts, covers};
use optipod::workload::{WorkloadId, WorkloadKind};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

fn object(namespace: &str, spec: &Value) -> Value {
    json!({"apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy",
        "metadata": {"namespace": namespace, "name": "p"}, "spec": spec})
}

/// What is wrong with a policy, in words; nothing where it is valid.
fn complaints(spec: &Value) -> Vec<String> {
    match serde_json::from_value::<OptimizationPolicy>(object("shop", spec)) {
        Err(error) => vec![error.to_string()],
        Ok(policy) => {
            let errors = Policy::resolve(&policy).err().unwrap_or_default();
            errors.iter().map(ToString::to_string).collect()
        }
    }
}

/// A valid spec.
fn specs() -> impl Strategy<Value = Value> {
    let numbers = (1..=1000i32, 1.0..=5.0f64, 1..=1_000_000i32, 0..=100i32, 1..=100i32, 1..=1000i32);
    let words = (
        select(vec!["Auto", "Recommend", "Disabled"]),
        select(vec!["P50", "P90", "P99"]),
        select(vec!["5m", "24h", "90d", "3600s"]),
        select(vec!["1m", "30m", "7d"]),
        select(vec!["10s", "5m", "24h"]),
    );
    let bounds = (1..4000u64, 0..4000u64, 1..4000u64, 0..4000u64);
    (numbers, words, bounds).prop_map(|(numbers, words, (cpu, more_cpu, memory, more_memory))| {
        let (weight, factor, samples, change, decrease, updates) = numbers;
        let (mode, percentile, window, cooldown, interval) = words;
        json!({
            "mode": mode, "weight": weight, "reconciliationInterval": interval,
            "selector": {"namespaces": {"allow": ["shop"], "deny": ["bank"]}, "kinds": ["Deployment"]},
            "metricsConfig": {"rollingWindow": window, "percentile": percentile, "safetyFactor": factor, "minSamples": samples},
            "resourceBounds": {
                "cpu": {"min": format!("{cpu}m"), "max": format!("{}m", cpu + more_cpu)},
                "memory": {"min": format!("{memory}Mi"), "max": format!("{}Mi", memory + more_memory)},
            },
            "updateStrategy": {
                "minChangePercent": change, "maxDecreasePercent": decrease, "maxUpdatesPerCycle": updates,
                "cooldown": cooldown, "allowRecreate": true,
            },
        })
    })
}

/// A field, a value that is wrong there (null: it is left out), and what the message must name.
fn mistakes() -> impl Strategy<Value = (&'static str, Value, &'static str)> {
    select(vec![
        ("/mode", Value::Null, "mode"),
        ("/mode", json!("Sometimes"), "Auto"),
        ("/selector", Value::Null, "selector"),
        ("/selector/namespaces/allow", json!([]), "namespaces.allow"),
        ("/selector/namespaces/allow", json!(["Not_A_Name"]), "spec.selector.namespaces.allow[0]"),
        ("/selector/kinds", json!([]), "spec.selector.kinds"),
        ("/selector/kinds", json!(["Pod"]), "Deployment"),
        ("/selector/workloadSelector", json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}), "operator"),
        ("/resourceBounds", Value::Null, "resourceBounds"),
        ("/resourceBounds/cpu/min", Value::Null, "min"),
        ("/resourceBounds/cpu/min", json!("9000m"), "spec.resourceBounds.cpu.min"),
        ("/resourceBounds/memory/max", json!("0.5Mi"), "spec.resourceBounds.memory.max"),
        ("/resourceBounds/memory/min", json!("512MB"), "spec.resourceBounds.memory.min"),
        ("/metricsConfig/percentile", json!("P42"), "P50"),
        ("/metricsConfig/safetyFactor", json!(0.99), "spec.metricsConfig.safetyFactor"),
        ("/metricsConfig/rollingWindow", json!("1h30m"), "spec.metricsConfig.rollingWindow"),
        ("/metricsConfig/minSamples", json!(0), "spec.metricsConfig.minSamples"),
        ("/updateStrategy/cooldown", json!("59s"), "spec.updateStrategy.cooldown"),
        ("/updateStrategy/maxDecreasePercent", json!(101), "spec.updateStrategy.maxDecreasePercent"),
        ("/reconciliationInterval", json!("9s"), "spec.reconciliationInterval"),
        ("/weight", json!(1001), "spec.weight"),
    ])
}

/// Sets what a path names, or takes it out.
fn set(spec: &mut Value, path: &str, value: Value) {
    let (parent, field) = path.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(field)
    } else {
        parent.insert(field.to_owned(), value)
    };
}

// Feature: k8s-workload-rightsizing, Property 15: Policy validation
#[test]
fn property_15_valid_policies_are_taken_and_a_wrong_or_missing_field_is_named() {
    for_all((specs(), mistakes()), |(spec, (path, value, named))| {
        assert_eq!(complaints(&spec), [] as [String; 0], "{spec}");
        let mut wrong = spec;
        set(&mut wrong, path, value);
        let told = complaints(&wrong);
        assert_eq!(told.len(), 1, "{path} alone is wrong: {told:?}");
        assert!(told[0].contains(named), "{:?} does not name {named}", told[0]);
        assert!(told[0].len() > named.len() + 10, "{:?} explains nothing", told[0]);
    });
}

const NAMESPACES: [&str; 5] = ["shop", "bank", "prod", "kube-system", "optipod-system"];

type Labels = BTreeMap<String, String>;

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(vec!["a".to_owned(), "b".to_owned()]), select(vec!["1".to_owned(), "2".to_owned()]), 0..3)
}

/// One tenant's view: the policy's home and spec, the operator's settings, one workload of each namespace.
#[derive(Debug)]
struct Tenancy {
    home: &'static str,
    any: bool,
    operator_denies: Vec<&'static str>,
    allow: Vec<&'static str>,
    deny: Vec<&'static str>,
    namespace_selector: Option<Labels>,
    workload_selector: Labels,
    of_namespaces: Vec<Labels>,
    of_workloads: Vec<Labels>,
}

fn tenancies() -> impl Strategy<Value = Tenancy> {
    let some = || subsequence(NAMESPACES.to_vec(), 0..4);
    let selectors = (option::of(labels()), labels());
    let operator = (select(NAMESPACES.to_vec()), any::<bool>(), subsequence(NAMESPACES.to_vec(), 0..2));
    let objects = (vec(labels(), NAMESPACES.len()), vec(labels(), NAMESPACES.len()));
    (operator, some(), some(), selectors, objects).prop_map(
        |((home, any, operator_denies), allow, deny, (namespace_selector, workload_selector), objects)| Tenancy {
            home,
            any,
            operator_denies,
            allow,
            deny,
            namespace_selector,
            workload_selector,
            of_namespaces: objects.0,
            of_workloads: objects.1,
        },
    )
}

impl Tenancy {
    fn policy(&self) -> Policy {
        let matching = |labels: &Labels| json!({"matchLabels": labels});
        let mut selector = json!({"workloadSelector": matching(&self.workload_selector),
            "namespaces": {"allow": self.allow, "deny": self.deny}});
        if let Some(labels) = &self.namespace_selector {
            selector["namespaceSelector"] = matching(labels);
        }
        let spec = json!({"mode": "Auto", "selector": selector, "resourceBounds": {
            "cpu": {"min": "1m", "max": "1"}, "memory": {"min": "1Mi", "max": "1Gi"}}});
        Policy::resolve(&serde_json::from_value(object(self.home, &spec)).unwrap()).unwrap()
    }

    /// Every condition by itself; all must hold, and a denial is one that does not.
    fn expected(&self, index: usize) -> bool {
        let name = NAMESPACES[index];
        let has = |labels: &Labels, wanted: &Labels| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        let is_reserved = ["kube-system", "optipod-system"].contains(&name);
        let conditions = [
            !self.operator_denies.contains(&name),
            !self.deny.contains(&name),
            self.allow.contains(&name) || (self.allow.is_empty() && !is_reserved),
            self.any || self.home == "optipod-system" || self.home == name,
            self.namespace_selector.as_ref().is_none_or(|wanted| has(&self.of_namespaces[index], wanted)),
            has(&self.of_workloads[index], &self.workload_selector),
        ];
        !conditions.contains(&false)
    }
}

// Feature: k8s-workload-rightsizing, Property 27: Multi-tenant scoping
#[test]
fn property_27_a_policy_covers_what_all_selectors_and_lists_allow_and_nothing_that_one_denies() {
    for_all(tenancies(), |tenancy| {
        let policy = tenancy.policy();
        let scope = Scope {
            operator_namespace: "optipod-system".to_owned(),
            any: tenancy.any,
            deny_namespaces: tenancy.operator_denies.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
        };
        for (index, name) in NAMESPACES.iter().enumerate() {
            let namespace = NamespaceFacts { name: (*name).to_owned(), labels: tenancy.of_namespaces[index].clone() };
            let id =
                WorkloadId { namespace: namespace.name.clone(), kind: WorkloadKind::Deployment, name: "web".into() };
            let workload = WorkloadFacts { id, labels: tenancy.of_workloads[index].clone() };
            let covered = covers(&policy, &scope, &namespace, &workload);
            assert_eq!(covered.is_ok(), tenancy.expected(index), "{name}: {covered:?}");
        }
    });
}
