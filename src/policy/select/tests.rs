//! Selection against an oracle that counts matches over a flat list of requirements, instead of answering early.

use super::*;
use crate::policy::types::{OptimizationPolicy, TargetKind, WorkloadSelector};
use jiff::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;

const NAMESPACES: [&str; 6] = ["team-a", "team-b", "prod", "kube-system", "kube-node-lease", "optipod-system"];

fn policy(namespace: &str, selector: WorkloadSelector) -> Policy {
    let object: OptimizationPolicy = serde_json::from_value(json!({
        "apiVersion": "optipod.io/v1alpha1",
        "kind": "OptimizationPolicy",
        "metadata": {"name": "policy", "namespace": namespace},
        "spec": {
            "mode": "Recommend",
            "selector": {"workloadSelector": {}},
            "resourceBounds": {"cpu": {"min": "100m", "max": "4"}, "memory": {"min": "128Mi", "max": "8Gi"}},
        },
    }))
    .unwrap();
    Policy { selector, ..Policy::resolve(&object).unwrap() }
}

fn everything() -> WorkloadSelector {
    let kinds = vec![TargetKind::Deployment, TargetKind::StatefulSet, TargetKind::DaemonSet];
    WorkloadSelector { kinds, ..WorkloadSelector::default() }
}

fn listed(allow: &[&str], deny: &[&str]) -> WorkloadSelector {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    WorkloadSelector { namespaces: Some(Namespaces { allow: names(allow), deny: names(deny) }), ..everything() }
}

fn scope() -> Scope {
    Scope { operator_namespace: "optipod-system".into(), any: false, deny_namespaces: BTreeSet::new() }
}

fn namespace(name: &str) -> NamespaceFacts {
    NamespaceFacts { name: name.into(), labels: BTreeMap::new() }
}

fn workload(namespace: &str) -> WorkloadFacts {
    let id = WorkloadId { namespace: namespace.into(), kind: WorkloadKind::Deployment, name: "web".into() };
    WorkloadFacts { id, labels: BTreeMap::new() }
}

fn answer(policy: &Policy, scope: &Scope, in_namespace: &str) -> Result<(), OutOfScope> {
    covers(policy, scope, &namespace(in_namespace), &workload(in_namespace))
}

// The oracle.

/// How many of a selector's requirements hold, and how many there are.
fn count(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> (usize, usize) {
    let mut requirements: Vec<(String, &str, Vec<String>)> = Vec::new();
    if let Some(selector) = selector {
        for (key, value) in selector.match_labels.clone().unwrap_or_default() {
            requirements.push((key, "In", vec![value]));
        }
        for expression in selector.match_expressions.as_deref().unwrap_or(&[]) {
            let values = expression.values.clone().unwrap_or_default();
            requirements.push((expression.key.clone(), &expression.operator, values));
        }
    }
    let mut held = 0;
    for (key, operator, values) in &requirements {
        let mut present = 0;
        let mut equal = 0;
        for (label, value) in labels {
            if label == key {
                present += 1;
                equal += values.iter().filter(|candidate| *candidate == value).count().min(1);
            }
        }
        held += match *operator {
            "In" => equal,
            "NotIn" => 1 - equal,
            "Exists" => present,
            "DoesNotExist" => 1 - present,
            other => panic!("{other}"),
        };
    }
    (held, requirements.len())
}

fn oracle(policy: &Policy, scope: &Scope, namespace: &NamespaceFacts, workload: &WorkloadFacts) -> bool {
    let mut objections = 0;
    let mut object = |yes: bool| objections += usize::from(yes);
    let lists = policy.selector.namespaces.clone().unwrap_or_default();
    let mut special = vec!["kube-system", "kube-public", "kube-node-lease"];
    special.push(&scope.operator_namespace);
    let home_is_operators = policy.id.namespace == scope.operator_namespace;

    object(scope.deny_namespaces.iter().any(|name| *name == namespace.name));
    object(lists.deny.iter().filter(|name| **name == namespace.name).count() > 0);
    object(!lists.allow.is_empty() && lists.allow.iter().all(|name| *name != namespace.name));
    object(special.contains(&namespace.name.as_str()) && lists.allow.iter().all(|name| *name != namespace.name));
    object(!(scope.any || home_is_operators || policy.id.namespace == namespace.name));
    object(!policy.selector.kinds.iter().any(|kind| format!("{kind:?}") == workload.id.kind.as_str()));
    let (held, asked) = count(policy.selector.namespace_selector.as_ref(), &namespace.labels);
    object(held < asked);
    let (held, asked) = count(policy.selector.workload_selector.as_ref(), &workload.labels);
    object(held < asked);
    objections == 0
}

// Random clusters. Few names, keys and values, so that many match.

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(select(vec!["a", "b", "c"]), select(vec!["x", "y", ""]), 0..=3)
        .prop_map(|labels| labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
}

fn label_selectors() -> impl Strategy<Value = LabelSelector> {
    let values = subsequence(vec!["x", "y", "", "z"], 1..=3);
    let expression = (select(vec!["a", "b", "d"]), 0..4usize, values).prop_map(|(key, operator, values)| {
        let operator = ["In", "NotIn", "Exists", "DoesNotExist"][operator];
        let values = operator.ends_with("In").then(|| values.into_iter().map(str::to_owned).collect());
        LabelSelectorRequirement { key: key.into(), operator: operator.into(), values }
    });
    let few = btree_map(select(vec!["a", "b"]), select(vec!["x", "y"]), 0..=1)
        .prop_map(|labels| labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect());
    (option::of(few), option::of(vec(expression, 0..=2)))
        .prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions })
}

fn some_namespaces(most: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(NAMESPACES.to_vec(), 0..=most).prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn kinds() -> impl Strategy<Value = Vec<TargetKind>> {
    subsequence(everything().kinds, 1..=3)
}

fn namespaces() -> impl Strategy<Value = NamespaceFacts> {
    (select(NAMESPACES.to_vec()), labels()).prop_map(|(name, labels)| NamespaceFacts { name: name.into(), labels })
}

fn workloads() -> impl Strategy<Value = (WorkloadKind, BTreeMap<String, String>)> {
    (select(WorkloadKind::ALL.to_vec()), labels())
}

fn scopes() -> impl Strategy<Value = Scope> {
    (any::<bool>(), some_namespaces(1)).prop_map(|(any, deny)| Scope {
        any,
        deny_namespaces: deny.into_iter().collect(),
        ..scope()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // Feature: k8s-workload-rightsizing, Property 16: Workload discovery
    #[test]
    fn a_policy_covers_exactly_the_workloads_whose_kind_and_labels_match(
        selectors in (option::of(label_selectors()), option::of(label_selectors()), kinds()),
        namespace_labels in labels(),
        cluster in vec(workloads(), 1..20),
    ) {
        let (namespace_selector, workload_selector, kinds) = selectors;
        let selector = WorkloadSelector { namespace_selector, workload_selector, kinds, namespaces: None };
        let policy = policy("optipod-system", selector);
        let namespace = NamespaceFacts { name: "prod".into(), labels: namespace_labels };
        let facts = cluster.into_iter().enumerate().map(|(index, (kind, labels))| WorkloadFacts {
            id: WorkloadId { namespace: "prod".into(), kind, name: format!("w{index}") },
            labels,
        });
        for workload in facts {
            let covered = covers(&policy, &scope(), &namespace, &workload).is_ok();
            prop_assert_eq!(covered, oracle(&policy, &scope(), &namespace, &workload), "{:?}", workload);
        }
    }

    // Feature: k8s-workload-rightsizing, Property 27: Multi-tenant scoping
    #[test]
    fn tenants_are_kept_apart_and_denials_win(
        home in select(NAMESPACES.to_vec()),
        lists in option::of((some_namespaces(4), some_namespaces(2))),
        namespace_selector in option::of(label_selectors()),
        scope in scopes(),
        cluster in vec(namespaces(), 1..10),
    ) {
        let namespaces = lists.map(|(allow, deny)| Namespaces { allow, deny });
        let policy = policy(home, WorkloadSelector { namespace_selector, namespaces, ..everything() });
        for namespace in cluster {
            let workload = workload(&namespace.name);
            let covered = covers(&policy, &scope, &namespace, &workload).is_ok();
            prop_assert_eq!(covered, oracle(&policy, &scope, &namespace, &workload), "{:?}", namespace);
            prop_assert_eq!(covers_namespace(&policy, &scope, &namespace).is_ok(), covered);
        }
    }

    #[test]
    fn the_winner_does_not_depend_on_the_order_and_nobody_precedes_it(
        ranks in vec((1..=3, 0i64..3, select(vec!["a", "b"]), select(vec!["p", "q"])), 1..8).prop_shuffle(),
    ) {
        let policies: Vec<Policy> = ranks
            .iter()
            .map(|(weight, created, namespace, name)| {
                let mut policy = policy(namespace, everything());
                policy.id.name = (*name).to_owned();
                Policy { weight: *weight, created: Timestamp::from_second(*created).unwrap(), ..policy }
            })
            .collect();
        let won = winner(&policies).unwrap();
        // The naive order: by the least important key first, each sort stable.
        let mut sorted: Vec<&Policy> = policies.iter().collect();
        sorted.sort_by_key(|policy| policy.id.name.clone());
        sorted.sort_by_key(|policy| policy.id.namespace.clone());
        sorted.sort_by_key(|policy| policy.created);
        sorted.sort_by_key(|policy| -policy.weight);
        prop_assert_eq!(won, sorted[0]);
        prop_assert_eq!(Some(won), winner(policies.iter().rev()));
    }
}

#[test]
fn not_in_matches_where_the_label_is_absent() {
    let selector = |operator: &str, values: &[&str]| LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "tier".into(),
            operator: operator.into(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }]),
    };
    let absent = BTreeMap::new();
    let web = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
    for (operator, values, with, without) in [
        ("In", &["web", "api"][..], true, false),
        ("In", &["api"], false, false),
        ("NotIn", &["web"], false, true),
        ("NotIn", &["api"], true, true),
        ("Exists", &[], true, false),
        ("DoesNotExist", &[], false, true),
        ("Equals", &["web"], false, false),
    ] {
        let selector = selector(operator, values);
        assert_eq!(matches(&selector, &web), with, "{operator} {values:?} on tier=web");
        assert_eq!(matches(&selector, &absent), without, "{operator} {values:?} on no labels");
    }
    assert!(matches(&LabelSelector::default(), &absent), "an empty selector matches everything");
}

#[test]
fn a_denied_namespace_stays_denied_whatever_allows_it() {
    let both = policy("optipod-system", listed(&["prod"], &["prod"]));
    assert_eq!(answer(&both, &scope(), "prod"), Err(OutOfScope::DeniedByPolicy("prod".into())));
    let allowed = policy("optipod-system", listed(&["prod"], &[]));
    let denying = Scope { deny_namespaces: BTreeSet::from(["prod".to_owned()]), ..scope() };
    assert_eq!(answer(&allowed, &denying, "prod"), Err(OutOfScope::DeniedByOperator("prod".into())));
    assert_eq!(answer(&allowed, &scope(), "prod"), Ok(()));
    assert_eq!(answer(&allowed, &scope(), "team-a"), Err(OutOfScope::NotAllowed("team-a".into())));
}

#[test]
fn system_namespaces_and_the_operators_own_are_covered_only_by_name() {
    for name in ["kube-system", "kube-public", "kube-node-lease", "optipod-system"] {
        let all = policy("optipod-system", everything());
        assert_eq!(answer(&all, &scope(), name), Err(OutOfScope::Reserved(name.into())));
        assert_eq!(answer(&policy("optipod-system", listed(&[name], &[])), &scope(), name), Ok(()));
        let own = policy(name, everything());
        assert_eq!(answer(&own, &scope(), name), Err(OutOfScope::Reserved(name.into())), "its own policy");
    }
}

#[test]
fn a_tenants_policy_covers_its_own_namespace_unless_the_scope_is_any() {
    let tenant = policy("team-a", listed(&["team-a", "team-b"], &[]));
    assert_eq!(answer(&tenant, &scope(), "team-a"), Ok(()));
    let refused = OutOfScope::PolicyScope { policy: "team-a".into(), workload: "team-b".into() };
    assert_eq!(answer(&tenant, &scope(), "team-b"), Err(refused));
    assert_eq!(answer(&tenant, &Scope { any: true, ..scope() }, "team-b"), Ok(()));
    let operators = policy("optipod-system", everything());
    assert_eq!(answer(&operators, &scope(), "team-b"), Ok(()));
}

#[test]
fn each_refusal_says_why() {
    let labels = |key: &str| LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), "x".to_owned())])),
        match_expressions: None,
    };
    let by_namespace = WorkloadSelector { namespace_selector: Some(labels("a")), ..everything() };
    let by_workload = WorkloadSelector { workload_selector: Some(labels("a")), ..everything() };
    let answer = |selector| answer(&policy("optipod-system", selector), &scope(), "prod");
    assert_eq!(answer(by_namespace), Err(OutOfScope::NamespaceLabels("prod".into())));
    assert_eq!(answer(by_workload), Err(OutOfScope::WorkloadLabels));
    let only_sets = WorkloadSelector { kinds: vec![TargetKind::StatefulSet], ..everything() };
    assert_eq!(answer(only_sets), Err(OutOfScope::Kind(WorkloadKind::Deployment)));
    let elsewhere = covers(&policy("optipod-system", everything()), &scope(), &namespace("prod"), &workload("team-a"));
    assert_eq!(elsewhere, Err(OutOfScope::OtherNamespace("prod".into())));
}

#[test]
fn there_is_no_winner_among_none() {
    assert_eq!(winner([]), None);
}
